"""A policy and what the router itself needs, put together into chains.

In the filter chains: what no rule may allow, limits on packets, established connections, the router's needs, the rules,
what destination NAT lets through, the defaults, and a drop that counts by zone. The first that fits decides.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from dmvpn.errors import Fault
from dmvpn.firewall import expansion
from dmvpn.firewall.expansion import WITH_PORTS, Names, Sides
from dmvpn.firewall.marking import marks
from dmvpn.firewall.policy import (
    FIREWALL,
    Action,
    Counts,
    Icmp,
    Limit,
    Log,
    Match,
    Nat,
    Policy,
    Rule,
    Traffic,
    Translation,
)
from dmvpn.firewall.prefixes import between
from dmvpn.firewall.ruleset import (
    Clamped,
    DestinationTo,
    Entry,
    Hook,
    Logged,
    Over,
    Packets,
    Ruleset,
    SourceTo,
    State,
    Verdict,
)

FILTERS = (Hook.FILTER_IN, Hook.FILTER_THROUGH, Hook.FILTER_OUT)
DIRECTIONS = {Hook.FILTER_IN: "in", Hook.FILTER_THROUGH: "through", Hook.FILTER_OUT: "out"}
ICMP_ERRORS = (3, 11, 12)  # RFC 792: destination unreachable (with fragmentation needed), time, parameter
ICMPV6_ERRORS = (1, 2, 3, 4)  # RFC 4443: unreachable, packet too big, time exceeded, parameter problem
NEIGHBOURS = (133, 134, 135, 136, 137)  # RFC 4861
MULTICAST_LISTENERS = (130, 131, 132, 143)  # RFC 2710, RFC 3810
DERIVED = "derived: "


@dataclass(frozen=True, slots=True)
class Needs:
    """What is so whatever the policy says: before established connections are let through, and right after."""

    first: Mapping[Hook, tuple[Entry, ...]] = field(default_factory=dict)
    then: Mapping[Hook, tuple[Entry, ...]] = field(default_factory=dict)


NO_NEEDS = Needs()


def assemble(policy: Policy, needs: Needs = NO_NEEDS) -> Ruleset:
    """The chains of a policy. Raises Fault, with the origin, for what cannot be had where the policy wants it."""
    names = Names.of(policy)
    _refuse_helpers(policy)
    parts = _Parts(policy, names, {log.name: log for log in policy.logs})
    chains: dict[Hook, tuple[Entry, ...]] = {
        hook: (
            *_loopback(hook),
            *needs.first.get(hook, ()),
            *parts.packet_limits(hook),
            *_established(),
            *_icmp(hook, policy.icmp),
            *needs.then.get(hook, ()),
            *parts.filters(hook, policy.rules),
            *(parts.translated() if hook is Hook.FILTER_THROUGH else ()),
            *(_icmp_after(hook) if policy.icmp is Icmp.AFTER_RULES else ()),
            *parts.filters(hook, policy.defaults),
            *parts.drops(hook),
        )
        for hook in FILTERS
    }
    for hook, entries in (*marks(names, policy.marks), *parts.clamps(), *parts.nat()):
        chains[hook] = (*chains.get(hook, needs.first.get(hook, ())), *entries)
    used = [entry.effect for entries in chains.values() for entry in entries if isinstance(entry.effect, Over)]
    counters = (entry.counter for entries in chains.values() for entry in entries if entry.counter is not None)
    return Ruleset(
        chains=chains,
        sets=policy.sets,
        limits=tuple({over.name: over for over in used}.values()),
        counters=tuple(dict.fromkeys(counters)),
    )


def _refuse_helpers(policy: Policy) -> None:
    for service in policy.services:
        for traffic in service.traffic:
            if traffic.helper is not None:
                what = f"service {service.name} wants the connection tracking helper {traffic.helper}"
                raise Fault(
                    service.name, what, "leave it out: helpers are not loaded, so related connections are dropped"
                )


def _loopback(hook: Hook) -> Iterator[Entry]:
    lo = ("lo",)
    if hook is Hook.FILTER_IN:
        yield Entry(Packets(device_in=lo), Verdict.ACCEPT, f"{DERIVED}lo")
    if hook is Hook.FILTER_OUT:
        yield Entry(Packets(device_out=lo), Verdict.ACCEPT, f"{DERIVED}lo")


def _established() -> Iterator[Entry]:
    yield Entry(Packets(states=(State.ESTABLISHED,)), Verdict.ACCEPT, f"{DERIVED}established")


def _icmp(hook: Hook, icmp: Icmp) -> Iterator[Entry]:
    """Path MTU discovery and errors always; IPv6's neighbours and multicast listeners on each link.

    Where rules come first, only errors that connection tracking knows the cause of.
    """
    if icmp is Icmp.AFTER_RULES:
        yield from (replace(one, packets=replace(one.packets, states=(State.RELATED,))) for one in _icmp_errors())
        return
    yield from _icmp_errors()
    if hook is not Hook.FILTER_THROUGH:
        on_link = (Traffic(expansion.ICMPV6, types=(*NEIGHBOURS, *MULTICAST_LISTENERS), family=6),)
        yield Entry(Packets(family=6, traffic=on_link), Verdict.ACCEPT, f"{DERIVED}neighbour discovery")


def _icmp_errors() -> Iterator[Entry]:
    errors = (Traffic(expansion.ICMP, types=ICMP_ERRORS, family=4),)
    errors6 = (Traffic(expansion.ICMPV6, types=ICMPV6_ERRORS, family=6),)
    yield Entry(Packets(family=4, traffic=errors), Verdict.ACCEPT, f"{DERIVED}ICMP errors")
    yield Entry(Packets(family=6, traffic=errors6), Verdict.ACCEPT, f"{DERIVED}ICMP errors")


def _icmp_after(hook: Hook) -> Iterator[Entry]:
    """What no rule decided: errors, and from and to the router all of ICMPv6, as awall has it."""
    yield from _icmp_errors()
    if hook is not Hook.FILTER_THROUGH:
        all6 = (Traffic(expansion.ICMPV6, family=6),)
        yield Entry(Packets(family=6, traffic=all6), Verdict.ACCEPT, f"{DERIVED}ICMPv6 of the router's own")


@dataclass(frozen=True, slots=True)
class _Parts:
    policy: Policy
    names: Names
    logs: Mapping[str, Log]

    def packet_limits(self, hook: Hook) -> Iterator[Entry]:
        """Limits on packets, before established connections are let through. The last one stands first, as awall's."""
        for rule in reversed((*self.policy.rules, *self.policy.defaults)):
            if rule.limit is not None and rule.limit.counts is Counts.PACKETS:
                for match in self.expanded(hook, rule.match):
                    yield from self.limited(match, rule, rule.limit)

    def filters(self, hook: Hook, rules: tuple[Rule, ...]) -> Iterator[Entry]:
        for rule in rules:
            for match in self.expanded(hook, rule.match):
                if rule.limit is not None and rule.limit.counts is Counts.CONNECTIONS:
                    yield from self.limited(match, rule, rule.limit)
                yield from self.logged(match, rule.log, rule.origin)
                yield from self.verdict(match, rule)

    def verdict(self, match: Packets, rule: Rule) -> Iterator[Entry]:
        match rule.action:
            case Action.ACCEPT:
                yield Entry(match, Verdict.ACCEPT, rule.origin)
            case Action.DROP:
                yield Entry(match, Verdict.DROP, rule.origin, counted(rule.origin))
            case Action.REJECT:
                yield Entry(match, Verdict.REJECT, rule.origin, counted(rule.origin))
            case Action.PASS:
                pass

    def limited(self, match: Packets, rule: Rule, limit: Limit) -> Iterator[Entry]:
        if limit.count == 0:
            yield from self.logged(match, limit.log, rule.origin)
            yield Entry(match, Verdict.DROP, rule.origin, counted(rule.origin))
            return
        name = f"limit.{slug(rule.origin)}" if limit.name is None else f"limit.named.{slug(limit.name)}"
        log = None if limit.log is None else self.logs[limit.log]
        yield Entry(match, Over(name, limit, log), rule.origin, counted(rule.origin))

    def logged(self, match: Packets, name: str | None, origin: str) -> Iterator[Entry]:
        if name is not None:
            yield Entry(match, Logged(self.logs[name]), origin)

    def expanded(self, hook: Hook, match: Match) -> Iterator[Packets]:
        side = {
            Hook.FILTER_IN: expansion.arriving,
            Hook.FILTER_THROUGH: expansion.forwarded,
            Hook.FILTER_OUT: expansion.leaving,
        }[hook]
        sides = side(self.names, match)
        if sides is not None:
            yield from expansion.packets(self.names, match, sides)

    def drops(self, hook: Hook) -> Iterator[Entry]:
        """What nothing decided, counted by the zone it came from, or for the router's own, goes to."""
        direction, outward = DIRECTIONS[hook], hook is Hook.FILTER_OUT
        for zone in self.policy.zones:
            if zone.devices and zone.prefixes is None and zone.ipsec is None:
                match = Packets(device_out=zone.devices) if outward else Packets(device_in=zone.devices)
                counter = f"dropped.{direction}.{slug(zone.name)}"
                yield Entry(match, Verdict.DROP, "no rule fits", counter)
        yield Entry(Packets(), Verdict.DROP, "no rule fits", f"dropped.{direction}.elsewhere")

    # ------------------------------------------------------------ NAT and segment size

    def clamps(self) -> Iterator[tuple[Hook, tuple[Entry, ...]]]:
        tcp = (Traffic(6),)
        for clamp in self.policy.clamps:
            inward = clamp.match.in_zones is not None
            hook = Hook.CLAMP_THROUGH if inward else Hook.CLAMP_AFTER
            sides = expansion.forwarded(self.names, clamp.match)
            if sides is not None:
                sides = sides if inward else Sides(None, sides.go)
                found = expansion.packets(self.names, clamp.match, sides)
                effect = Clamped(clamp.mss_octets)
                yield hook, tuple(Entry(replace(one, traffic=tcp), effect, clamp.origin) for one in found)

    def nat(self) -> Iterator[tuple[Hook, tuple[Entry, ...]]]:
        for rule in self.policy.destination_nat:
            yield Hook.NAT_BEFORE, tuple(self._destination(rule, expansion.arriving(self.names, _inward(rule))))
            own = rule.match.in_zones is None or expansion.speaks_of_router(rule.match.in_zones)
            if own and not rule.own_address:
                yield Hook.NAT_OUT, tuple(self._destination(rule, Sides(None, (expansion.ANYWHERE,))))
        for rule in self.policy.source_nat:
            yield Hook.NAT_AFTER, tuple(self._source(rule))

    def _destination(self, rule: Nat, sides: Sides | None) -> Iterator[Entry]:
        own = rule.own_address or expansion.speaks_of_router(rule.match.out_zones)
        if rule.match.out_zones is not None and not own:
            fix = "leave the zone it goes to out: where a packet goes is decided after destination NAT"
            raise Fault(rule.origin, "destination NAT to a zone", fix)
        for match in () if sides is None else expansion.packets(self.names, rule.match, sides):
            yield from self._translations(replace(match, own_address=own), rule, DestinationTo)

    def _source(self, rule: Nat) -> Iterator[Entry]:
        sides = expansion.forwarded(self.names, rule.match)
        if expansion.speaks_of_router(rule.match.in_zones) or expansion.speaks_of_router(rule.match.out_zones):
            raise Fault(rule.origin, "source NAT from or to the router itself", "name the zones it passes between")
        if sides is not None:
            sides = Sides(None if rule.match.in_zones is None else sides.come, sides.go)
            for match in expansion.packets(self.names, rule.match, sides):
                yield from self._translations(match, rule, SourceTo)

    def _translations(self, match: Packets, rule: Nat, effect: type[SourceTo] | type[DestinationTo]) -> Iterator[Entry]:
        if rule.to is None:
            yield Entry(match, Verdict.ACCEPT, rule.origin)
            return
        for to in rule.to:
            for family in (4, 6) if to.first is None else (to.first.version,):
                if match.family in (None, family) and family in rule.match.families:
                    self._needs_ports(match, to, rule)
                    yield Entry(replace(match, family=family), effect(to), rule.origin)

    def _needs_ports(self, match: Packets, to: Translation, rule: Nat) -> None:
        known = match.traffic is not None and all(one.protocol in WITH_PORTS for one in match.traffic)
        if to.ports is not None and not known:
            raise Fault(rule.origin, "NAT to a port of what may have none", "name a service of TCP or UDP")

    def translated(self) -> Iterator[Entry]:
        """What destination NAT leads to an inner host is let through to it."""
        for rule in self.policy.destination_nat:
            sides = expansion.arriving(self.names, _inward(rule))
            if not rule.accepts or rule.to is None or sides is None:
                continue
            for match in expansion.packets(self.names, rule.match, Sides(sides.come, (expansion.ANYWHERE,))):
                for to in rule.to:
                    if to.first is not None and match.family in (None, to.first.version):
                        yield Entry(_after(match, to), Verdict.ACCEPT, rule.origin)


def _inward(rule: Nat) -> Match:
    return replace(rule.match, out_zones=(FIREWALL,))


def _after(match: Packets, to: Translation) -> Packets:
    """A match as it is once the destination is translated."""
    assert to.first is not None
    traffic = match.traffic
    if to.ports is not None and traffic is not None:
        traffic = tuple(dict.fromkeys(replace(one, ports=(to.ports,)) for one in traffic))
    hosts = between(to.first, to.last or to.first)
    return replace(match, family=to.first.version, destination=hosts, traffic=traffic, translated=True)


def counted(origin: str) -> str:
    """The counter of what a rule stops."""
    return f"dropped.{slug(origin)}"


def slug(text: str) -> str:
    """A word of letters, digits, points and hyphens, at most 100 long, that nft takes for a name."""
    return re.sub(r"[^A-Za-z0-9-]+", ".", text).strip(".-")[:100] or "x"
