"""The kernel's best routes as the engine sees them."""

from dmvpn.linux.routes import RouteKind, RouteRow
from dmvpn.nhrp.events import Egress, RouteChanged

UNREACHABLE = (RouteKind.UNREACHABLE, RouteKind.BLACKHOLE, RouteKind.PROHIBIT)


def route_input(row: RouteRow, overlay_device: str) -> RouteChanged:
    """A kernel route as the engine sees it."""
    if row.kind in UNREACHABLE:
        egress = Egress.UNREACHABLE
    elif row.kind is RouteKind.LOCAL:
        egress = Egress.LOCAL
    elif row.device == overlay_device:
        egress = Egress.OVERLAY
    else:
        egress = Egress.ELSEWHERE
    return RouteChanged(row.prefix, egress, row.gateway, row.device or "")
