"""The file's policy as one router has it: names resolved, what is absent derived, what does not concern it left out."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network

from dmvpn.firewall import catalogue
from dmvpn.firewall import policy as firewall
from dmvpn.network import awall
from dmvpn.network.model import Network
from dmvpn.network.places import Place
from dmvpn.network.plan import Cloud, Lan, Uplink
from dmvpn.network.policy_defaults import Standing, default_rules, own_services, service_rules
from dmvpn.network.policy_model import (
    DestinationNat,
    Limit,
    LimitCounts,
    LimitEach,
    Marking,
    Policy,
    PolicyService,
    Rule,
    SourceNat,
)
from dmvpn.network.ports import port_ranges
from dmvpn.network.zoning import INTERNET, here, planned_zones

DEFAULT_LOG = "default"


def planned_policy(
    network: Network,
    place: Place,
    lans: tuple[Lan, ...],
    clouds: tuple[Cloud, ...],
    uplinks: tuple[Uplink, ...],
    beside: Mapping[str, bytes],
) -> firewall.Policy | None:
    """The policy of one router; None: the file has none, and nothing is filtered.

    `beside` has the contents of awall's files by path, if the file names some: then they are the policy, on every
    router alike. Raises Problems for what is wrong in them.
    """
    written = network.policy
    if written is None:
        return None
    if written.awall:
        return awall.of_files(written.awall, beside).policy
    zones = planned_zones(written.zones, lans, clouds, uplinks)
    standing = Standing(network, place, zones)
    return _Router(written, zones, network.prefixes, standing).whole()


def services(written: dict[str, PolicyService]) -> dict[str, firewall.Service]:
    """The usual ones, and the file's own instead or beside."""
    usual = {service.name: service for service in catalogue.SERVICES}
    return usual | {name: firewall.Service(name, tuple(_traffic(one))) for name, one in written.items()}


def _traffic(service: PolicyService) -> Iterator[firewall.Traffic]:
    ports = tuple(firewall.PortRange(*port_ranges(text)) for text in service.ports)
    for word in service.protocol:
        family = {"icmp": 4, "icmpv6": 6}.get(word)
        yield firewall.Traffic(catalogue.PROTOCOLS[word], ports, service.types, family)


@dataclass(frozen=True, slots=True)
class _Router:
    written: Policy
    zones: tuple[firewall.Zone, ...]
    internal: tuple[firewall.Network, ...]
    standing: Standing

    def whole(self) -> firewall.Policy:
        given = self.written.model_fields_set
        rules = (*self.rules("rules", self.written.rules), *service_rules(self.standing))
        defaults = tuple(self.rules("default", self.written.default))
        if "default" not in given:
            defaults = tuple(default_rules(self.standing))
        source_nat = tuple(self.source_nat()) if "source_nat" in given else self.masquerade()
        destination_nat, clamps, marks = tuple(self.destination_nat()), tuple(self.clamps()), tuple(self.marks())
        matches = [rule.match for rule in (*rules, *defaults)]
        matches += [nat.match for nat in (*source_nat, *destination_nat)]
        matches += [mark.match for mark in marks]
        named = services(self.written.services) | {one.name: one for one in own_services(self.standing)}
        used = dict.fromkeys(name for match in matches for name in match.services or ())
        return firewall.Policy(
            zones=self.zones,
            services=tuple(named[name] for name in used),
            sets=tuple(
                firewall.AddressSet(name, prefixes, f"policy.sets.{name}")
                for name, prefixes in self.written.sets.items()
            ),
            logs=tuple(self.logs()),
            rules=rules,
            defaults=defaults,
            source_nat=source_nat,
            destination_nat=destination_nat,
            clamps=clamps,
            marks=marks,
        )

    def logs(self) -> Iterator[firewall.Log]:
        if DEFAULT_LOG not in self.written.logs:
            yield firewall.Log(DEFAULT_LOG, prefix="dmvpn: ")
        for name, log in self.written.logs.items():
            yield firewall.Log(name, log.prefix, log.rate, log.group)

    def rules(self, word: str, rules: tuple[Rule, ...]) -> Iterator[firewall.Rule]:
        for index, rule in enumerate(rules):
            match = self.match(rule, rule.in_, rule.out)
            if match is not None:
                yield firewall.Rule(
                    match=match,
                    action=firewall.Action(rule.action.value),
                    origin=f"policy.{word}[{index}]",
                    limit=None if rule.limit is None else _limit(rule.limit),
                    log=rule.log,
                )

    def match(
        self, rule: Rule | SourceNat | DestinationNat | Marking, come: tuple[str, ...], go: tuple[str, ...]
    ) -> firewall.Match | None:
        """None: the rule names zones, and this router has none of them."""
        in_zones = here(come, self.zones) if come else None
        out_zones = here(go, self.zones) if go else None
        if () in (in_zones, out_zones):
            return None
        return firewall.Match(
            in_zones=in_zones,
            out_zones=out_zones,
            source=rule.source or None,
            destination=rule.destination or None,
            services=rule.service or None,
            sets=tuple(_in_sets(rule)) if isinstance(rule, Rule) else (),
        )

    def source_nat(self) -> Iterator[firewall.Nat]:
        for index, rule in enumerate(self.written.source_nat):
            match = self.match(rule, rule.in_, rule.out)
            if match is None:
                continue
            to = tuple(firewall.Translation(address, address) for address in rule.to)
            families = tuple(one.first.version for one in to if one.first is not None) or (4,)
            match = firewall.Match(
                match.in_zones, match.out_zones, match.source, match.destination, match.services, (), families
            )
            own = to or (firewall.Translation(),)
            yield firewall.Nat(match, None if rule.exclude else own, f"policy.source-nat[{index}]")

    def masquerade(self) -> tuple[firewall.Nat, ...]:
        """Internal IPv4 on its way out takes the uplink's address."""
        out = here((INTERNET,), self.zones)
        internal = tuple(prefix for prefix in self.internal if isinstance(prefix, IPv4Network))
        if not out or not internal:
            return ()
        match = firewall.Match(out_zones=out, source=internal, families=(4,))
        return (firewall.Nat(match, (firewall.Translation(),), "derived: internal addresses go out by the uplink's"),)

    def destination_nat(self) -> Iterator[firewall.Nat]:
        for index, rule in enumerate(self.written.destination_nat):
            match = self.match(rule, rule.in_, ())
            if match is None:
                continue
            ports = None if rule.to_port is None else firewall.PortRange(rule.to_port, rule.to_port)
            to = tuple(firewall.Translation(address, address, ports) for address in rule.to)
            yield firewall.Nat(
                match,
                to or (firewall.Translation(ports=ports),),
                f"policy.destination-nat[{index}]",
                accepts=True,
                own_address=not rule.destination,
            )

    def clamps(self) -> Iterator[firewall.Clamp]:
        given = "clamp_mss" in self.written.model_fields_set
        out = here(self.written.clamp_mss if given else (INTERNET,), self.zones)
        if out:
            origin = "policy.clamp-mss" if given else "derived: segments that fit the uplink"
            yield firewall.Clamp(firewall.Match(out_zones=out), None, origin)

    def marks(self) -> Iterator[firewall.MarkRule]:
        for index, rule in enumerate(self.written.marks):
            match = self.match(rule, rule.in_, rule.out)
            if match is not None:
                yield firewall.MarkRule(match, rule.mark, f"policy.marks[{index}]")
        for index, track in enumerate(self.written.route_track):
            zones = here(track.zone, self.zones)
            if zones:
                origin = f"policy.route-track[{index}]"
                yield firewall.MarkRule(firewall.Match(in_zones=zones), track.mark, origin, tracks=True)
                yield firewall.MarkRule(firewall.Match(out_zones=zones), track.mark, origin, tracks=True)


def _in_sets(rule: Rule) -> Iterator[firewall.InSet]:
    if rule.source_set is not None:
        yield firewall.InSet(rule.source_set, firewall.Side.SOURCE)
    if rule.destination_set is not None:
        yield firewall.InSet(rule.destination_set, firewall.Side.DESTINATION)


def _limit(limit: Limit) -> firewall.Limit:
    source = limit.each in (LimitEach.SOURCE, LimitEach.PAIR)
    destination = limit.each in (LimitEach.DESTINATION, LimitEach.PAIR)
    packets = limit.counts is LimitCounts.PACKETS
    return firewall.Limit(
        count=limit.count,
        interval_s=limit.interval,
        counts=firewall.Counts.PACKETS if packets else firewall.Counts.CONNECTIONS,
        source_v4=limit.ipv4_length if source else None,
        source_v6=limit.ipv6_length if source else None,
        destination_v4=limit.ipv4_length if destination else None,
        destination_v6=limit.ipv6_length if destination else None,
        log=limit.log,
    )
