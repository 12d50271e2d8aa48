"""The zone policy: rules that let in what nobody wanted, keep somebody shut in, or never see a packet."""

from collections.abc import Iterator

from dmvpn.errors import Problem
from dmvpn.firewall.policy import FIREWALL
from dmvpn.network.checks.policy import written_rules
from dmvpn.network.checks.policy_zones import meet, networks_of, outside, overlays, with_default, zones_with
from dmvpn.network.model import Network
from dmvpn.network.places import NOT_ANNOUNCED
from dmvpn.network.policy_model import Action, Policy, Rule
from dmvpn.network.source import Key
from dmvpn.network.zoning import INTERNET, network_zones


def _meant(policy: Policy) -> Iterator[tuple[Key, Rule]]:
    """The rules that can be judged: an empty list is told elsewhere, and would be taken for any here."""
    for key, rule in written_rules(policy):
        if not any(getattr(rule, field) == () for field in rule.model_fields_set):
            yield key, rule


def openness(network: Network) -> Iterator[Problem]:
    """Rules that let in more than they look."""
    policy = network.policy or Policy()
    clouds, beyond = overlays(policy), outside(policy)
    for key, rule in _meant(policy):
        narrow = rule.source or rule.source_set
        if rule.action is not Action.ACCEPT or narrow:
            continue
        at_router = not rule.out or FIREWALL in rule.out
        from_outside = [zone for zone in rule.in_ if zone in beyond] or ([INTERNET] if not rule.in_ else [])
        if at_router and not rule.service and from_outside:
            what = f"everything from {from_outside[0]} is let in to the router itself"
            yield Problem(key, what, "name services, or the zones in out")
        elif at_router and not rule.service and (found := [zone for zone in rule.in_ if zone in clouds]):
            what = f"everything from {found[0]}, that is from every site, is let in to the router itself"
            yield Problem(
                key, what, "name services, or the zones in out: without out, the router is meant too", warning=True
            )
        elif from_outside and rule.in_ and not rule.out:
            what = f"from {from_outside[0]} to anywhere: inner hosts get {' '.join(rule.service)} too"
            yield Problem(key, what, "write out: _fw for the router alone, or name the zones", warning=True)
        elif not rule.in_ and (found := [zone for zone in rule.out if zone not in (*beyond, FIREWALL)]):
            what = (
                f"{' '.join(rule.service) or 'everything'} from anywhere, {INTERNET} too, is let through to {found[0]}"
            )
            yield Problem(key, what, "name the zones it comes from under in", warning=True)


def guests(network: Network) -> Iterator[Problem]:
    """internet-only is a promise, also where a zone of the policy has such a network in it."""
    policy = network.policy or Policy()
    names, prefixes = networks_of(network, NOT_ANNOUNCED)
    theirs = tuple(dict.fromkeys((*([NOT_ANNOUNCED] if names else []), *zones_with(policy, names, prefixes))))
    allowed = outside(policy) | {FIREWALL}
    for key, rule in _meant(policy):
        come = [zone for zone in rule.in_ or theirs if zone in theirs or zone == NOT_ANNOUNCED]
        elsewhere = rule.source and prefixes and not meet(prefixes, rule.source)
        if rule.action is not Action.ACCEPT or not come or elsewhere:
            continue
        beyond = [zone for zone in rule.out if zone not in allowed]
        if beyond or not rule.out:
            who = come[0] if come[0] == NOT_ANNOUNCED else f"{come[0]}, and with it {NOT_ANNOUNCED},"
            what = f"{who} reaches {beyond[0] if beyond else 'anywhere'}: a network in this zone is to meet nothing but"
            fix = "put the network in another zone, or leave it out of this rule"
            yield Problem((*key, "in"), f"{what} the Internet", fix, warning=True)


def zones_that_reach_nothing(network: Network) -> Iterator[Problem]:
    """With defaults of the file's own, a zone that no rule begins in is shut in."""
    policy = with_default(network)
    if policy is None:
        return
    rules = [rule for _, rule in _meant(policy) if rule.action is Action.ACCEPT and rule.out != (FIREWALL,)]
    for zone in network_zones(network):
        if not any(not rule.in_ or zone in rule.in_ for rule in rules):
            what = f"no rule lets zone {zone} reach any other zone"
            yield Problem(("policy", "default"), what, f"add one such as {{in: {zone}, out: {INTERNET}}}", warning=True)


SHADOWS_LOOKED_FOR = 1000


def shadows(network: Network) -> Iterator[Problem]:
    """A rule that an earlier one has decided already."""
    before: list[tuple[Key, Rule]] = []
    for key, rule in list(_meant(network.policy or Policy()))[:SHADOWS_LOOKED_FOR]:
        covering = next((where for where, other in before if _covers(other, rule)), None)
        if covering is not None:
            what = f"no packet comes here: policy.{covering[1]}[{covering[2]}] has decided what this rule means"
            yield Problem(key, what, "put it before that one, or remove it", warning=True)
        if rule.action is not Action.PASS:
            before.append((key, rule))


def _covers(one: Rule, other: Rule) -> bool:
    """Whether the first decides every packet of the second. It may say no where that is so."""
    return (
        _wider(one.in_, other.in_)
        and _wider(one.out, other.out)
        and _wider(one.service, other.service)
        and one.source in ((), other.source)
        and one.destination in ((), other.destination)
        and one.source_set in (None, other.source_set)
        and one.destination_set in (None, other.destination_set)
    )


def _wider(one: tuple[str, ...], other: tuple[str, ...]) -> bool:
    return not one or (bool(other) and set(other) <= set(one))


CHECKS = (
    openness,
    guests,
    zones_that_reach_nothing,
    shadows,
)
