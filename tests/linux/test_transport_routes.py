"""Routes to peers with an SA: our own address as source, and gone without a trace."""

from collections.abc import Callable, Iterator
from ipaddress import ip_address

import pytest

from dmvpn.errors import Fault
from dmvpn.linux.transport_routes import TransportRoutes

OWN = ip_address("100.64.0.11")
HUB = ip_address("100.64.0.1")
PEER = ip_address("100.64.0.12")
HOST = ip_address("192.0.2.1")
Run = Callable[..., str]


@pytest.fixture
def routes(netns: None, ip: Run) -> Iterator[TransportRoutes]:
    ip("address", "add", f"{OWN}/32", "dev", "lo")
    ip("route", "add", "unreachable", "100.64.0.0/16", "metric", "4294967294")
    ip("link", "add", "wan0", "type", "veth", "peer", "name", "far0")
    for device in ("wan0", "far0"):
        ip("link", "set", device, "up")
    ip("address", "add", "192.0.2.2/24", "dev", "wan0")
    ip("rule", "add", "pref", "220", "table", "220")
    with TransportRoutes(220, 79, OWN) as opened:
        yield opened


@pytest.mark.kernel
def test_a_peer_is_reached_from_our_own_transport_address(routes: TransportRoutes, ip: Run) -> None:
    routes.install(HUB, HOST)
    routes.install(HUB, HOST)
    routes.install(PEER, HOST)
    assert f"dev wan0 table 220 src {OWN}" in ip("route", "get", str(HUB))
    assert routes.peers() == {HUB, PEER}


@pytest.mark.kernel
def test_without_its_route_a_peer_is_unreachable(routes: TransportRoutes, ip: Run) -> None:
    routes.install(HUB, HOST)
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
def test_a_peer_that_nothing_leads_to_is_a_fault(routes: TransportRoutes) -> None:
    with pytest.raises(Fault, match=r"no route leads to 203\.0\.113\.1"):
        routes.install(HUB, ip_address("203.0.113.1"))
