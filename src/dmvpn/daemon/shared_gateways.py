"""The gateways that this site's routers share, as the kernel and the tracked file have them."""

from ipaddress import ip_network

from dmvpn.daemon.control import GatewayRow
from dmvpn.daemon.node import Node
from dmvpn.errors import Fault
from dmvpn.linux import files
from dmvpn.linux.routes import TABLE_LOCAL


def rows(node: Node) -> tuple[GatewayRow, ...]:
    """Empty for a router that shares none. Whoever has a gateway has its address, whatever VRRP's daemon says."""
    vrrp = node.settings.vrrp
    if vrrp is None:
        return ()
    try:
        less = int(files.read_text(vrrp.track, limit_octets=64))
    except (Fault, ValueError):
        less = 0
    found = []
    for gateway in vrrp.gateways:
        local = node.routewatch.best(ip_network(gateway.address))
        here = local is not None and local.table == TABLE_LOCAL
        offers = max(1, vrrp.priority + less)
        found.append(
            GatewayRow(gateway.network, gateway.device, str(gateway.address), here, offers=offers, usual=vrrp.priority)
        )
    return tuple(found)
