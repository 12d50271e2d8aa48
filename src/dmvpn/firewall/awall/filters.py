"""filter and policy: rules that let through, drop or reject; and destination NAT where a filter asks for it."""

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network, IPv6Network, ip_network

from dmvpn.firewall.awall.definitions import WITH_PORTS
from dmvpn.firewall.awall.document import Node
from dmvpn.firewall.awall.limits import Limits
from dmvpn.firewall.awall.log_words import LogWords
from dmvpn.firewall.awall.matches import Matches
from dmvpn.firewall.awall.members import Members
from dmvpn.firewall.policy import Action, Limit, Match, Nat, PortRange, Rule, Service, Traffic, Translation

ACTIONS = tuple(action.value for action in Action)
OLD_ACTIONS = {"logdrop": "drop", "logreject": "reject"}
ALL_IPV6 = IPv6Network("::/0")


class Filters:
    """Reads filters and policies. `nats` are the translations that filters asked for, in order."""

    def __init__(self, matches: Matches, limits: Limits, logs: LogWords) -> None:
        self.matches = matches
        self.limits = limits
        self.logs = logs
        self.nats: list[Nat] = []

    def filters(self, node: Node) -> tuple[Rule, ...]:
        rule = Members(node, "filter", self.matches.report)
        return self._rules(rule, self._action(rule, Action.ACCEPT))

    def policies(self, node: Node) -> tuple[Rule, ...]:
        rule = Members(node, "policy", self.matches.report)
        action = self._action(rule, None)
        if action is None and rule.sound:
            rule.wrong(rule.at, "the policy has no action", 'write "action": "accept", "drop" or "reject"')
        return self._rules(rule, action)

    def _action(self, rule: Members, default: Action | None) -> Action | None:
        node = rule.node("action")
        if node is None:
            return default
        said = rule.text("action")
        if said is None:
            return None
        if said in OLD_ACTIONS:
            rule.report.warn(
                node.at, f"{said} is an old word: what is dropped is logged", f'write "{OLD_ACTIONS[said]}"'
            )
            return Action(OLD_ACTIONS[said])
        refusal = refused_action(said)
        if refusal is not None:
            rule.wrong(node.at, *refusal)
            return None
        known = rule.text("action", ACTIONS)
        return None if known is None else Action(known)

    def _rules(self, rule: Members, action: Action | None) -> tuple[Rule, ...]:
        matches = self.matches.of(rule)
        limit = self.limits.of(rule)
        if action is None or not rule.sound:
            self._translation(rule)
            return ()
        log = self.logs.of(rule, drops=action in (Action.DROP, Action.REJECT))
        self._agree(rule, action, limit, matches)
        if not rule.sound:
            return ()
        origin = rule.at.origin
        if "dnat" in rule:
            matches = tuple(one for match in matches for one in self._redirected(rule, match))
        return tuple(Rule(match, action, origin, limit, log) for match in matches if rule.sound)

    def _agree(self, rule: Members, action: Action, limit: Limit | None, matches: tuple[Match, ...]) -> None:
        if limit is not None and action in (Action.DROP, Action.REJECT):
            rule.wrong(rule.at, f"a limit is for what is let through, and the action is {action}", "remove one of them")
        if limit is not None and len(matches) > 1:
            rule.wrong(rule.at, "a limit over several ipsets is not done", "write a rule for each, with a limit's name")
        if "dnat" in rule and action is not Action.ACCEPT:
            rule.wrong(rule.place("dnat"), f"dnat is for what is let through, and the action is {action}", "remove it")
        if "dnat" in rule and "ipset" in rule:
            rule.wrong(rule.place("dnat"), "awall has no dnat together with an ipset", "write the addresses as src")

    def _translation(self, rule: Members) -> Translation | None:
        node = rule.node("dnat")
        if node is None:
            return None
        if isinstance(node.value, dict):
            target = Members(node, "dnat target", rule.report)
        else:
            target = Members(Node(node.at, {"addr": rule.members["dnat"]}), "dnat target", rule.report)
        text = target.text("addr")
        port = target.node("port")
        ports = None if port is None else target.port_of("port", port)
        address = None if text is None else target.address_of("addr", Node(target.place("addr"), text), text)
        if text is None and target.sound:
            target.wrong(node.at, "dnat has no addr", "write the address of the host inside")
        if address is not None and not isinstance(address, IPv4Address):
            target.wrong(target.place("addr"), "dnat of a filter is for IPv4", "write a rule under dnat, with to-addr")
        rule.sound = rule.sound and target.sound
        return Translation(address, address, ports) if target.sound else None

    def _redirected(self, rule: Members, match: Match) -> tuple[Match, ...]:
        """The matches behind the translation, which this notes: IPv4 goes to the host inside, IPv6 where it says."""
        to = self._translation(rule)
        if to is None or to.first is None:
            return ()
        ports = to.ports
        services = match.services
        if ports is not None:
            services = self._at_ports(rule, match, ports)
            if services is None:
                return ()
        self.nats.append(Nat(replace(match, out_zones=None, families=(4,)), (to,), rule.at.origin))
        inside = ip_network(to.first)
        written = match.destination
        others = (ALL_IPV6,) if written is None else tuple(one for one in written if not isinstance(one, IPv4Network))
        behind = replace(match, destination=(inside,), services=services, families=(4,))
        return (behind, replace(match, destination=others, families=(6,)))

    def _at_ports(self, rule: Members, match: Match, ports: PortRange) -> tuple[str, ...] | None:
        """The services with the ports that the host inside has them at."""
        traffic = [
            one
            for name in match.services or ()
            for one in self.matches.services[name].traffic
            if one.family in (None, 4)
        ]
        if not traffic or any(one.protocol not in WITH_PORTS for one in traffic):
            rule.wrong(
                rule.place("dnat"), "only tcp and udp have ports to translate", "name services of tcp or udp only"
            )
            return None
        name = f"{'+'.join(match.services or ())[:40]}-at-{ports.first}-{ports.last}"
        kinds = tuple(dict.fromkeys(Traffic(one.protocol, (ports,), family=4, helper=one.helper) for one in traffic))
        self.matches.services[name] = Service(name, kinds)
        return (name,)


def refused_action(said: str) -> tuple[str, str] | None:
    """What awall can do with a packet and we do not: what is so, and what to write instead."""
    if said == "tarpit":
        return "tarpit is not done: nftables has none", 'write "drop"'
    raw = raw_target(said)
    return None if raw is None else (raw, 'write "accept", "drop", "reject" or "pass"')


def raw_target(said: str) -> str | None:
    """What an action says that awall hands on to iptables as it is."""
    if said.startswith("custom:"):
        return "chains of raw rules are not read"
    return f"raw targets of iptables ({said[:30]}) are not read" if said[:1].isupper() else None
