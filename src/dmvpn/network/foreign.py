"""The part of a foreign router, in the words of a Plan: what a vendor's renderer and the lab need of it."""

from collections.abc import Mapping
from dataclasses import replace

from dmvpn.errors import WrongInput
from dmvpn.network import plan
from dmvpn.network.clouds import planned_cloud
from dmvpn.network.compile import planned_ike
from dmvpn.network.loading import NO_SECRETS
from dmvpn.network.model import Network
from dmvpn.network.places import NHRPD, Member, announced, hubs, places
from dmvpn.network.plan import ForeignPlan, Plane
from dmvpn.network.ports import planned_lans, planned_uplinks
from dmvpn.network.registry import registry
from dmvpn.network.vouched import reachable_addresses


def nhrpd_routers(network: Network) -> tuple[str, ...]:
    """The foreign routers that a machine with FRR can play, in the file's order."""
    return tuple(place.name for place in places(network) if place.router.platform in NHRPD)


def compile_foreign(network: Network, router: str, *, secrets: Mapping[str, bytes] = NO_SECRETS) -> ForeignPlan:
    """The part of one foreign router of a checked network. Raises WrongInput for any other router."""
    place = next((place for place in places(network) if place.name == router and not place.ours), None)
    if place is None:
        raise WrongInput(network.network, f"no foreign router is called {router}")
    members = tuple(Member(place, cloud, tunnel) for cloud, tunnel in place.router.tunnels.items())
    return ForeignPlan(
        network=network.network,
        domain=network.domain,
        router=router,
        site=place.site_name,
        platform=place.router.platform,
        asn=place.site.asn or 0,
        prefixes=network.prefixes,
        transport=min(members[0].tunnel.address, key=lambda address: address.version),
        transport_range=network.transport,
        serves=announced(place),
        uplinks=planned_uplinks(network.network, place, {}),
        lans=planned_lans(place),
        clouds=tuple(_cloud(network, member, secrets) for member in members),
        ike=planned_ike(network, place),
        registry=registry(network.network),
        openings=(),
        not_rendered=(),
    )


def _cloud(network: Network, member: Member, secrets: Mapping[str, bytes]) -> plan.Cloud:
    """Every hub by the address that the underlay knows: a foreign router never hears of transport addresses."""
    planned = planned_cloud(network, member, Plane.KERNEL, secrets)
    cloud = network.clouds[member.cloud]
    outside = {hub.place.name: reachable_addresses(cloud, hub) for hub in hubs(network, member.cloud)}
    return replace(
        planned,
        hubs=tuple(replace(hub, nbma=outside[hub.router][0]) for hub in planned.hubs if outside[hub.router]),
        underlay_address=next(iter(reachable_addresses(cloud, member)), None),
    )
