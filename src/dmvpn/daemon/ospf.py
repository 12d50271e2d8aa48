"""What our own FRR says of OSPF's neighbours: a hub that is up, and yet no full neighbour."""

import asyncio

from dmvpn.daemon.cloud import Cloud
from dmvpn.daemon.control import SEVERE, WARNING, Trouble
from dmvpn.daemon.node import Node
from dmvpn.errors import Fault
from dmvpn.linux import vtysh
from dmvpn.nhrp.events import Address
from dmvpn.nhrp.view import HubRow

SETTLES_S = 60.0  # two hellos, the exchange, and a retransmission or two
NAMED = 5


async def troubles(node: Node) -> tuple[Trouble, ...]:
    """Of clouds that OSPF routes; none where it is as it should be."""
    clouds = [cloud for cloud in node.clouds.values() if cloud.settings.routing == "ospf"]
    if not clouds:
        return ()
    try:
        rows = await asyncio.to_thread(vtysh.ospf_neighbours, node.settings.paths.frr_run)
    except Fault as fault:
        return (Trouble(WARNING, f"OSPF cannot be asked: {fault}", "dmvpn run"),)
    full = {(row.device, row.address) for row in rows if row.full}
    missing = []
    for cloud in clouds:
        met = {cloud.overlay_of(address) for device, address in full if device == cloud.settings.device}
        for hub in cloud.engine.view(node.now()).hubs:
            if hub.is_up and (hub.age_s or 0) >= SETTLES_S:
                missing += [f"{hub.name} ({address})" for address in _common(cloud, hub) if address not in met]
    if not missing:
        return ()
    words = ", ".join(missing[:NAMED]) + (", ..." if len(missing) > NAMED else "")
    severity = WARNING if full else SEVERE
    return (Trouble(severity, f"OSPF with {words} has no full adjacency", "dmvpn doctor"),)


def _common(cloud: Cloud, hub: HubRow) -> list[Address]:
    """The hub's addresses of families that this router has, too."""
    own = {address.version for address in cloud.settings.addresses}
    return [address for address in hub.protocol if address.version in own]
