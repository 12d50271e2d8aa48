"""GRE as octets: RFC 2784, RFC 2890, and ECN by RFC 6040."""

from ipaddress import IPv4Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dmvpn.plane.counters import Drop
from dmvpn.plane.headers import (
    CARRIED,
    IPV4,
    IPV6,
    NHRP,
    Arrival,
    arrival,
    congestion_passes,
    gre_header,
    inherited_tos,
    inner_source,
    is_group,
    mac_of,
    nbma_of,
)

SENDER = bytes((100, 64, 0, 1))
OUTER = bytes.fromhex("45000000 00000000 402f0000") + SENDER + bytes((100, 64, 0, 2))


def ones_complement(octets: bytes) -> int:
    """The Internet checksum the long way: RFC 1071 1."""
    total = sum(int.from_bytes((octets + b"\0")[at : at + 2], "big") for at in range(0, len(octets), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def ipv4(*, tos: int = 0, source: str = "10.255.1.1", octets: int = 20, total: int | None = None) -> bytearray:
    packet = bytearray(octets)
    packet[0:4] = bytes((0x45, tos)) + (octets if total is None else total).to_bytes(2, "big")
    packet[8:10] = b"\x40\x01"
    packet[12:16] = IPv4Address(source).packed
    packet[10:12] = ones_complement(bytes(packet[:20])).to_bytes(2, "big")
    return packet


@pytest.mark.parametrize(
    ("gre", "found"),
    [
        pytest.param("0000 0800", Arrival(SENDER, None, IPV4, 24), id="nothing optional"),
        pytest.param("2000 0800 00000007", Arrival(SENDER, 7, IPV4, 28), id="key"),
        pytest.param("2000 2001 ffffffff", Arrival(SENDER, 0xFFFFFFFF, NHRP, 28), id="largest key, NHRP"),
        pytest.param("3000 86dd 00000007 00000001", Arrival(SENDER, 7, IPV6, 32), id="key and sequence number"),
        pytest.param("1000 0800 00000001", Arrival(SENDER, None, IPV4, 28), id="sequence number alone"),
        pytest.param("8000 0800 77ff 0000", Arrival(SENDER, None, IPV4, 28), id="checksum that holds"),
        pytest.param("a000 0800 57f8 0000 00000007", Arrival(SENDER, 7, IPV4, 32), id="checksum and key"),
        pytest.param("8000 0800 77fe 0000", Drop.CHECKSUM, id="checksum that does not"),
        pytest.param("8000 0800 77ff 0000 01", Drop.CHECKSUM, id="checksum of one octet more"),
        pytest.param("03f8 0800", Arrival(SENDER, None, IPV4, 24), id="reserved bits 6 to 12 are ignored"),
        pytest.param("4000 0800", Drop.ROUTING, id="routing present"),
        pytest.param("0800 0800", Drop.ROUTING, id="bit 4"),
        pytest.param("0400 0800", Drop.ROUTING, id="bit 5"),
        pytest.param("0001 880b", Drop.VERSION, id="version 1 (PPTP)"),
        pytest.param("0007 0800", Drop.VERSION, id="version 7"),
        pytest.param("0000 6558", Drop.PROTOCOL, id="Ethernet inside"),
        pytest.param("0000 0000", Drop.PROTOCOL, id="a keepalive of IOS"),
        pytest.param("0000 0806", Drop.PROTOCOL, id="ARP"),
        pytest.param("0000 08", Drop.MALFORMED, id="half a header"),
        pytest.param("2000 0800 0000", Drop.MALFORMED, id="half a key"),
        pytest.param("f000 0800", Drop.ROUTING, id="routing before length"),
        pytest.param("b000 0800 0000 0000 00000007", Drop.MALFORMED, id="sequence number missing"),
        pytest.param("", Drop.MALFORMED, id="nothing at all"),
    ],
)
def test_a_gre_header_is_read_or_refused_with_a_reason(gre: str, found: Arrival | Drop) -> None:
    assert arrival(memoryview(OUTER + bytes.fromhex(gre))) == found


@pytest.mark.parametrize(
    "outer",
    [
        pytest.param("", id="empty"),
        pytest.param("44" + "00" * 40, id="header of 16 octets"),
        pytest.param("65" + "00" * 40, id="version 6"),
        pytest.param("4f" + "00" * 40, id="options run on"),
    ],
)
def test_an_outer_header_that_is_none_is_malformed(outer: str) -> None:
    assert arrival(memoryview(bytes.fromhex(outer))) is Drop.MALFORMED


def test_outer_options_move_the_gre_header() -> None:
    outer = b"\x46" + OUTER[1:] + bytes(4)
    assert arrival(memoryview(outer + bytes.fromhex("00000800"))) == Arrival(SENDER, None, IPV4, 28)


@given(st.binary(max_size=80))
def test_no_octets_make_it_raise(octets: bytes) -> None:
    for datagram in (octets, OUTER + octets):
        found = arrival(memoryview(bytearray(datagram)))
        if isinstance(found, Arrival):
            inner = memoryview(bytearray(datagram))[found.inner :]
            if found.protocol != NHRP and isinstance(inner_source(found.protocol, inner), bytes):
                congestion_passes(found.protocol, inner)


@given(st.none() | st.integers(0, 0xFFFFFFFF), st.sampled_from(sorted(CARRIED)), st.binary(max_size=40))
def test_what_we_write_we_read(key: int | None, protocol: int, inner: bytes) -> None:
    header = gre_header(key, protocol)
    found = arrival(memoryview(OUTER + header + inner))
    assert found == Arrival(SENDER, key, protocol, 20 + len(header))


@given(st.integers(0, 0xFFFFFFFF), st.binary(max_size=40))
def test_a_checksum_by_rfc_1071_holds_and_its_neighbour_does_not(key: int, inner: bytes) -> None:
    head, tail = b"\xa0\0\x08\0", b"\0\0" + key.to_bytes(4, "big") + inner
    checksum = ones_complement(head + b"\0\0" + tail)
    right = head + checksum.to_bytes(2, "big") + tail
    wrong = head + (checksum ^ 1).to_bytes(2, "big") + tail
    assert isinstance(arrival(memoryview(OUTER + right)), Arrival)
    assert arrival(memoryview(OUTER + wrong)) is Drop.CHECKSUM


@pytest.mark.parametrize(
    ("protocol", "packet", "found"),
    [
        pytest.param(IPV4, ipv4(), bytes((10, 255, 1, 1)), id="IPv4"),
        pytest.param(IPV4, ipv4() + bytes(9), bytes((10, 255, 1, 1)), id="IPv4 with padding"),
        pytest.param(IPV4, ipv4(total=21), Drop.TRUNCATED, id="IPv4 one octet short"),
        pytest.param(IPV4, ipv4(total=19), Drop.MALFORMED, id="IPv4 shorter than its header"),
        pytest.param(IPV4, ipv4()[:19], Drop.MALFORMED, id="IPv4 header cut"),
        pytest.param(IPV4, b"\x44" + ipv4()[1:], Drop.MALFORMED, id="IPv4 header of 16 octets"),
        pytest.param(IPV4, b"\x65" + ipv4()[1:], Drop.MALFORMED, id="IPv4 that says 6"),
        pytest.param(IPV6, b"\x60" + bytes(7) + bytes(range(32)), bytes(range(16)), id="IPv6"),
        pytest.param(IPV6, b"\x60" + bytes(3) + b"\0\x01" + bytes(34), Drop.TRUNCATED, id="IPv6 one octet short"),
        pytest.param(IPV6, b"\x60" + bytes(38), Drop.MALFORMED, id="IPv6 header cut"),
        pytest.param(IPV6, b"\x45" + bytes(39), Drop.MALFORMED, id="IPv6 that says 4"),
        pytest.param(IPV6, b"", Drop.MALFORMED, id="nothing"),
    ],
)
def test_the_inner_source_is_read_from_a_whole_packet_only(protocol: int, packet: bytes, found: bytes | Drop) -> None:
    assert inner_source(protocol, memoryview(packet)) == found


@pytest.mark.parametrize(
    ("mac", "nbma"),
    [
        pytest.param("020064400001", "100.64.0.1", id="a transport address"),
        pytest.param("0200c0a80102", "192.168.1.2", id="a foreign peer's"),
        pytest.param("020000000001", None, id="network 0"),
        pytest.param("02007f000001", None, id="loopback"),
        pytest.param("0200e0000001", None, id="multicast"),
        pytest.param("020164400001", None, id="another prefix"),
        pytest.param("525400123456", None, id="a real card"),
    ],
)
def test_a_mac_spells_an_address_that_can_be_sent_to(mac: str, nbma: str | None) -> None:
    assert nbma_of(bytes.fromhex(mac)) == (IPv4Address(nbma).packed if nbma else None)
    if nbma:
        assert mac_of(IPv4Address(nbma)).hex() == mac


@pytest.mark.parametrize("mac", ["ffffffffffff", "01005e000005", "333300000001"])
def test_a_group_address_has_the_first_bit_on_the_wire(mac: str) -> None:
    assert is_group(bytes.fromhex(mac))
    assert not is_group(bytes.fromhex("02" + mac[2:]))


def test_the_traffic_class_is_inherited_whole() -> None:
    assert inherited_tos(IPV4, memoryview(ipv4(tos=0xB9))) == 0xB9
    assert inherited_tos(IPV6, memoryview(bytes.fromhex("6b90") + bytes(38))) == 0xB9


@pytest.mark.parametrize(("tos", "passes", "after"), [(0, False, 0), (0xB9, True, 0xBB), (2, True, 3), (3, True, 3)])
def test_congestion_outside_is_told_inside_or_the_packet_is_dropped(*, tos: int, passes: bool, after: int) -> None:
    packet = ipv4(tos=tos)
    assert congestion_passes(IPV4, memoryview(packet)) is passes
    assert packet[1] == after
    assert ones_complement(bytes(packet)) == 0
    six = bytearray(bytes((0x60 | tos >> 4, (tos & 0xF) << 4 | 5)) + bytes(38))
    assert congestion_passes(IPV6, memoryview(six)) is passes
    assert (inherited_tos(IPV6, memoryview(six)), six[1] & 0xF) == (after, 5)


@given(st.integers(0, 255).filter(lambda tos: tos & 3), st.integers(0, 0xFFFFFFFF))
def test_marking_leaves_the_checksum_right(tos: int, source: int) -> None:
    packet = ipv4(tos=tos, source=str(IPv4Address(source)))
    congestion_passes(IPV4, memoryview(packet))
    assert ones_complement(bytes(packet)) == 0
