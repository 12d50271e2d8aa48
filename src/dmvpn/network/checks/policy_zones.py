"""What the checks of the zone policy ask of zones: which have which networks in them, and which lead outside."""

from collections.abc import Set
from itertools import product

from dmvpn.network.model import Network
from dmvpn.network.places import overlapping
from dmvpn.network.plan import Network as Prefix
from dmvpn.network.policy_model import Policy
from dmvpn.network.zoning import DEVICES, INTERNET, VPN


def with_default(network: Network) -> Policy | None:
    """The policy, if what no rule decides is the file's own to say."""
    policy = network.policy
    return policy if policy is not None and "default" in policy.model_fields_set and not policy.awall else None


def networks_of(network: Network, zone: str) -> tuple[Set[str], tuple[Prefix, ...]]:
    """Names and prefixes of a zone's networks, at whatever site: several may have one of the same name."""
    found = [(name, net) for site in network.sites.values() for name, net in site.networks.items() if net.zone == zone]
    return {name for name, _ in found}, tuple(prefix for _, net in found for prefix in net.prefix)


def zones_with(policy: Policy, names: Set[str], prefixes: tuple[Prefix, ...]) -> tuple[str, ...]:
    """Zones of the policy that have these networks in them, by name or, where they name no device, by prefix."""
    return tuple(
        name
        for name, zone in policy.zones.items()
        if names & set(zone.networks) or (zone.model_fields_set.isdisjoint(DEVICES) and meet(prefixes, zone.prefixes))
    )


def meet(some: tuple[Prefix, ...], others: tuple[Prefix, ...]) -> bool:
    return any(overlapping(one, other) for one, other in product(some, others))


def outside(policy: Policy) -> set[str]:
    return {INTERNET, *(name for name, zone in policy.zones.items() if zone.uplinks)}


def overlays(policy: Policy) -> set[str]:
    return {VPN, *(name for name, zone in policy.zones.items() if zone.clouds)}
