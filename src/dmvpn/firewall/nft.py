"""A ruleset as lines of an nftables table of family inet. nft(8), 1.0.6 and newer.

One line for each entry, with its origin as the comment. Several devices, prefixes, ports or types are a set of the
kernel's, so a rule over many zones is still one lookup.
"""

from collections.abc import Iterator
from ipaddress import IPv4Network, IPv6Network
from typing import assert_never

from dmvpn.firewall.limits import SOURCES, is_for_each, rate
from dmvpn.firewall.policy import (
    MARK_MASK,
    AddressSet,
    InSet,
    Limit,
    Log,
    PortRange,
    Side,
    Traffic,
    Translation,
)
from dmvpn.firewall.prefixes import of_family
from dmvpn.firewall.ruleset import (
    Clamped,
    DestinationTo,
    Entry,
    Hook,
    Logged,
    Marked,
    Over,
    Packets,
    Ruleset,
    SourceTo,
    Verdict,
)

KEPT_BITS = 0xFFFFFFFF ^ MARK_MASK
COMMENT_OCTETS = 120  # the kernel's user data is 128
# After the guards of the same hook, so that these count what they stop; before the hairpin log.
BASES = {
    Hook.FILTER_IN: ("filter", "input", "filter + 5", "drop"),
    Hook.FILTER_THROUGH: ("filter", "forward", "filter + 5", "drop"),
    Hook.FILTER_OUT: ("filter", "output", "filter + 5", "drop"),
    Hook.MARK_BEFORE: ("filter", "prerouting", "mangle", "accept"),
    Hook.MARK_IN: ("filter", "input", "mangle", "accept"),
    Hook.MARK_THROUGH: ("filter", "forward", "mangle", "accept"),
    Hook.MARK_OUT: ("route", "output", "mangle", "accept"),
    Hook.MARK_AFTER: ("filter", "postrouting", "mangle", "accept"),
    Hook.CLAMP_THROUGH: ("filter", "forward", "mangle + 1", "accept"),
    Hook.CLAMP_AFTER: ("filter", "postrouting", "mangle + 1", "accept"),
    Hook.NAT_BEFORE: ("nat", "prerouting", "dstnat", "accept"),
    Hook.NAT_OUT: ("nat", "output", "-100", "accept"),
    Hook.NAT_AFTER: ("nat", "postrouting", "srcnat", "accept"),
}
FAMILY = {4: "ip", 6: "ip6"}
NFPROTO = {4: "ipv4", 6: "ipv6"}
NAMED_PROTOCOLS = {6: "tcp", 17: "udp", 33: "dccp", 132: "sctp", 136: "udplite"}


def lines(ruleset: Ruleset) -> list[str]:
    """Counters, sets and chains, each line indented for the table it stands in."""
    found = [f"\tcounter {name} {{ }}" for name in ruleset.counters]
    for one in ruleset.sets:
        found += _address_set(one)
    for over in ruleset.limits:
        found += _limit_objects(over)
    for hook, (kind, place, priority, verdict) in BASES.items():
        entries = ruleset.chains.get(hook, ())
        if entries:
            found.append(f"\tchain policy_{hook.value} {{")
            found.append(f"\t\ttype {kind} hook {place} priority {priority}; policy {verdict};")
            found += [line for entry in entries for line in _entry(entry)]
            found.append("\t}")
    return found


def _address_set(one: AddressSet) -> Iterator[str]:
    for family in (4, 6):
        prefixes = of_family(one.prefixes, family)
        yield f"\tset {set_name(one.name, family)} {{"
        yield f"\t\ttype {'ipv4_addr' if family == 4 else 'ipv6_addr'}"
        yield "\t\tflags interval"
        yield "\t\tauto-merge"
        if prefixes:
            yield f"\t\telements = {{ {', '.join(map(str, prefixes))} }}"
        yield "\t}"


def set_name(name: str, family: int) -> str:
    """A policy's set in the table."""
    return f"set.{name}.{FAMILY[family]}"


def _limit_objects(over: Over) -> Iterator[str]:
    limit = over.limit
    if over.log is not None:
        # A chain, since a log that is limited must not limit the drop.
        yield from (f"\tchain over.{over.name} {{", f"\t\t{_log(over.log)}", "\t\tdrop", "\t}")
    if not is_for_each(limit):
        yield f"\tlimit {over.name} {{ {_over(limit)} }}"
        return
    for family in (4, 6):
        kind = "ipv4_addr" if family == 4 else "ipv6_addr"
        keys = [kind for _, length in _lengths(limit, family) if length is not None]
        if keys:
            yield f"\tset {over.name}.{FAMILY[family]} {{"
            yield f"\t\ttype {' . '.join(keys)}"
            yield f"\t\tsize {SOURCES}"
            yield "\t\tflags dynamic,timeout"
            yield f"\t\ttimeout {limit.interval_s}s"
            yield "\t}"


def _lengths(limit: Limit, family: int) -> tuple[tuple[str, int | None], ...]:
    if family == 4:
        return (("saddr", limit.source_v4), ("daddr", limit.destination_v4))
    return (("saddr", limit.source_v6), ("daddr", limit.destination_v6))


def _over(limit: Limit) -> str:
    found = rate(limit)
    return f"rate over {found.packets}/{found.unit} burst {found.burst} packets"


def _entry(entry: Entry) -> Iterator[str]:
    comment = f' comment "{_comment(entry.origin)}"'
    match = " ".join(_matches(entry.packets))
    match = f"{match} " if match else ""
    counter = f"counter name {entry.counter} " if entry.counter is not None else ""
    for effect in _effects(entry, counter):
        yield f"\t\t{match}{effect}{comment}"


def _comment(origin: str) -> str:
    plain = "".join(one if " " <= one <= "~" and one not in '"\\' else "?" for one in origin)
    return plain[:COMMENT_OCTETS]


def _effects(entry: Entry, counter: str) -> Iterator[str]:
    match entry.effect:
        case Verdict():
            yield f"{counter}{entry.effect.value}"
        case Over():
            verdict = "drop" if entry.effect.log is None else f"jump over.{entry.effect.name}"
            yield from (f"{one} {counter}{verdict}" for one in _excess(entry.effect, entry.packets.family))
        case Logged(log):
            yield _log(log)
        case Marked(mark, tracks):
            on_connection = f" ct mark set ct mark & {KEPT_BITS:#010x} | {mark:#x}" if tracks else ""
            yield f"meta mark set meta mark & {KEPT_BITS:#010x} | {mark:#x}{on_connection}"
        case SourceTo(to):
            yield _translate("snat", "masquerade", to)
        case DestinationTo(to):
            yield _translate("dnat", "redirect", to)
        case Clamped(mss_octets):
            size = "rt mtu" if mss_octets is None else str(mss_octets)
            yield f"tcp flags & (syn | rst) == syn tcp option maxseg size set {size}"
        case _:
            assert_never(entry.effect)


def _excess(over: Over, family: int | None) -> Iterator[str]:
    """What is over, for each family that is concerned."""
    if not is_for_each(over.limit):
        yield f"limit name {over.name}"
        return
    for one in (4, 6) if family is None else (family,):
        keys = [
            f"{FAMILY[one]} {side}{_mask(one, length)}"
            for side, length in _lengths(over.limit, one)
            if length is not None
        ]
        if keys:
            yield f"update @{over.name}.{FAMILY[one]} {{ {' . '.join(keys)} limit {_over(over.limit)} }}"


def _mask(family: int, length: int) -> str:
    bits = 32 if family == 4 else 128
    if length == bits:
        return ""
    mask = IPv4Network((0, length)).netmask if family == 4 else IPv6Network((0, length)).netmask
    return f" & {mask}"


def _log(log: Log) -> str:
    limit = "" if log.rate_per_s is None else f"limit rate {log.rate_per_s}/second "
    prefix = f'prefix "{_comment(log.prefix)}" ' if log.prefix else ""
    if log.group is None:
        return f"{limit}log {prefix}level {log.level}"
    snaplen = "" if log.snaplen_octets is None else f" snaplen {log.snaplen_octets}"
    return f"{limit}log {prefix}group {log.group}{snaplen}"


def _translate(verb: str, own: str, to: Translation) -> str:
    ports = "" if to.ports is None else f":{_range(to.ports)}"
    if to.first is None:
        return f"{own}{f' to {ports}' if ports else ''}"
    last = "" if to.last is None or to.last == to.first else f"-{to.last}"
    if to.first.version == 6 and (last or ports):
        host = f"[{to.first}]{f'-[{to.last}]' if last else ''}"
    else:
        host = f"{to.first}{last}"
    return f"{verb} {FAMILY[to.first.version]} to {host}{ports}"


# ---------------------------------------------------------------- matches


def _matches(packets: Packets) -> Iterator[str]:
    yield from _devices(packets)
    yield from _state(packets)
    for side, prefixes in (("saddr", packets.source), ("daddr", packets.destination)):
        if prefixes is not None:
            yield f"{FAMILY[packets.family or 4]} {side} {_set(tuple(map(str, prefixes)))}"
    for one in packets.sets:
        yield _in_set(one, packets.family or 4)
    if packets.traffic is not None:
        yield from _traffic(packets.traffic)
    if packets.source_ports is not None:
        ports = tuple(map(_range, packets.source_ports.ports))
        yield f"{NAMED_PROTOCOLS[packets.source_ports.protocol]} sport {_set(ports)}"


def _state(packets: Packets) -> Iterator[str]:
    """What the kernel knows of a packet beyond its headers, and its family where they do not say it."""
    if packets.ipsec_in is not None:
        yield f"meta ipsec {_exists(packets.ipsec_in)}"
    if packets.ipsec_out is not None:
        yield f"rt ipsec {_exists(packets.ipsec_out)}"
    if packets.family is not None and not _says_family(packets):
        yield f"meta nfproto {NFPROTO[packets.family]}"
    if packets.states is not None:
        yield f"ct state {_set(tuple(state.value for state in packets.states))}"
    if packets.translated:
        yield "ct status dnat"
    if packets.own_address:
        yield "fib daddr type local"
    if packets.unmarked:
        yield f"meta mark & {MARK_MASK:#x} == 0"
    if packets.connection_mark is not None:
        yield f"ct mark & {MARK_MASK:#x} == {packets.connection_mark:#x}"


def _says_family(packets: Packets) -> bool:
    """Whether another match says the family anyway."""
    typed = packets.traffic is not None and any(one.types for one in packets.traffic)
    return packets.source is not None or packets.destination is not None or bool(packets.sets) or typed


def _devices(packets: Packets) -> Iterator[str]:
    if packets.pairs is not None:
        pairs = (f'"{one}" . "{other}"' for one, other in packets.pairs)
        yield f"iifname . oifname {{ {', '.join(pairs)} }}"
    if packets.device_in is not None:
        yield f"iifname {_set(tuple(map(_quoted, packets.device_in)))}"
    if packets.device_out is not None:
        yield f"oifname {_set(tuple(map(_quoted, packets.device_out)))}"
    if packets.group_in is not None:
        yield f"iifgroup {packets.group_in}"
    if packets.group_out is not None:
        yield f"oifgroup {packets.group_out}"


def _quoted(device: str) -> str:
    return f'"{device}"'


def _exists(wanted: bool) -> str:  # noqa: FBT001
    return "exists" if wanted else "missing"


def _set(words: tuple[str, ...]) -> str:
    return words[0] if len(words) == 1 else f"{{ {', '.join(words)} }}"


def _in_set(one: InSet, family: int) -> str:
    side = "saddr" if one.side is Side.SOURCE else "daddr"
    return f"{FAMILY[family]} {side} @{set_name(one.set, family)}"


def _range(ports: PortRange) -> str:
    return str(ports.first) if ports.first == ports.last else f"{ports.first}-{ports.last}"


def _traffic(traffic: tuple[Traffic, ...]) -> Iterator[str]:
    """One kind of traffic, as `expansion.kinds` makes them: ports, types, or protocols alone."""
    first = traffic[0]
    if first.types:
        name = "icmp" if first.family == 4 else "icmpv6"
        yield f"{name} type {_set(tuple(dict.fromkeys(str(one) for each in traffic for one in each.types)))}"
    elif first.ports:
        yield _ports(traffic)
    elif first.protocol is not None:
        yield f"meta l4proto {_set(tuple(dict.fromkeys(str(one.protocol) for one in traffic)))}"


def _ports(traffic: tuple[Traffic, ...]) -> str:
    protocols = {one.protocol for one in traffic}
    if len(protocols) == 1:
        protocol = protocols.pop() or 0
        return f"{NAMED_PROTOCOLS[protocol]} dport {_set(_merged([port for one in traffic for port in one.ports]))}"
    words = [
        f"{protocol} . {ports}"
        for protocol in sorted(one for one in protocols if one is not None)
        for ports in _merged([port for one in traffic if one.protocol == protocol for port in one.ports])
    ]
    return f"meta l4proto . th dport {{ {', '.join(words)} }}"


def _merged(ranges: list[PortRange]) -> tuple[str, ...]:
    """Ranges that do not meet: nft refuses a set whose intervals overlap."""
    merged: list[PortRange] = []
    for one in sorted(ranges, key=lambda each: (each.first, each.last)):
        if merged and one.first <= merged[-1].last + 1:
            merged[-1] = PortRange(merged[-1].first, max(merged[-1].last, one.last))
        else:
            merged.append(one)
    return tuple(map(_range, merged))
