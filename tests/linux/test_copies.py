"""Copies of multicast packets to members: what is sent, and what is not touched."""

import pytest

from dmvpn.linux.copies import with_whole_checksum

V4_UDP = bytes.fromhex("4500001e 00004000 01110000 0a0b0001 e0000009")
V4_OSPF = bytes.fromhex("4500001e 00004000 01590000 0a0b0001 e0000005")
V4_FRAGMENT = bytes.fromhex("4500001e 00000010 01110000 0a0b0001 e0000009")
V4_OPTIONS = bytes.fromhex("4600001e 00004000 01110000 0a0b0001 e0000009 94040000")
V6_ADDRESSES = bytes.fromhex("fe800000000000000000000000000011 ff020000000000000000000000000009")
V6_UDP = bytes.fromhex("60000000 000a 11 ff") + V6_ADDRESSES
V6_ODD = bytes.fromhex("60000000 0009 11 ff") + V6_ADDRESSES
V6_OSPF = bytes.fromhex("60000000 000a 59 01") + V6_ADDRESSES
UDP = bytes.fromhex("0208 0208 000a beef aabb")
UDP_ODD = bytes.fromhex("0208 0208 0009 beef aa")
UNSUMMED = bytes.fromhex("0208 0208 000a 0000 aabb")


@pytest.mark.parametrize(
    ("packet", "sent"),
    [
        pytest.param(V4_UDP + UDP, V4_UDP + UNSUMMED, id="UDP: RIP's is left to a device that never sees it"),
        pytest.param(V4_OPTIONS + UDP, V4_OPTIONS + UNSUMMED, id="UDP behind options"),
        pytest.param(V4_OSPF + UDP, V4_OSPF + UDP, id="OSPF sums itself"),
        pytest.param(V4_FRAGMENT + UDP, V4_FRAGMENT + UDP, id="a later fragment has no header"),
        pytest.param(V4_UDP + UDP[:5], V4_UDP + UDP[:5], id="cut short"),
        pytest.param(
            V6_UDP + UDP, V6_UDP + bytes.fromhex("0208 0208 000a 5371 aabb"), id="over IPv6 there must be one"
        ),
        pytest.param(
            V6_ODD + UDP_ODD, V6_ODD + bytes.fromhex("0208 0208 0009 542e aa"), id="of an odd number of octets"
        ),
        pytest.param(V6_OSPF + UDP, V6_OSPF + UDP, id="OSPF for IPv6 sums itself"),
        pytest.param(V6_UDP + UDP[:5], V6_UDP + UDP[:5], id="cut short, IPv6"),
        pytest.param(b"", b"", id="nothing"),
    ],
)
def test_a_checksum_that_may_be_unfinished_is_made_anew_or_left_out(packet: bytes, sent: bytes) -> None:
    assert with_whole_checksum(packet) == sent
