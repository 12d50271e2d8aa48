"""Which way bgpd takes when there are several: route-maps between hubs, and between clouds. FRR manual, "Route Maps".

Of one router's own clouds the rank decides, which follows from the file's `bandwidth`: in bgpd by local preference,
and between the daemons, in zebra, by administrative distance; ripngd alone has none but its own 120.
"""

from collections.abc import Iterator

from dmvpn.network.plan import Cloud, Plan, Role
from dmvpn.render import frr_lists
from dmvpn.render.words import word

PREFERENCE, PREFERENCE_STEP = 200, 10  # local preference of rank 0, and how much less each next one has
DISTANCE, DISTANCE_STEP = 20, 10  # administrative distance, likewise: 20 is FRR's own of eBGP
LAST_RANK = 16  # beyond it ranks are alike: always before the site's other routers (distance 200)
# The figure of Alpine's page: by another hub a way counts as so much longer: the hub that a spoke called is taken.
HUB_METRIC = 100
COMMUNITY_AS = 65000  # of the communities that tell a hub's clouds apart; the other half is the cloud's NFLOG group


TAKEN = f"{COMMUNITY_AS}:1"  # what a hub announces of another cloud by `redistribute`
TAKEN_LIST = "dmvpn-taken"
TAKEN_DISTANCE, TAKEN_PREFERENCE = 210, 40  # after every way of one's own clouds and of the site


def distance(cloud: Cloud) -> int | None:
    """The administrative distance of what this cloud's protocol brings; None: FRR's own."""
    return None if cloud.rank is None else DISTANCE + DISTANCE_STEP * min(cloud.rank, LAST_RANK)


def route_maps(plan: Plan) -> Iterator[str]:
    """Those that from_peers(), from_hubs() and to_peers() name."""
    if any(cloud.bgp is not None and cloud.rank is not None for cloud in plan.clouds):
        yield f"bgp community-list standard {TAKEN_LIST} permit {TAKEN}"
    for cloud in plan.clouds:
        if cloud.bgp is None:
            continue
        if cloud.bgp.beside:
            yield f"bgp community-list standard {_tagged(cloud.name)} permit {COMMUNITY_AS}:{cloud.nflog_group}"
        if cloud.rank is not None:
            taken = [f" set local-preference {TAKEN_PREFERENCE}", f" set distance {TAKEN_DISTANCE}"]
            yield from frr_lists.permit(
                _from_peers(cloud), 5, [f" match community {TAKEN_LIST}", *taken, *_next_hop(cloud)]
            )
        if _chooses(cloud):
            yield from frr_lists.permit(_from_peers(cloud), 10, _chosen(cloud))
        if cloud.role is Role.HUB and cloud.bgp.neighbors:
            yield from frr_lists.permit(_from_hubs(cloud), 10, [f" set metric +{HUB_METRIC}", *_chosen(cloud)])
        others = _kept_out(cloud)
        for number, other in enumerate(others, start=1):
            yield from (f"route-map {_to_peers(cloud)} deny {10 * number}", f" match community {_tagged(other)}")
            yield "exit"
        if others:
            yield from frr_lists.permit(_to_peers(cloud), 10 * len(others) + 10, [])


def from_peers(cloud: Cloud, at: str) -> Iterator[str]:
    """For a neighbour in an address family: what its routes count."""
    if _chooses(cloud):
        yield f"{at} route-map {_from_peers(cloud)} in"


def from_hubs(cloud: Cloud, at: str) -> Iterator[str]:
    """The same between two hubs, where a way counts as longer."""
    yield f"{at} route-map {_from_hubs(cloud)} in"
    yield from to_peers(cloud, at)


def to_peers(cloud: Cloud, at: str) -> Iterator[str]:
    """For a neighbour of a hub that is in several clouds: it hears of its own cloud, and of what that one takes."""
    if _kept_out(cloud):
        yield f"{at} route-map {_to_peers(cloud)} out"


def _chooses(cloud: Cloud) -> bool:
    return cloud.rank is not None or (cloud.bgp is not None and bool(cloud.bgp.beside)) or any(_next_hop(cloud))


def _next_hop(cloud: Cloud) -> Iterator[str]:
    """Of a next hop's two addresses (RFC 2545 3) bgpd would take the link-local one, which NHRP does not resolve."""
    if any(address.version == 6 for address in cloud.addresses):
        yield " set ipv6 next-hop prefer-global"


def _chosen(cloud: Cloud) -> Iterator[str]:
    yield from _next_hop(cloud)
    if cloud.rank is not None:
        yield f" set local-preference {PREFERENCE - PREFERENCE_STEP * min(cloud.rank, LAST_RANK)}"
        yield f" set distance {distance(cloud)}"
    if cloud.bgp is not None and cloud.bgp.beside:
        yield f" set community {COMMUNITY_AS}:{cloud.nflog_group} additive"


def _kept_out(cloud: Cloud) -> list[str]:
    """The clouds whose routes must not get into this one."""
    if cloud.bgp is None or cloud.role is not Role.HUB:
        return []
    return [name for name in cloud.bgp.beside if name not in cloud.redistributes]


def _tagged(cloud: str) -> str:
    return f"{word(cloud, 'cloud')}-routes"


def _from_peers(cloud: Cloud) -> str:
    return f"{word(cloud.name, 'cloud')}-in"


def _from_hubs(cloud: Cloud) -> str:
    return f"{word(cloud.name, 'cloud')}-hubs-in"


def _to_peers(cloud: Cloud) -> str:
    return f"{word(cloud.name, 'cloud')}-out"
