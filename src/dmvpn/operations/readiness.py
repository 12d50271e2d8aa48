"""Whether a router of a lab carries packets: its hubs, and what its routing protocols have brought. Runs inside it."""

from ipaddress import ip_address
from pathlib import Path

from dmvpn.linux import routes, vtysh
from dmvpn.linux.netlink import Requests, family_of
from dmvpn.linux.routewatch import OSPF_ROUTES
from dmvpn.operations import here, observing


def has_routes() -> bool:
    """Inside a router: all hubs up, and every neighbour of its routing protocols has brought something."""
    for network in here.networks():
        router = here.find(network)
        found = observing.status(router)
        hubs = all(hub.state == "up" for hub in found.hubs)
        sessions = all(row["state"] == "Established" and row["prefixes"] for row in found.bgp)
        run = Path(router.layout.frr_run)
        # A family that nobody else of the cloud has finds no neighbour.
        shared = {ip_address(text).version for peer in found.peers for text in peer.overlay.split()}
        spoken = vtysh.ospf_versions(run) & shared
        rip = vtysh.rip_versions(run) & shared
        if not hubs or not sessions or not _ospf_has_come(run, spoken) or not (found.bgp or spoken or rip):
            return False
        # Not the kernel's routes: of a family in which no other site has a network there are none.
        if not rip <= {source.address.version for source in vtysh.rip_sources(run)}:
            return False
    return True


def _ospf_has_come(run: Path, versions: frozenset[int]) -> bool:
    """Of each family: neighbours, all of them full, and a route in the kernel."""
    neighbours = vtysh.ospf_neighbours(run)
    if not versions <= {one.address.version for one in neighbours} or not all(one.full for one in neighbours):
        return False
    return _kernel_has(OSPF_ROUTES, versions)


def _kernel_has(protocol: int, versions: frozenset[int]) -> bool:
    """Whether it has routes by that protocol of each family."""
    with Requests() as requests:
        found = (routes.dump(requests, family_of(version), routes.TABLE_MAIN) for version in versions)
        return all(any(row.protocol == protocol for row in rows) for rows in found)
