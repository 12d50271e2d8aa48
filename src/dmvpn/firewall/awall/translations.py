"""snat, dnat, mark, route-track and clamp-mss."""

from dataclasses import replace

from dmvpn.firewall.awall.definitions import FAMILIES, WITH_PORTS
from dmvpn.firewall.awall.document import Node
from dmvpn.firewall.awall.filters import raw_target
from dmvpn.firewall.awall.matches import Matches
from dmvpn.firewall.awall.members import Members
from dmvpn.firewall.policy import FIREWALL, MARKS, Address, Clamp, MarkRule, Match, Nat, Translation

SMALLEST_MSS, LARGEST_MSS = 88, 65_495
IPV4_ONLY = (4,)


def nats(node: Node, section: str, matches: Matches) -> tuple[Nat, ...]:
    """`section` is snat or dnat. IPv4 only where neither to-addr nor family says otherwise, as awall has it."""
    rule = Members(node, section, matches.report)
    action = _action(rule)
    found = matches.of(rule)
    targets = _targets(rule)
    families = tuple(FAMILIES[text] for _, text in rule.texts("family", FAMILIES) or ())
    port_node = rule.node("to-port")
    ports = None if port_node is None else rule.port_of("to-port", port_node)
    _sides(rule, section, found)
    if ports is not None and rule.sound:
        _with_ports(rule, found, matches)
    if not rule.sound:
        return ()
    families = families or tuple(targets) or IPV4_ONLY
    lacking = [family for family in families if targets and family not in targets]
    if lacking:
        rule.wrong(rule.place("family"), f"to-addr has no address of IPv{lacking[0]}", "add one, or remove the family")
        return ()
    to = tuple(Translation(*targets[family], ports) for family in families) if targets else (Translation(ports=ports),)
    origin = rule.at.origin
    return tuple(
        Nat(
            replace(match, families=tuple(family for family in match.families if family in families)),
            None if action == "exclude" else to,
            origin,
        )
        for match in found
    )


def _action(rule: Members) -> str:
    said = rule.text("action") or "include"
    raw = raw_target(said)
    if raw is not None:
        rule.wrong(rule.place("action"), raw, 'write "include" or "exclude"')
    elif said == "accept":
        rule.report.warn(rule.place("action"), "accept is an old word for exclude", 'write "exclude"')
        return "exclude"
    else:
        rule.text("action", ("include", "exclude"))
    return said


def _targets(rule: Members) -> dict[int, tuple[Address, Address]]:
    """First and last address by family."""
    found: dict[int, tuple[Address, Address]] = {}
    for node, text in rule.texts("to-addr") or ():
        first_text, dash, last_text = text.partition("-")
        # A name with a dash is no range, and is told as the name that it is.
        ranged = dash and all(":" in part or part.replace(".", "").isdigit() for part in (first_text, last_text))
        first = rule.address_of("to-addr", node, first_text if ranged else text)
        last = rule.address_of("to-addr", node, last_text) if ranged else first
        if first is None or last is None:
            continue
        if first.version != last.version or int(first) > int(last):
            rule.wrong(node.at, f"to-addr: {text[:90]} is no range", "write the lower address first, of one family")
        elif first.version in found:
            rule.wrong(node.at, f"to-addr has a second address of IPv{first.version}", "write one, or a range")
        else:
            found[first.version] = (first, last)
    return found


def _sides(rule: Members, section: str, found: tuple[Match, ...]) -> None:
    """Where NAT has no device to look at: awall refuses the same."""
    for match in found:
        if section == "snat" and match.in_zones is not None:
            fix = 'write "src" with the addresses behind it'
            rule.wrong(rule.place("in"), "source NAT is done where packets leave: the way in is not known there", fix)
        if section == "dnat" and match.out_zones is not None and set(match.out_zones) - {FIREWALL}:
            fix = 'write "dest" with the addresses that are meant'
            rule.wrong(rule.place("out"), "destination NAT is done before the way out is known", fix)
        if section == "snat" and match.out_zones is not None and FIREWALL in match.out_zones:
            rule.wrong(
                rule.place("out"), "source NAT of what comes to the router itself is not done", "name other zones"
            )


def _with_ports(rule: Members, found: tuple[Match, ...], matches: Matches) -> None:
    services = found[0].services if found else None
    traffic = [one for name in services or () for one in matches.services[name].traffic]
    if not traffic or any(one.protocol not in WITH_PORTS for one in traffic):
        rule.wrong(
            rule.place("to-port"), "only tcp and udp have ports to translate", "name services of tcp or udp only"
        )


def marks(node: Node, section: str, matches: Matches) -> tuple[MarkRule, ...]:
    """`section` is mark or route-track."""
    rule = Members(node, section, matches.report)
    found = matches.of(rule)
    mark = rule.number("mark", 1, MARKS)
    if mark is None and rule.sound:
        rule.wrong(rule.at, f"the rule of {section} has no mark", f"write one from 1 to {MARKS}")
    if not rule.sound or mark is None:
        return ()
    return tuple(MarkRule(match, mark, rule.at.origin, section == "route-track") for match in found)


def clamps(node: Node, matches: Matches) -> tuple[Clamp, ...]:
    rule = Members(node, "clamp-mss", matches.report)
    found = matches.of(rule)
    mss = rule.number("mss", SMALLEST_MSS, LARGEST_MSS)
    for side in ("in", "out"):
        for node, name in rule.texts(side) or ():
            if name == FIREWALL:
                rule.wrong(node.at, "the router's own connections are clamped on their way out anyway", "remove it")
    return tuple(Clamp(match, mss, rule.at.origin) for match in found) if rule.sound else ()
