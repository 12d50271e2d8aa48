"""The way to peers' transport addresses: our own address as source, in the main table, and nothing to anybody else."""

from collections.abc import Callable, Iterator
from ipaddress import ip_address, ip_network

import pytest

from dmvpn.errors import Fault
from dmvpn.linux.routewatch import BestRoute, RouteWatch
from dmvpn.linux.transport_routes import TransportRoutes, is_transport_route

OWN = ip_address("100.64.0.11")
PEER = "100.64.0.12"
REACH = ip_network("100.64.0.0/16")
Run = Callable[..., str]


@pytest.fixture
def routes(netns: None, ip: Run) -> Iterator[TransportRoutes]:
    ip("address", "add", f"{OWN}/32", "dev", "lo")
    ip("route", "add", "unreachable", str(REACH), "metric", "4278198272", "proto", "79")
    for tunnel, far in (("tunnel0", "far0"), ("tunnel1", "far1")):
        ip("link", "add", tunnel, "type", "veth", "peer", "name", far)
        for device in (tunnel, far):
            ip("link", "set", device, "up")
    with TransportRoutes(REACH, 79, OWN, ("tunnel0", "tunnel1")) as opened:
        yield opened


@pytest.mark.kernel
def test_a_peer_is_reached_from_our_own_transport_address(routes: TransportRoutes, ip: Run) -> None:
    assert "unreachable" in ip("route", "show", str(REACH))
    assert routes.missing() == ("tunnel0", "tunnel1")
    routes.install()
    routes.install()
    assert f"{PEER} dev tunnel0 src {OWN}" in ip("route", "get", PEER)
    assert routes.missing() == ()
    assert ip("rule").count("\n") == 3, "a rule would cost each packet"


@pytest.mark.kernel
def test_without_a_device_it_is_a_fault_and_the_other_has_its_route(routes: TransportRoutes, ip: Run) -> None:
    ip("link", "del", "tunnel0")
    with pytest.raises(Fault, match=r"tunnel0: there is no such network device here"):
        routes.install()
    assert routes.missing() == ("tunnel0",)
    assert f"{PEER} dev tunnel1 src {OWN}" in ip("route", "get", PEER)


@pytest.mark.kernel
def test_the_tunnels_mtu_does_not_limit_what_carries_it(routes: TransportRoutes, ip: Run) -> None:
    ip("link", "set", "tunnel0", "mtu", "1400")
    routes.install()
    assert "mtu 65520" in ip("route", "show", str(REACH), "dev", "tunnel0")


@pytest.mark.kernel
def test_what_goes_down_with_one_tunnel_goes_on_by_the_other(routes: TransportRoutes, ip: Run) -> None:
    routes.install()
    ip("link", "set", "tunnel0", "down")
    assert f"{PEER} dev tunnel1 src {OWN}" in ip("route", "get", PEER)
    with pytest.raises(Fault, match=r"route 100\.64\.0\.0/16 dev tunnel0"):
        routes.install()
    ip("link", "set", "tunnel0", "up")
    routes.install()
    assert f"{PEER} dev tunnel0 src {OWN}" in ip("route", "get", PEER)
    for tunnel in ("tunnel0", "tunnel1"):
        ip("link", "set", tunnel, "down")
    assert ip("route", "show", str(REACH)).startswith("unreachable")


@pytest.mark.kernel
def test_what_somebody_took_comes_back_and_nobody_hears_of_it_otherwise(routes: TransportRoutes, ip: Run) -> None:
    routes.install()
    watch = RouteWatch(without=lambda row: False)
    watch.start()
    routes.restore()
    ip("route", "add", "10.9.0.0/16", "dev", "tunnel0")  # so that there is something to hear
    assert [event.row.prefix for event in watch.read() if isinstance(event, BestRoute)] == [ip_network("10.9.0.0/16")]
    ip("route", "del", str(REACH), "dev", "tunnel0")
    routes.restore()
    assert routes.missing() == ()
    watch.close()


@pytest.mark.kernel
def test_a_peer_that_something_longer_would_take_gets_a_route_of_its_own(routes: TransportRoutes, ip: Run) -> None:
    """A lease of an uplink in 100.64.0.0/10, RFC 6598, with the network's range around it."""
    peer, other = ip_address("100.64.16.5"), ip_address(PEER)
    ip("link", "add", "wan", "type", "veth", "peer", "name", "isp")
    for device in ("wan", "isp"):
        ip("link", "set", device, "up")
    ip("address", "add", "100.64.17.2/20", "dev", "wan")
    routes.install()
    assert "dev wan" in ip("route", "get", str(peer))
    assert not routes.leads(peer)
    for one in (peer, other):
        routes.lead(one)
    assert f"{peer} dev tunnel0 src {OWN}" in ip("route", "get", str(peer))
    assert ip("route", "show", "proto", "79", "100.64.0.12") == "", "the other needs none"
    assert routes.missing() == ()
    with TransportRoutes(REACH, 79, OWN, ("tunnel0", "tunnel1")) as next_life:
        next_life.leave(peer)
    assert "dev wan" in ip("route", "get", str(peer))
    routes.leave(other)
    ip("rule", "add", "priority", "100", "to", str(peer), "table", "4711")
    ip("route", "add", str(peer), "dev", "wan", "table", "4711")
    with pytest.raises(Fault, match=r"route to 100\.64\.16\.5: leads elsewhere"):
        routes.lead(peer)


@pytest.mark.kernel
def test_who_learns_from_routes_still_sees_the_range_unreachable(routes: TransportRoutes, ip: Run) -> None:
    routes.install()
    watch = RouteWatch(without=lambda row: is_transport_route(row, REACH))
    (best,) = (event for event in watch.start() if isinstance(event, BestRoute) and event.row.prefix == REACH)
    assert best.row.kind.name == "UNREACHABLE"
    watch.close()
