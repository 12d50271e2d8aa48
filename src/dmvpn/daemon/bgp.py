"""What our own FRR says of its neighbours: sessions, what is missing, and what its filters and OPEN checks refused."""

import asyncio
from collections import Counter
from collections.abc import Mapping
from ipaddress import ip_address
from typing import Any

from dmvpn.daemon.cloud import Cloud
from dmvpn.daemon.control import SEVERE, WARNING, Trouble
from dmvpn.daemon.node import Node
from dmvpn.errors import Fault
from dmvpn.linux import vtysh
from dmvpn.linux.vtysh import BgpPeer
from dmvpn.nhrp.cache import BindingKind

ESTABLISHED = "Established"
SETTLES_S = 20.0
FILTER = "-from-"  # CLOUD-from-ADDRESS, as the renderer names what is taken from one neighbour


async def sessions(node: Node) -> tuple[tuple[dict[str, Any], ...], tuple[Trouble, ...]]:
    """Rows of those who are here, and what is wrong with them. A hub also knows spokes that are away."""
    try:
        rows = await asyncio.to_thread(vtysh.bgp_peers, node.settings.paths.frr_run, vtysh.SOON_S)
    except Fault as fault:
        return (), (Trouble.unasked("BGP", fault),)
    if not rows and _speaks(node) and not vtysh.is_served(node.settings.paths.frr_run, "bgpd"):
        return (), (Trouble(WARNING, "BGP cannot be asked: bgpd does not run", "dmvpn run"),)
    missing = _missing(node, rows)
    partners = _partners(node, rows)
    here = _clients(node, settled_s=0.0) | {str(one) for cloud in _clouds(node) for one in _hubs(cloud)} | partners
    named = tuple(
        {"address": str(one.address), "asn": one.asn, "state": one.state, "prefixes": one.prefixes}
        for one in rows
        if one.state == ESTABLISHED or str(one.address) in here
    )
    found = []
    if node.learned.trouble:
        found.append(Trouble(SEVERE, f"BGP does not know what was learned: {node.learned.trouble}", "dmvpn apply"))
    if missing:
        stands = any(one.state == ESTABLISHED and str(one.address) not in partners for one in rows)
        severity = WARNING if stands else SEVERE
        words = ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else "")
        found.append(Trouble(severity, f"BGP with {words} is not established", "dmvpn peers"))
    silent = [str(one.address) for one in rows if str(one.address) in partners and one.state != ESTABLISHED]
    if silent:
        what = (
            f"BGP with {', '.join(silent)}, of this site, is not established: the ways of its clouds are not known here"
        )
        found.append(Trouble(WARNING, what, "dmvpn doctor"))
    return named, tuple(found)


async def refusals(node: Node) -> dict[str, Mapping[str, int]]:
    """Of each cloud where this router is the hub: prefixes that no certificate allowed, and OPENs with another AS."""
    if not node.settings.learned_unit:
        return {}
    run = node.settings.paths.frr_run
    try:
        denied = await asyncio.to_thread(vtysh.denied_prefixes, run, vtysh.SOON_S)
        log = run.parent / "log" / f"dmvpn-{node.settings.network}-bgpd.log"
        wrong = await asyncio.to_thread(vtysh.wrong_as, log)
    except Fault:
        return {}  # a trouble already
    found: dict[str, Counter[str]] = {cloud.settings.name: Counter() for cloud in _clouds(node)}
    for name, count in denied.items():
        cloud_name, filters, _ = name.partition(FILTER)
        if filters and cloud_name in found:
            found[cloud_name]["bgp prefix"] += count
    for address, count in wrong.items():
        for cloud in _clouds(node):
            if any(address in net for net in cloud.settings.overlay if net.version == address.version):
                found[cloud.settings.name]["bgp asn"] += count
    return dict(found)


def _partners(node: Node, rows: tuple[BgpPeer, ...]) -> set[str]:
    """Routers of this site: their sessions are over its network, all others are over a cloud."""
    overlays = [net for cloud in _clouds(node) for net in cloud.settings.overlay]
    return {str(one.address) for one in rows if not any(one.address in net for net in overlays)}


def _missing(node: Node, rows: tuple[BgpPeer, ...]) -> list[str]:
    """Who should have a session and has none: hubs, and clients that have been registered for a while."""
    speaking = {str(one.address) for one in rows if one.state == ESTABLISHED}
    hubs = {str(one.address) for one in rows} & {str(one) for cloud in _clouds(node) for one in _hubs(cloud)}
    wanted = sorted(hubs | _clients(node, settled_s=SETTLES_S), key=lambda text: (":" in text, int(ip_address(text))))
    return [address for address in wanted if address not in speaking]


def _clients(node: Node, *, settled_s: float) -> set[str]:
    return {
        str(row.protocol)
        for cloud in _clouds(node)
        if cloud.settings.routing == "bgp"
        for row in cloud.engine.view(node.now()).bindings
        if row.kind is BindingKind.REGISTERED and row.bound and (row.age_s or 0) >= settled_s
    }


def _speaks(node: Node) -> bool:
    return any(cloud.settings.routing == "bgp" for cloud in _clouds(node))


def _clouds(node: Node) -> tuple[Cloud, ...]:
    return tuple(node.clouds.values())


def _hubs(cloud: Cloud) -> tuple[Any, ...]:
    return tuple(address for hub in cloud.settings.hubs for address in hub.overlay)
