"""What becomes of a packet, by the same entries that the kernel is given.

It answers for one packet on its way in, through or out. Limits are taken as not reached and named; a source's count is
the kernel's to know.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from dmvpn.firewall.policy import Address, InSet, Limit, Side, Traffic
from dmvpn.firewall.prefixes import contains
from dmvpn.firewall.ruleset import DestinationTo, Entry, Hook, Over, Packets, Ruleset, State, Verdict


@dataclass(frozen=True, slots=True)
class Packet:
    """One packet as the filter sees it. No device: the router itself. `port` is the destination's, `type` ICMP's."""

    device_in: str | None
    device_out: str | None
    source: Address
    destination: Address
    protocol: int
    port: int | None = None
    source_port: int | None = None
    type: int | None = None
    state: State = State.NEW
    protected_in: bool = False  # it came out of ESP
    protected_out: bool = False  # it will go into ESP
    group_in: int = 0
    group_out: int = 0
    own_address: bool = False  # its destination is one of the router's
    translated: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """The verdict, the origin of the entry that gave it, and limits that the packet counted against on its way."""

    verdict: Verdict
    origin: str
    limits: tuple[Limit, ...] = ()
    packet: Packet | None = None  # as destination NAT left it, where it did


Way = Callable[[Address], str | None]


def judge(rules: Ruleset, packet: Packet, way: Way | None = None) -> Outcome:
    """The verdict of the filter, after destination NAT. A packet without both devices is an error of the caller.

    `way` is the device that leads to an address, None for the router's own: a packet with another destination is routed
    by it. Without one it goes where it would have gone.
    """
    translated = _translated(rules, packet)
    if way is not None and translated.destination != packet.destination:
        device = way(translated.destination)
        translated = replace(translated, device_out=device, own_address=device is None)
    hook = _hook(translated)
    limits: list[Limit] = []
    for entry in rules.chains[hook]:
        if not fits(rules, entry.packets, translated):
            continue
        if isinstance(entry.effect, Over):
            limits.append(entry.effect.limit)
        elif isinstance(entry.effect, Verdict):
            changed = translated if translated != packet else None
            return Outcome(entry.effect, entry.origin, tuple(dict.fromkeys(limits)), changed)
    return Outcome(Verdict.DROP, "no rule fits", tuple(limits))


def _hook(packet: Packet) -> Hook:
    if packet.device_in is None:
        return Hook.FILTER_OUT
    return Hook.FILTER_IN if packet.device_out is None else Hook.FILTER_THROUGH


def _translated(rules: Ruleset, packet: Packet) -> Packet:
    """A connection is translated by its first packet; what connection tracking does not know is not."""
    if packet.state is not State.NEW or packet.device_in is None:
        return packet
    entry = next((one for one in rules.chains.get(Hook.NAT_BEFORE, ()) if fits(rules, one.packets, packet)), None)
    if entry is None or not isinstance(entry.effect, DestinationTo):
        return packet
    to = entry.effect.to
    port = packet.port if to.ports is None else to.ports.first
    if to.first is None:
        return replace(packet, port=port, translated=True, own_address=True)
    return replace(packet, destination=to.first, port=port, translated=True, own_address=False)


def entry_of(rules: Ruleset, hook: Hook, packet: Packet) -> Entry | None:
    """The first entry of a chain that fits."""
    return next((entry for entry in rules.chains.get(hook, ()) if fits(rules, entry.packets, packet)), None)


def fits(rules: Ruleset, match: Packets, packet: Packet) -> bool:
    return (
        _device(match.device_in, packet.device_in)
        and _device(match.device_out, packet.device_out)
        and (match.pairs is None or (packet.device_in, packet.device_out) in match.pairs)
        and match.group_in in (None, packet.group_in)
        and match.group_out in (None, packet.group_out)
        and match.family in (None, packet.source.version)
        and (match.source is None or contains(match.source, packet.source))
        and (match.destination is None or contains(match.destination, packet.destination))
        and all(_in_set(rules, one, packet) for one in match.sets)
        and (match.traffic is None or any(_traffic(one, packet) for one in match.traffic))
        and _source_ports(match, packet)
        and _standing(match, packet)
    )


def _standing(match: Packets, packet: Packet) -> bool:
    return (
        match.ipsec_in in (None, packet.protected_in)
        and match.ipsec_out in (None, packet.protected_out)
        and (match.states is None or packet.state in match.states)
        and (not match.translated or packet.translated)
        and (not match.own_address or packet.own_address)
        and match.connection_mark is None
    )


def _device(wanted: tuple[str, ...] | None, device: str | None) -> bool:
    if wanted is None:
        return True
    return device is not None and any(
        device.startswith(one.removesuffix("*")) if one.endswith("*") else device == one for one in wanted
    )


def _in_set(rules: Ruleset, one: InSet, packet: Packet) -> bool:
    members = next((known.prefixes for known in rules.sets if known.name == one.set), ())
    return contains(members, packet.source if one.side is Side.SOURCE else packet.destination)


def _traffic(traffic: Traffic, packet: Packet) -> bool:
    if traffic.family not in (None, packet.source.version) or traffic.protocol not in (None, packet.protocol):
        return False
    if traffic.types:
        return packet.type in traffic.types
    port = packet.port
    return not traffic.ports or (port is not None and any(one.first <= port <= one.last for one in traffic.ports))


def _source_ports(match: Packets, packet: Packet) -> bool:
    if match.source_ports is None:
        return True
    port = packet.source_port
    known = port is not None and any(one.first <= port <= one.last for one in match.source_ports.ports)
    return known and packet.protocol == match.source_ports.protocol
