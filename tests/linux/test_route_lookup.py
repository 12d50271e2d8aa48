"""The kernel's own answer to where a packet goes, in both families."""

from collections.abc import Callable, Iterator
from ipaddress import ip_address, ip_network

import pytest

from dmvpn.linux.netlink import Requests
from dmvpn.linux.route_lookup import lookup
from dmvpn.linux.routes import TABLE_MAIN, RouteKind

pytestmark = pytest.mark.kernel
Run = Callable[..., str]


@pytest.fixture
def requests() -> Iterator[Requests]:
    with Requests() as opened:
        yield opened


@pytest.mark.parametrize(
    ("route", "gateway", "destination"),
    [
        ("10.2.0.0/16", "10.255.1.1", "10.2.3.4"),
        ("fd00:1:2::/64", "fd00:255:1::1", "fd00:1:2::34"),
        ("fd00:1:2::/64", "fe80::1", "fd00:1:2::34"),
    ],
)
def test_the_matched_route_is_told(
    tap: str, ip: Run, requests: Requests, open_tap: Callable[[str], int], route: str, gateway: str, destination: str
) -> None:
    open_tap(tap)
    ip("address", "add", "fe80::11/64", "dev", tap, "nodad")
    ip("route", "add", route, "via", gateway, "dev", tap, "onlink", "metric", "20", "protocol", "ospf")
    row = lookup(requests, ip_address(destination))
    assert row is not None
    assert (row.prefix, row.kind, row.device) == (ip_network(route), RouteKind.UNICAST, tap)
    assert (str(row.gateway), row.table, row.protocol, row.metric) == (gateway, TABLE_MAIN, 188, 20)


@pytest.mark.parametrize(("route", "destination"), [("10.0.0.0/8", "10.9.9.9"), ("fd00::/16", "fd00:9::9")])
def test_no_way_is_none_and_unreachable_is_no_way(
    netns: None, ip: Run, requests: Requests, route: str, destination: str
) -> None:
    assert lookup(requests, ip_address(destination)) is None
    ip("route", "add", "unreachable", route)
    assert lookup(requests, ip_address(destination)) is None
