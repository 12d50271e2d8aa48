"""What the kernel says of a tunnel device, on a real one."""

from collections.abc import Callable
from ipaddress import ip_address, ip_interface

import pytest

from dmvpn.errors import Fault
from dmvpn.linux.neighbours import LinkForm
from dmvpn.linux.overlay_device import nbma_of_neighbour, overlay_device, own_link_local

pytestmark = pytest.mark.kernel
PEER = ip_address("10.255.1.1")
NBMA = ip_address("100.64.0.1")


def test_a_tap_has_addresses_and_no_nbma_of_its_own(netns: None, ip: Callable[..., str]) -> None:
    ip("tuntap", "add", "mode", "tap", "name", "acme-blue")
    ip("address", "add", "10.255.1.11/24", "dev", "acme-blue")
    ip("address", "add", "2001:db8::11/64", "dev", "acme-blue", "nodad")
    ip("address", "add", "192.0.2.1/24", "dev", "lo")
    found = overlay_device("acme-blue")
    assert (found.form, found.nbma) == (LinkForm.TAP, None)
    assert {ip_interface("10.255.1.11/24"), ip_interface("2001:db8::11/64")} <= set(found.addresses)
    assert ip_interface("192.0.2.1/24") not in found.addresses
    assert own_link_local("acme-blue") is None
    ip("address", "add", "fe80::11/64", "dev", "acme-blue", "nodad")
    assert own_link_local("acme-blue") == ip_address("fe80::11")


def test_a_neighbour_s_mac_spells_where_it_is(netns: None, ip: Callable[..., str]) -> None:
    ip("tuntap", "add", "mode", "tap", "name", "acme-blue")
    ip("link", "set", "acme-blue", "up")
    assert nbma_of_neighbour("acme-blue", PEER) is None
    ip("neighbour", "add", str(PEER), "lladdr", "02:00:64:40:00:01", "dev", "acme-blue", "nud", "permanent")
    assert nbma_of_neighbour("acme-blue", PEER) == NBMA


def test_a_device_that_is_not_there_is_named(netns: None) -> None:
    with pytest.raises(Fault, match="acme-blue"):
        overlay_device("acme-blue")
