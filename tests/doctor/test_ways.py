"""Where a packet is sent that tries the way to a peer: what dmvpnd says of its endpoint, read again."""

from dataclasses import replace
from ipaddress import ip_address

import pytest
from test_checks import patient, peer, status

from dmvpn.daemon.control import State
from dmvpn.daemon.orders import Remote
from dmvpn.daemon.views import _endpoint
from dmvpn.doctor.path_mtu import _ways
from dmvpn.doctor.patient import Target
from dmvpn.network.plan import Address


@pytest.mark.parametrize(
    ("remote", "written", "asked"),
    [
        (Remote("198.51.100.6", 1024), "198.51.100.6:1024", (ip_address("198.51.100.6"), 1024)),
        (Remote("198.51.100.6", 0), "198.51.100.6", (ip_address("198.51.100.6"), 4500)),
        (Remote("2001:db8::1", 4500), "[2001:db8::1]:4500", (ip_address("2001:db8::1"), 4500)),
        (Remote("2001:db8::1", 0), "2001:db8::1", (ip_address("2001:db8::1"), 4500)),
        (Remote("2001:db8:1:2:3:4:5:6", 500), "[2001:db8:1:2:3:4:5:6]:500", (ip_address("2001:db8:1:2:3:4:5:6"), 500)),
        (Remote("osl1.example.net", 4500), "osl1.example.net:4500", None),
    ],
)
def test_the_way_to_a_peer_is_to_where_dmvpnd_sees_it(
    remote: Remote, written: str, asked: tuple[Address, int] | None
) -> None:
    assert _endpoint(remote) == written
    row = replace(peer("osl1", State.DIRECT), endpoint=written)
    target = Target("osl1", "osl1", ip_address("10.1.2.1"))
    ways = _ways(patient(status=status(peers=(row,)), target=target))
    assert [(one.address, one.port) for one in ways if one.router == "osl1"] == ([] if asked is None else [asked])
