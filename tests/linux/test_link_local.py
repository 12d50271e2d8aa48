"""Link-local addresses of overlay addresses, and back."""

from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dmvpn.linux.link_local import link_local_of, link_locals_of, overlay_of

OVERLAY = (ip_network("10.255.1.0/24"), ip_network("fd00:255:1::/64"))


@pytest.mark.parametrize(
    ("overlay", "link_local"),
    [
        ("fd00:255:1::11", "fe80::11"),
        ("fd00:255:1::a:b:c:d", "fe80::a:b:c:d"),
        ("2001:db8:1:2:ffff:ffff:ffff:fffe", "fe80::ffff:ffff:ffff:fffe"),
    ],
)
def test_the_last_64_bits_stay(overlay: str, link_local: str) -> None:
    assert link_local_of(ip_address(overlay)) == ip_address(link_local)


def test_an_ipv4_address_has_none() -> None:
    assert link_local_of(ip_address("10.255.1.11")) is None


@pytest.mark.parametrize(
    ("address", "meant"),
    [
        pytest.param("fe80::11", "fd00:255:1::11", id="a member's"),
        pytest.param("fd00:255:1::11", "fd00:255:1::11", id="an overlay address is itself"),
        pytest.param("10.255.1.11", "10.255.1.11", id="as an IPv4 one is"),
        pytest.param("169.254.1.1", "169.254.1.1", id="IPv4's link-local ones are not meant"),
        pytest.param("fe80:0:0:1::11", "fe80:0:0:1::11", id="another form of link-local address"),
    ],
)
def test_what_a_next_hop_stands_for(address: str, meant: str) -> None:
    assert overlay_of(ip_address(address), OVERLAY) == ip_address(meant)


def test_an_end_that_no_overlay_has_is_nobody_s() -> None:
    assert overlay_of(ip_address("fe80::1:11"), (ip_network("fd00:255:1::/112"),)) == ip_address("fe80::1:11")
    assert overlay_of(ip_address("fe80::11"), (ip_network("10.255.1.0/24"),)) == ip_address("fe80::11")


def test_only_addresses_of_the_cloud_have_theirs_let_in() -> None:
    claimed = [ip_address(text) for text in ("10.255.1.11", "fd00:255:1::11", "fd00:255:2::12")]
    assert link_locals_of(claimed, OVERLAY) == (ip_network("fe80::11/128"),)
    assert link_locals_of(claimed, ()) == ()


@given(st.integers(0, 2**128 - 1), st.integers(64, 128))
def test_there_and_back(number: int, length: int) -> None:
    address = ip_address(number.to_bytes(16, "big"))
    overlay = ip_network((address, length), strict=False)
    there = link_local_of(address)
    assert there is not None
    if not address.is_link_local:
        assert overlay_of(there, (overlay,)) == address
