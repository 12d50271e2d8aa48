"""The kernel's best routes as the engine sees them."""

from collections.abc import Callable

from dmvpn.linux.netlink import Address
from dmvpn.linux.routes import RouteKind, RouteRow
from dmvpn.nhrp.events import Egress, RouteChanged

UNREACHABLE = (RouteKind.UNREACHABLE, RouteKind.BLACKHOLE, RouteKind.PROHIBIT)


def route_input(row: RouteRow, overlay_device: str, overlay_of: Callable[[Address], Address]) -> RouteChanged:
    """A kernel route as the engine sees it. `overlay_of` tells what a link-local gateway on the device stands for."""
    if row.kind in UNREACHABLE:
        egress = Egress.UNREACHABLE
    elif row.kind is RouteKind.LOCAL:
        egress = Egress.LOCAL
    elif row.device == overlay_device:
        egress = Egress.OVERLAY
    else:
        egress = Egress.ELSEWHERE
    gateway, more = row.gateway, row.more
    if gateway is not None and egress is Egress.OVERLAY:
        gateway, more = overlay_of(gateway), tuple(map(overlay_of, more))
    return RouteChanged(row.prefix, egress, gateway, row.device or "", more)
