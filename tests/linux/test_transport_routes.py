"""Routes to peers with an SA: our own address as source, and gone without a trace."""

from collections.abc import Callable, Iterator
from ipaddress import ip_address

import pytest

from dmvpn.errors import Fault
from dmvpn.linux.transport_routes import TransportRoutes

OWN = ip_address("100.64.0.11")
HUB = ip_address("100.64.0.1")
PEER = ip_address("100.64.0.12")
Run = Callable[..., str]


@pytest.fixture
def routes(netns: None, ip: Run) -> Iterator[TransportRoutes]:
    ip("address", "add", f"{OWN}/32", "dev", "lo")
    ip("route", "add", "unreachable", "100.64.0.0/16", "metric", "4294967294")
    for tunnel, far in (("tunnel0", "far0"), ("tunnel1", "far1")):
        ip("link", "add", tunnel, "type", "veth", "peer", "name", far)
        for device in (tunnel, far):
            ip("link", "set", device, "up")
    ip("rule", "add", "pref", "220", "table", "220")
    with TransportRoutes(220, 79, OWN, ("tunnel0", "tunnel1")) as opened:
        yield opened


@pytest.mark.kernel
def test_a_peer_is_reached_from_our_own_transport_address(routes: TransportRoutes, ip: Run) -> None:
    routes.install(HUB)
    routes.install(HUB)
    routes.install(PEER)
    assert f"dev tunnel0 table 220 src {OWN}" in ip("route", "get", str(HUB))
    assert routes.peers() == {HUB, PEER}


@pytest.mark.kernel
def test_without_its_route_a_peer_is_unreachable(routes: TransportRoutes, ip: Run) -> None:
    routes.install(HUB)
    routes.remove(HUB)
    routes.remove(HUB)
    assert routes.peers() == frozenset()
    assert "unreachable" in ip("route", "show", "100.64.0.0/16")
    assert "220" not in ip("route", "show", "table", "all", "proto", "79")


@pytest.mark.kernel
def test_routes_of_others_in_that_table_are_left_alone(routes: TransportRoutes, ip: Run) -> None:
    ip("route", "add", f"{PEER}/32", "dev", "lo", "table", "220")
    assert routes.peers() == frozenset()


@pytest.mark.kernel
def test_without_the_device_it_is_a_fault(routes: TransportRoutes, ip: Run) -> None:
    ip("link", "del", "tunnel0")
    ip("link", "del", "tunnel1")
    with pytest.raises(Fault, match=r"tunnel0: there is no such network device here"):
        routes.install(HUB)


@pytest.mark.kernel
def test_the_tunnels_mtu_does_not_limit_what_carries_it(routes: TransportRoutes, ip: Run) -> None:
    ip("link", "set", "tunnel0", "mtu", "1400")
    routes.install(HUB)
    assert "mtu 65520" in ip("route", "show", "table", "220")


@pytest.mark.kernel
def test_what_goes_down_with_one_tunnel_goes_on_by_the_other(routes: TransportRoutes, ip: Run) -> None:
    routes.install(HUB)
    ip("link", "set", "tunnel0", "down")
    assert f"dev tunnel1 table 220 src {OWN}" in ip("route", "get", str(HUB))
    with pytest.raises(Fault, match=r"route 100\.64\.0\.1 table 220"):
        routes.install(HUB)
    ip("link", "set", "tunnel0", "up")
    routes.install(HUB)
    assert f"dev tunnel0 table 220 src {OWN}" in ip("route", "get", str(HUB))
    routes.remove(HUB)
    assert "100.64.0.1" not in ip("route", "show", "table", "all", "proto", "79")
