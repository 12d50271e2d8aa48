"""From a frame to the NHRP packet in it: every link type, tag, header and flag, and what must not be taken for NHRP."""

from ipaddress import ip_address

import pytest
from codec_cases import wire
from hypothesis import given
from hypothesis import strategies as st

from dmvpn.nhrp.frames import (
    ETHERNET,
    IPV4,
    IPV6,
    LINUX_SLL,
    LINUX_SLL2,
    RAW,
    RAW_BSD,
    UNSAID,
    Found,
    Frame,
    nhrp_in_frame,
)

NHRP = wire("purge-request")
MACS = "0200c0000201 0200c000020b"  # destination and source as our TAP writes them
FOREIGN_MACS = "525400000001 525400000002"
SIX = "20010db8000000000000000000000001 20010db8000000000000000000000002"
LINKTYPES = (ETHERNET, *RAW_BSD, RAW, LINUX_SLL, LINUX_SLL2, IPV4, IPV6, UNSAID)


def ipv4(protocol: int, rest: bytes, *, options: str = "", fragment: str = "4000", total: int | None = None) -> bytes:
    extra = bytes.fromhex(options)
    size = 20 + len(extra) + len(rest) if total is None else total
    head = bytes((0x45 + len(extra) // 4, 0xC0)) + size.to_bytes(2, "big") + b"\0\1" + bytes.fromhex(fragment)
    return head + bytes((255, protocol, 0, 0)) + bytes.fromhex("c000020b c0000201") + extra + rest


def ipv6(protocol: int, rest: bytes) -> bytes:
    return b"\x60\0\0\0" + len(rest).to_bytes(2, "big") + bytes((protocol, 64)) + bytes.fromhex(SIX) + rest


def gre(flags: str = "0000", fields: str = "", protocol: str = "2001", rest: bytes = NHRP) -> bytes:
    return bytes.fromhex(flags + protocol + fields) + rest


def ether(protocol: str, rest: bytes, macs: str = FOREIGN_MACS) -> bytes:
    return bytes.fromhex(macs + protocol) + rest


def found(
    source: str | None = "192.0.2.11",
    destination: str | None = "192.0.2.1",
    key: int | None = None,
    octets: bytes = NHRP,
) -> Found:
    return Found(
        octets,
        ip_address(source) if source else None,
        ip_address(destination) if destination else None,
        key,
    )


SIX_FOUND = found("2001:db8::1", "2001:db8::2")
NOWHERE = found(None, None)


@pytest.mark.parametrize(
    ("linktype", "octets", "expected"),
    [
        pytest.param(ETHERNET, ether("0800", ipv4(47, gre())), found(), id="Ethernet, IPv4, GRE"),
        pytest.param(ETHERNET, ether("8100 0008 0800", ipv4(47, gre())), found(), id="VLAN"),
        pytest.param(ETHERNET, ether("88a8 0001 8100 0008 86dd", ipv6(47, gre())), SIX_FOUND, id="VLAN in VLAN, IPv6"),
        pytest.param(ETHERNET, ether("8100 0001" * 4 + "0800", ipv4(47, gre())), found(), id="as many tags as allowed"),
        pytest.param(ETHERNET, ether("8100 0001" * 5 + "0800", ipv4(47, gre())), None, id="too many tags"),
        pytest.param(ETHERNET, ether("0800", ipv4(47, gre()) + bytes(9)), found(), id="padding behind the IP packet"),
        pytest.param(ETHERNET, ether("2001", NHRP, MACS), found(), id="our TAP: the MACs spell the NBMA addresses"),
        pytest.param(ETHERNET, ether("2001", NHRP), NOWHERE, id="NHRP on an Ethernet that is not ours"),
        pytest.param(ETHERNET, ether("0806", bytes(28)), None, id="ARP"),
        pytest.param(ETHERNET, bytes(13), None, id="half an Ethernet header"),
        pytest.param(
            LINUX_SLL,
            bytes.fromhex("0000 030a 0004 c000020b 00000000 2001") + NHRP,
            found(destination=None),
            id="cooked, on a GRE device",
        ),
        pytest.param(
            LINUX_SLL,
            bytes.fromhex("0000 030a 0004 00000000 00000000 2001") + NHRP,
            NOWHERE,
            id="cooked, sender not known",
        ),
        pytest.param(
            LINUX_SLL,
            bytes.fromhex("0000 0001 0006 525400000001 0000 0800") + ipv4(47, gre()),
            found(),
            id="cooked, on Ethernet",
        ),
        pytest.param(
            LINUX_SLL2,
            bytes.fromhex("2001 0000 00000003 030a 00 04 c000020b 00000000") + NHRP,
            found(destination=None),
            id="cooked 2, on a GRE device",
        ),
        pytest.param(
            LINUX_SLL2,
            bytes.fromhex("86dd 0000 00000003 0001 00 06 525400000001 0000") + ipv6(47, gre()),
            SIX_FOUND,
            id="cooked 2, on Ethernet",
        ),
        pytest.param(RAW, ipv4(47, gre()), found(), id="raw IPv4"),
        pytest.param(RAW_BSD[0], ipv6(47, gre()), SIX_FOUND, id="raw IPv6"),
        pytest.param(IPV4, ipv4(47, gre()), found(), id="IPv4 by its own link type"),
        pytest.param(IPV6, ipv6(47, gre()), SIX_FOUND, id="IPv6 by its own link type"),
        pytest.param(RAW, b"", None, id="empty"),
        pytest.param(RAW, b"\x15" + bytes(40), None, id="IP version 1"),
        pytest.param(0, ipv4(47, gre()), None, id="a link type we do not know"),
        pytest.param(RAW, ipv4(54, NHRP), found(), id="IP protocol 54"),
        pytest.param(RAW, ipv4(17, bytes(8)), None, id="UDP"),
        pytest.param(RAW, ipv4(50, bytes(40)), None, id="ESP"),
        pytest.param(RAW, ipv4(47, gre(), options="01010101"), found(), id="IP options"),
        pytest.param(RAW, b"\x44" + ipv4(47, gre())[1:], None, id="IP header shorter than itself"),
        pytest.param(RAW, ipv4(47, gre(), fragment="0001"), None, id="later fragment"),
        pytest.param(RAW, ipv4(47, gre(), fragment="2000"), found(), id="first fragment"),
        pytest.param(RAW, ipv4(47, gre(), total=0), found(), id="total length 0: before segmentation"),
        pytest.param(RAW, ipv4(47, gre(), total=9), None, id="total length within the header"),
        pytest.param(RAW, ipv4(47, gre(), total=9000), found(), id="total length beyond what was captured"),
        pytest.param(RAW, ipv4(47, gre(), total=34), found(octets=NHRP[:10]), id="NHRP cut by the total length"),
        pytest.param(RAW, ipv4(47, gre())[:19], None, id="half an IP header"),
        pytest.param(RAW, ipv6(47, gre()) + b"padding", SIX_FOUND, id="padding behind IPv6"),
        pytest.param(
            RAW,
            ipv6(0, bytes.fromhex("3c00 000000000000 2b01") + bytes(14) + bytes.fromhex("2f00 000000000000") + gre()),
            SIX_FOUND,
            id="IPv6 hop-by-hop, destination options and routing",
        ),
        pytest.param(
            RAW,
            ipv6(0, bytes.fromhex("3c00 000000000000") + bytes.fromhex("2f01") + bytes(14) + gre()),
            SIX_FOUND,
            id="IPv6 header of 16 octets",
        ),
        pytest.param(RAW, ipv6(44, bytes.fromhex("2f00 0001 00000007") + gre()), SIX_FOUND, id="IPv6 first fragment"),
        pytest.param(RAW, ipv6(44, bytes.fromhex("2f00 0008 00000007") + gre()), None, id="IPv6 later fragment"),
        pytest.param(RAW, ipv6(60, b"\x3c\0" + bytes(6)), None, id="IPv6 headers without an end"),
        pytest.param(RAW, ipv6(60, (b"\x3c\0" + bytes(6)) * 9), None, id="more IPv6 headers than allowed"),
        pytest.param(RAW, ipv4(47, gre("2000", "0000002a")), found(key=42), id="GRE key"),
        pytest.param(RAW, ipv4(47, gre("8000", "12340000")), found(), id="GRE checksum"),
        pytest.param(RAW, ipv4(47, gre("1000", "00000001")), found(), id="GRE sequence number"),
        pytest.param(
            RAW, ipv4(47, gre("b000", "12340000 ffffffff 00000001")), found(key=2**32 - 1), id="GRE with all three"
        ),
        pytest.param(RAW, ipv4(47, gre("4000", "00000000")), None, id="GRE with a route"),
        pytest.param(RAW, ipv4(47, gre("0001")), None, id="GRE version 1, PPTP"),
        pytest.param(RAW, ipv4(47, gre(protocol="0800")), None, id="GRE with IPv4 in it"),
        pytest.param(RAW, ipv4(47, b"\x20\0\x20\1\0"), None, id="GRE cut in its key"),
        pytest.param(UNSAID, NHRP, NOWHERE, id="hex: NHRP"),
        pytest.param(UNSAID, ipv4(47, gre("2000", "00000001")), found(key=1), id="hex: IPv4"),
        pytest.param(UNSAID, ipv6(47, gre()), SIX_FOUND, id="hex: IPv6"),
        pytest.param(UNSAID, gre("2000", "00000007"), found(None, None, 7), id="hex: GRE"),
        pytest.param(UNSAID, ether("2001", NHRP, MACS), found(), id="hex: a frame of our TAP"),
        pytest.param(UNSAID, ether("8100 0001 0800", ipv4(47, gre())), found(), id="hex: Ethernet"),
        pytest.param(
            UNSAID,
            bytes.fromhex("0000 030a 0004 c000020b 00000000 2001") + NHRP,
            found(destination=None),
            id="hex: cooked",
        ),
        pytest.param(UNSAID, NHRP[:30], found(None, None, octets=NHRP[:30]), id="hex: NHRP cut short"),
        pytest.param(UNSAID, b"nonsense", found(None, None, octets=b"nonsense"), id="hex: nothing we know is NHRP"),
        pytest.param(
            UNSAID, b"nonsense" * 4, found(None, None, octets=b"nonsense" * 4), id="hex: nothing we know, longer"
        ),
    ],
)
def test_the_nhrp_packet_of_a_frame(linktype: int, octets: bytes, expected: Found | None) -> None:
    assert nhrp_in_frame(Frame(1, None, octets, linktype)) == expected


@given(st.sampled_from(LINKTYPES), st.binary(max_size=120))
def test_any_frame_has_a_packet_or_none(linktype: int, octets: bytes) -> None:
    nhrp_in_frame(Frame(1, None, octets, linktype))


@given(st.data())
def test_a_frame_that_was_changed_anywhere_has_a_packet_or_none(data: st.DataObject) -> None:
    octets = bytearray(ether("8100 0008 0800", ipv4(47, gre("b000", "12340000 ffffffff 00000001"))))
    for at, value in data.draw(st.dictionaries(st.integers(0, 60), st.integers(0, 255), max_size=6)).items():
        octets[at] = value
    end = data.draw(st.integers(0, len(octets)))
    nhrp_in_frame(Frame(1, None, bytes(octets[:end]), ETHERNET))
