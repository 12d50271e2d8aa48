"""What our own FRR says of hubs that are up, and yet no full neighbour of OSPF, or silent in RIP."""

import asyncio
from collections.abc import Mapping

from dmvpn.daemon.cloud import Cloud
from dmvpn.daemon.control import SEVERE, WARNING, Trouble
from dmvpn.daemon.node import Node
from dmvpn.errors import Fault
from dmvpn.linux import vtysh
from dmvpn.nhrp.events import Address
from dmvpn.nhrp.view import HubRow

SETTLES_S = 60.0  # two hellos, the exchange, and a retransmission or two
SILENT_S = 35.0  # RIP tells its routes every ten seconds, and its neighbours take them away after thirty
NAMED = 5


async def troubles(node: Node) -> tuple[Trouble, ...]:
    """None where it is as it should be, or the router speaks neither."""
    return (*await _ospf(node), *await _rip(node))


async def _ospf(node: Node) -> tuple[Trouble, ...]:
    clouds = _routed(node, "ospf")
    if not clouds:
        return ()
    try:
        rows = await asyncio.to_thread(vtysh.ospf_neighbours, node.settings.paths.frr_run, vtysh.SOON_S)
    except Fault as fault:
        return (Trouble.unasked("OSPF", fault),)
    full = {(row.device, row.address) for row in rows if row.full}
    met = {
        name: {cloud.overlay_of(address) for device, address in full if device == cloud.settings.device}
        for name, cloud in clouds.items()
    }
    return _missed(node, clouds, met, "OSPF with {} has no full adjacency")


async def _rip(node: Node) -> tuple[Trouble, ...]:
    clouds = _routed(node, "rip")
    if not clouds:
        return ()
    try:
        rows = await asyncio.to_thread(vtysh.rip_sources, node.settings.paths.frr_run, vtysh.SOON_S)
    except Fault as fault:
        return (Trouble.unasked("RIP", fault),)
    heard = [row.address for row in rows if row.heard_s < SILENT_S]
    # ripngd does not say on which device: whoever ends alike in two clouds of RIP is taken for both.
    met = {name: {cloud.overlay_of(address) for address in heard} for name, cloud in clouds.items()}
    return _missed(node, clouds, met, "{} told of no route by RIP lately")


def _routed(node: Node, routing: str) -> dict[str, Cloud]:
    return {name: cloud for name, cloud in node.clouds.items() if cloud.settings.routing == routing}


def _missed(node: Node, clouds: Mapping[str, Cloud], met: Mapping[str, set[Address]], said: str) -> tuple[Trouble, ...]:
    missing = []
    for name, cloud in clouds.items():
        for hub in cloud.engine.view(node.now()).hubs:
            if hub.is_up and (hub.age_s or 0) >= SETTLES_S:
                missing += [f"{hub.name} ({address})" for address in _common(cloud, hub) if address not in met[name]]
    if not missing:
        return ()
    words = ", ".join(missing[:NAMED]) + (", ..." if len(missing) > NAMED else "")
    severity = WARNING if any(met.values()) else SEVERE
    return (Trouble(severity, said.format(words), "dmvpn doctor"),)


def _common(cloud: Cloud, hub: HubRow) -> list[Address]:
    """The hub's addresses of families that this router has, too."""
    own = {address.version for address in cloud.settings.addresses}
    return [address for address in hub.protocol if address.version in own]
