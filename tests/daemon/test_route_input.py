"""A route of the kernel's as the engine is told of it."""

from functools import partial
from ipaddress import ip_address, ip_network

import pytest

from dmvpn.daemon.route_input import route_input
from dmvpn.linux.link_local import overlay_of
from dmvpn.linux.routes import RouteKind, RouteRow
from dmvpn.nhrp.events import Egress, RouteChanged

OVERLAY = (ip_network("fd00:255:1::/64"),)
SITE = ip_network("fd00:1:12::/64")
HUB, OTHER = ip_address("fd00:255:1::1"), ip_address("fd00:255:1::2")


def row(device: str, gateway: str | None, *more: str, kind: RouteKind = RouteKind.UNICAST) -> RouteRow:
    first = None if gateway is None else ip_address(gateway)
    return RouteRow(SITE, kind, device, first, 254, 188, 20, more=tuple(map(ip_address, more)))


@pytest.mark.parametrize(
    ("found", "told"),
    [
        pytest.param(row("blue", "fe80::1"), (Egress.OVERLAY, HUB, ()), id="a link-local next hop in the cloud"),
        pytest.param(row("blue", "fe80::1", "fe80::2"), (Egress.OVERLAY, HUB, (OTHER,)), id="several"),
        pytest.param(row("blue", "fd00:255:1::1"), (Egress.OVERLAY, HUB, ()), id="one that is its overlay address"),
        pytest.param(row("blue", None), (Egress.OVERLAY, None, ()), id="on link"),
        pytest.param(row("eth1", "fe80::1"), (Egress.ELSEWHERE, ip_address("fe80::1"), ()), id="a router of the LAN"),
        pytest.param(
            row("lo", None, kind=RouteKind.UNREACHABLE), (Egress.UNREACHABLE, None, ()), id="the end of internal ones"
        ),
    ],
)
def test_link_local_next_hops_stand_for_overlay_addresses_in_the_cloud_alone(
    found: RouteRow, told: tuple[object, ...]
) -> None:
    egress, gateway, more = told
    made = route_input(found, "blue", partial(overlay_of, overlay=OVERLAY))
    assert made == RouteChanged(SITE, egress, gateway, found.device, more)
