"""From zones to entries: which chains a rule stands in, and which packets it means there.

A rule from zones only stands where packets are forwarded and where they arrive; one to zones only where they are
forwarded and where they leave. What came in by a device does not leave by it, unless the zone it goes to says so.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from dmvpn.firewall.policy import FIREWALL, Match, Network, Policy, Service, Traffic, Zone
from dmvpn.firewall.prefixes import FAMILIES, common, of_family
from dmvpn.firewall.ruleset import Packets

ICMP, ICMPV6 = 1, 58
WITH_PORTS = (6, 17, 33, 132, 136)  # TCP, UDP, DCCP, SCTP, UDP-Lite

Zones = tuple[Zone, ...]
ANYWHERE = Zone("")


@dataclass(frozen=True, slots=True)
class Sides:
    """The zones of a rule in one direction of travel; None where the packets have no such side."""

    come: Zones | None
    go: Zones | None


@dataclass(frozen=True, slots=True)
class Names:
    """What names in a policy stand for."""

    zones: dict[str, Zone]
    services: dict[str, Service]

    @classmethod
    def of(cls, policy: Policy) -> "Names":
        return cls({zone.name: zone for zone in policy.zones}, {one.name: one for one in policy.services})

    def in_zones(self, match: Match) -> Zones | None:
        return self._zones(match.in_zones)

    def out_zones(self, match: Match) -> Zones | None:
        return self._zones(match.out_zones)

    def _zones(self, names: tuple[str, ...] | None) -> Zones | None:
        """Zones without the router itself; None: any."""
        return None if names is None else tuple(self.zones[name] for name in names if name != FIREWALL)

    def traffic(self, match: Match) -> tuple[Traffic, ...] | None:
        if match.services is None:
            return None
        return tuple(one for name in match.services for one in self.services[name].traffic)


def speaks_of_router(zones: tuple[str, ...] | None) -> bool:
    return zones is not None and FIREWALL in zones


def arriving(names: Names, match: Match) -> Sides | None:
    """The part of a match that concerns what is for the router; None: none does."""
    if match.out_zones is not None and FIREWALL not in match.out_zones:
        return None
    return _sides(names.in_zones(match), match.in_zones, come=True)


def leaving(names: Names, match: Match) -> Sides | None:
    """The part of a match that concerns what the router sends."""
    if match.in_zones is not None and FIREWALL not in match.in_zones:
        return None
    return _sides(names.out_zones(match), match.out_zones, come=False)


def _sides(zones: Zones | None, written: tuple[str, ...] | None, *, come: bool) -> Sides | None:
    if zones is None:
        zones = (ANYWHERE,)
    elif not zones and written != ():
        return None  # nothing but the router itself: it does not send to itself by a device
    return Sides(zones, None) if come else Sides(None, zones)


def forwarded(names: Names, match: Match) -> Sides | None:
    """The part of a match that concerns what passes through."""
    come, go = names.in_zones(match), names.out_zones(match)
    if (come == () and match.in_zones != ()) or (go == () and match.out_zones != ()):
        return None
    return Sides((ANYWHERE,) if come is None else come, (ANYWHERE,) if go is None else go)


def packets(names: Names, match: Match, sides: Sides) -> Iterator[Packets]:
    """Every entry that the match becomes with these sides: few, each of one family where addresses are concerned."""
    for way, source, destination in _ways(sides):
        from_ = common(source, match.source)
        to = common(destination, match.destination)
        for addressed in _addressed(match, from_, to):
            for traffic in kinds(names.traffic(match), addressed.family):
                family = addressed.family if addressed.family is not None else _family(traffic)
                yield replace(
                    way,
                    family=family,
                    source=addressed.source,
                    destination=addressed.destination,
                    traffic=traffic,
                    sets=match.sets,
                )


def _family(traffic: tuple[Traffic, ...] | None) -> int | None:
    families = {one.family for one in traffic or (Traffic(None),)}
    return families.pop() if len(families) == 1 else None


Way = tuple[Packets, tuple[Network, ...] | None, tuple[Network, ...] | None]


def _ways(sides: Sides) -> Iterator[Way]:
    """Devices and IPsec of each combination of zones, with the zones' prefixes; zones that differ only in devices are
    one combination."""
    comes = [None] if sides.come is None else list(_alike(sides.come))
    goes = [None] if sides.go is None else list(_alike(sides.go))
    for come in comes:
        for go in goes:
            for way in _between(come, go):
                yield way, None if come is None else come.prefixes, None if go is None else go.prefixes


def _alike(zones: Iterable[Zone]) -> Iterator[Zone]:
    """Zones with the same prefixes, IPsec and way back, as one zone with all their devices."""
    merged: dict[object, Zone] = {}
    for zone in zones:
        key = (zone.prefixes, zone.ipsec, zone.route_back)
        before = merged.get(key)
        if before is None:
            merged[key] = zone
        elif before.devices is None or zone.devices is None:
            merged[key] = replace(before, devices=None)
        else:
            merged[key] = replace(before, devices=tuple(dict.fromkeys((*before.devices, *zone.devices))))
    yield from merged.values()


def _between(come: Zone | None, go: Zone | None) -> Iterator[Packets]:
    devices_in = None if come is None else come.devices
    devices_out = None if go is None else go.devices
    nothing = any(zone is not None and () in (zone.devices, zone.prefixes) for zone in (come, go))
    if nothing:
        return
    ipsec_in = None if come is None else come.ipsec
    ipsec_out = None if go is None else go.ipsec
    way = Packets(device_in=devices_in, device_out=devices_out, ipsec_in=ipsec_in, ipsec_out=ipsec_out)
    if go is None or go.route_back or devices_in is None or devices_out is None:
        yield way
        return
    shared = set(devices_in) & set(devices_out)
    yield from _but_back(way, devices_in, devices_out) if shared else (way,)


def _but_back(way: Packets, devices_in: tuple[str, ...], devices_out: tuple[str, ...]) -> Iterator[Packets]:
    """From every device to every other. In a pair the kernel takes `eth*` for a name: those stand by themselves."""
    pairs = tuple((one, other) for one in devices_in for other in devices_out if one != other)
    named = tuple(pair for pair in pairs if not any(device.endswith("*") for device in pair))
    if named:
        yield replace(way, device_in=None, device_out=None, pairs=named)
    for one in devices_in:
        others = tuple(other for come, other in pairs if come == one and (come, other) not in named)
        if others:
            yield replace(way, device_in=(one,), device_out=others)


@dataclass(frozen=True, slots=True)
class _Addressed:
    family: int | None
    source: tuple[Network, ...] | None
    destination: tuple[Network, ...] | None


def _addressed(
    match: Match, source: tuple[Network, ...] | None, destination: tuple[Network, ...] | None
) -> Iterator[_Addressed]:
    """One for each family that the addresses leave; a single one without, where no address is asked for."""
    if source is None and destination is None and not match.sets and set(match.families) == set(FAMILIES):
        yield _Addressed(None, None, None)
        return
    for family in match.families:
        from_ = None if source is None else of_family(source, family)
        to = None if destination is None else of_family(destination, family)
        if from_ != () and to != ():
            yield _Addressed(family, from_, to)


def kinds(traffic: tuple[Traffic, ...] | None, family: int | None) -> Iterator[tuple[Traffic, ...] | None]:
    """Traffic in groups that one entry can have: with ports, with types, with neither; each of one family or both."""
    if traffic is None:
        yield None
        return
    groups: dict[object, list[Traffic]] = {}
    for one in traffic:
        own = family_of(one)
        if family is not None and own not in (None, family):
            continue
        kind = (one.protocol, "types") if one.types else "ports" if one.ports else "any" if one.protocol is None else ""
        fitted = replace(one, family=family if own is None else own)
        groups.setdefault((kind, fitted.family, one.helper), []).append(fitted)
    yield from (tuple(dict.fromkeys(group)) for group in groups.values())


def family_of(traffic: Traffic) -> int | None:
    """As written; ICMP and ICMPv6 each have one."""
    if traffic.protocol == ICMP:
        return 4
    return 6 if traffic.protocol == ICMPV6 else traffic.family
