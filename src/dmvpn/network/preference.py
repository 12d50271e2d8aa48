"""Which of several clouds a site takes: the one to which the file gives the highest bandwidth.

The same on every router of a site, and the same from a slice of the file, which has all clouds of its site.
"""

from collections.abc import Collection

from dmvpn.network.model import Network, Site
from dmvpn.network.places import Member


def site_clouds(site: Site) -> tuple[str, ...]:
    """The clouds of all its routers, in the order in which the file has them there."""
    return tuple(dict.fromkeys(cloud for router in site.routers.values() for cloud in router.tunnels))


def chooses(network: Network, clouds: Collection[str]) -> bool:
    """Whether there is something to choose between, and the file says how."""
    known = [network.clouds[name] for name in clouds if name in network.clouds]
    return len(known) > 1 and any(cloud.bandwidth is not None for cloud in known)


def rank(network: Network, member: Member) -> int | None:
    """0 for the cloud that the site prefers; None where the file leaves it open. Equals follow the file's order."""
    names = site_clouds(member.place.site)
    if not chooses(network, names):
        return None
    order = [name for name in network.clouds if name in names]
    return sorted(order, key=lambda name: -(network.clouds[name].bandwidth or 0)).index(member.cloud)
