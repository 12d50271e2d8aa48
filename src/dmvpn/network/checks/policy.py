"""The zone policy: what its names mean, and values that cannot be meant."""

from collections.abc import Iterator

from dmvpn.errors import Problem
from dmvpn.firewall.catalogue import SERVICES
from dmvpn.firewall.policy import FIREWALL
from dmvpn.network.checks.references import unknown
from dmvpn.network.model import Network
from dmvpn.network.places import places
from dmvpn.network.policy import DEFAULT_LOG, services
from dmvpn.network.policy_model import Action, DestinationNat, Marking, Policy, PolicyService, Rule, SourceNat
from dmvpn.network.ports import port_ranges
from dmvpn.network.source import Key
from dmvpn.network.values import Section
from dmvpn.network.zoning import MEMBERS

WITH_PORTS = ("tcp", "udp", "sctp")
WITH_TYPES = ("icmp", "icmpv6")
MEANT_BY_ABSENCE = {"to": "the router's own address", "awall": "the policy that is written here"}  # anything else: any
ELSEWHERE = {"prefixes"}  # a zone of no address and nothing else: a router's slice so names zones of other sites
Matching = Rule | SourceNat | DestinationNat | Marking


def written_rules(policy: Policy) -> Iterator[tuple[Key, Rule]]:
    for word, rules in (("rules", policy.rules), ("default", policy.default)):
        for index, rule in enumerate(rules):
            yield ("policy", word, index), rule


def _matching(policy: Policy) -> Iterator[tuple[Key, Matching]]:
    yield from written_rules(policy)
    parts: tuple[tuple[str, tuple[Matching, ...]], ...] = (
        ("source-nat", policy.source_nat),
        ("destination-nat", policy.destination_nat),
        ("marks", policy.marks),
    )
    for word, some in parts:
        for index, part in enumerate(some):
            yield ("policy", word, index), part


def zone_members(network: Network) -> Iterator[Problem]:
    """What a zone is made of exists somewhere; a zone of nothing is a rule that never fits."""
    policy = network.policy or Policy()
    nets = {name for site in network.sites.values() for name in site.networks}
    uplinks = {name for place in places(network) for name in place.router.uplinks}
    for name, zone in policy.zones.items():
        key: Key = ("policy", "zones", name)
        if not any(word in zone.model_fields_set for word in MEMBERS):
            fix = "give it networks, clouds, uplinks or prefixes"
            yield Problem(key, f"zone {name} has nothing in it, so no packet is of it", fix)
        for word, kind, named, known in (
            ("networks", "network", zone.networks, nets),
            ("clouds", "cloud", zone.clouds, set(network.clouds)),
            ("uplinks", "uplink", zone.uplinks, uplinks),
        ):
            for index, one in enumerate(named):
                if one not in known:
                    yield unknown((*key, word, index), kind, one, sorted(known))


_BUILT_IN = frozenset(service.name for service in SERVICES)


def service_definitions(network: Network) -> Iterator[Problem]:
    policy = network.policy or Policy()
    for name, service in policy.services.items():
        yield from _definition(("policy", "services", name), service)
        if name in _BUILT_IN:
            what = f"{name} is a service that we know already, and every rule means this one now"
            yield Problem(("policy", "services", name), what, "give it a name of its own", warning=True)


def _definition(key: Key, service: PolicyService) -> Iterator[Problem]:
    bare = [word for word in service.protocol if word not in WITH_PORTS]
    if service.ports and bare:
        yield Problem((*key, "ports"), f"{bare[0]} has no ports", "make a service of its own for it")
    untyped = [word for word in service.protocol if word not in WITH_TYPES]
    if service.types and untyped:
        yield Problem((*key, "types"), f"{untyped[0]} has no ICMP types", "make a service of its own for it")
    for index, text in enumerate(service.ports):
        first, last = port_ranges(text)
        if not 1 <= first <= last <= 65535:
            yield Problem((*key, "ports", index), f"{text} is no range of ports", "write FIRST-LAST, of 1 to 65535")


def rule_names(network: Network) -> Iterator[Problem]:
    """Services, sets and logs that rules name."""
    policy = network.policy or Policy()
    known = services(policy.services)
    for key, part in _matching(policy):
        for index, name in enumerate(part.service):
            if name not in known:
                yield unknown((*key, "service", index), "service", name, known)
        if isinstance(part, Rule):
            yield from _sets_and_logs(policy, key, part)


def _sets_and_logs(policy: Policy, key: Key, rule: Rule) -> Iterator[Problem]:
    logs = (*policy.logs, DEFAULT_LOG)
    limit_log = None if rule.limit is None else rule.limit.log
    for place, kind, name, known in (
        ((*key, "source-set"), "set", rule.source_set, tuple(policy.sets)),
        ((*key, "destination-set"), "set", rule.destination_set, tuple(policy.sets)),
        ((*key, "log"), "log", rule.log, logs),
        ((*key, "limit", "log"), "log", limit_log, logs),
    ):
        if name is not None and name not in known:
            yield unknown(place, kind, name, known)


def tested_names(network: Network) -> Iterator[Problem]:
    policy = network.policy or Policy()
    known = services(policy.services)
    routers = tuple(place.name for place in places(network) if place.ours)
    for index, test in enumerate(policy.tests):
        if test.service not in known:
            yield unknown(("policy", "tests", index, "service"), "service", test.service, known)
        if test.router is not None and test.router not in routers:
            yield unknown(("policy", "tests", index, "router"), "router", test.router, routers)


def tested_families(network: Network) -> Iterator[Problem]:
    """A packet is of one family, and a service may be of the other alone."""
    policy = network.policy or Policy()
    known = services(policy.services)
    for index, test in enumerate(policy.tests):
        key: Key = ("policy", "tests", index)
        given = {address.version for address in (test.source, test.destination) if address is not None}
        if len(given) > 1:
            what = "source and destination are of two families: there is no such packet"
            yield Problem((*key, "destination"), what, "write both in IPv4, or both in IPv6")
        elif given and test.service in known:
            family = min(given)
            if not any(one.family in (None, family) for one in known[test.service].traffic):
                what = f"service {test.service} has nothing in IPv{family}"
                yield Problem((*key, "service"), what, f"write addresses of IPv{10 - family}, or leave them out")


def empty_lists(network: Network) -> Iterator[Problem]:
    """An empty list is no packet at all, and looks like any."""
    policy = network.policy or Policy()
    for key, part in _with_lists(policy):
        fields = type(part).model_fields
        for field in fields:
            if field in part.model_fields_set and getattr(part, field) == ():
                yield _empty((*key, fields[field].alias or field), required=fields[field].is_required())
    if policy.awall == () and "awall" in policy.model_fields_set:
        yield _empty(("policy", "awall"), required=False)


def _with_lists(policy: Policy) -> Iterator[tuple[Key, Section]]:
    yield from _matching(policy)
    yield from ((("policy", "route-track", index), track) for index, track in enumerate(policy.route_track))
    yield from ((("policy", "services", name), service) for name, service in policy.services.items())
    for name, zone in policy.zones.items():
        if zone.model_fields_set != ELSEWHERE:
            yield ("policy", "zones", name), zone


def _empty(key: Key, *, required: bool) -> Problem:
    word = str(key[-1])
    fix = (
        "name some" if required else f"name some, or leave {word} out, which means {MEANT_BY_ABSENCE.get(word, 'any')}"
    )
    lost = "" if word in MEANT_BY_ABSENCE else ": it would fit nothing"
    return Problem(key, f"{word} is an empty list{lost}", fix)


def families(network: Network) -> Iterator[Problem]:
    policy = network.policy or Policy()
    for key, part in _matching(policy):
        source = {prefix.version for prefix in part.source}
        destination = {prefix.version for prefix in part.destination}
        if source and destination and not source & destination:
            what = "source and destination have no family in common, so no packet fits"
            yield Problem((*key, "destination"), what, "write both in IPv4, or both in IPv6")


def limits(network: Network) -> Iterator[Problem]:
    for key, rule in written_rules(network.policy or Policy()):
        if rule.limit is not None and rule.action not in (Action.ACCEPT, Action.PASS):
            what = f"a limit on what is to be {'dropped' if rule.action is Action.DROP else 'rejected'} anyway"
            yield Problem((*key, "limit"), what, "limit what is accepted: what is over is dropped")


def source_translations(network: Network) -> Iterator[Problem]:
    for index, source in enumerate((network.policy or Policy()).source_nat):
        key: Key = ("policy", "source-nat", index)
        yield from _one_of_each(key, source)
        if source.exclude and source.to:
            yield Problem((*key, "exclude"), "what is excluded is translated to nothing", "remove to or exclude")
        for word, zones in (("out", source.out), ("in", source.in_)):
            if FIREWALL in zones:
                yield Problem((*key, word), "_fw is no zone that traffic passes to", "name the zones it goes between")


def destination_translations(network: Network) -> Iterator[Problem]:
    policy = network.policy or Policy()
    known = services(policy.services)
    for index, target in enumerate(policy.destination_nat):
        key: Key = ("policy", "destination-nat", index)
        yield from _one_of_each(key, target)
        if FIREWALL in target.in_:
            what = "_fw: what the router sends itself is not forwarded"
            yield Problem((*key, "in"), what, "name the zones it is from")
        traffic = [one for name in target.service if name in known for one in known[name].traffic]
        if target.to_port is not None and not all(one.ports for one in traffic):
            yield Problem((*key, "to-port"), "a port for what may have none", "name services of TCP or UDP with ports")
        if not target.to and target.to_port is None:
            yield Problem(key, "neither to nor to-port: nothing would be translated", "say where it goes")


def clamped_zones(network: Network) -> Iterator[Problem]:
    for index, zone in enumerate((network.policy or Policy()).clamp_mss):
        if zone == FIREWALL:
            yield Problem(("policy", "clamp-mss", index), "_fw is no zone that traffic passes to", "name another zone")


def _one_of_each(key: Key, part: SourceNat | DestinationNat) -> Iterator[Problem]:
    versions = [address.version for address in part.to]
    if len(versions) != len(set(versions)):
        yield Problem((*key, "to"), "two addresses of one family", "give one for each family")


def to_itself(network: Network) -> Iterator[Problem]:
    for key, rule in written_rules(network.policy or Policy()):
        if rule.in_ == (FIREWALL,) and rule.out == (FIREWALL,):
            yield Problem(key, "from the router to itself: that is always let through", "remove the rule")


def awall_alone(network: Network) -> Iterator[Problem]:
    """awall's files are a whole policy: what stands beside them would be read by nobody."""
    policy = network.policy or Policy()
    if policy.awall:
        for field in sorted(policy.model_fields_set - {"awall"}):
            word = Policy.model_fields[field].alias or field
            what = f"awall's files are read instead of {word}"
            yield Problem(("policy", word), what, f"remove {word}, or awall and say here what its files say")


CHECKS = (
    awall_alone,
    zone_members,
    service_definitions,
    rule_names,
    tested_names,
    tested_families,
    empty_lists,
    families,
    limits,
    source_translations,
    destination_translations,
    clamped_zones,
    to_itself,
)
