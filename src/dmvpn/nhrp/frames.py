"""From a captured frame down to the NHRP packet in it: link layer, VLANs, IP, GRE. RFC 2784, 2890, 8200."""

from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from dmvpn.nhrp.cursor import Cursor, Malformed
from dmvpn.nhrp.events import Address
from dmvpn.nhrp.numbers import GRE_PROTOCOL, HEADER_OCTETS, NBMA_IPV4, NBMA_IPV6, VERSION

# Link types: https://www.tcpdump.org/linktypes.html
ETHERNET: Final = 1
RAW_BSD: Final = (12, 14)
RAW: Final = 101
LINUX_SLL: Final = 113  # what tcpdump -i any, or a GRE device, gives
IPV4: Final = 228
IPV6: Final = 229
LINUX_SLL2: Final = 276
UNSAID: Final = -1  # hex text does not say what it begins with

IPV4_TYPE: Final = 0x0800
IPV6_TYPE: Final = 0x86DD
VLAN_TYPES: Final = (0x8100, 0x88A8, 0x9100)
VLAN_LIMIT: Final = 4
IP_GRE: Final = 47
IP_NHRP: Final = 54  # registered; DMVPN does not use it
IPV6_HEADERS: Final = (0, 43, 60)  # hop-by-hop, routing, destination options: next header, length in 8 octets
IPV6_FRAGMENT: Final = 44
IPV6_HEADERS_LIMIT: Final = 8
GRE_CHECKSUM: Final = 0x8000
GRE_KEY: Final = 0x2000
GRE_SEQUENCE: Final = 0x1000
GRE_REFUSED: Final = 0x4007  # source routing of RFC 1701, and any version but 0
TAP_MAC_PREFIX: Final = b"\x02\x00"  # of our userspace plane; the other four octets spell the NBMA address


@dataclass(frozen=True, slots=True)
class Frame:
    """What one record of a capture holds. `number` starts at 1; `time_s` is since 1970, None when not recorded."""

    number: int
    time_s: float | None
    octets: bytes
    linktype: int


@dataclass(frozen=True, slots=True)
class Found:
    """An NHRP packet's octets (with what padding follows them) and what carried it, as far as the frame says."""

    octets: bytes
    outer_source: Address | None = None
    outer_destination: Address | None = None
    gre_key: int | None = None


def nhrp_in_frame(frame: Frame) -> Found | None:
    """None when the frame carries something else, is encrypted, a later fragment, or cut before its NHRP part."""
    walk = _WALKS.get(frame.linktype)
    if walk is None:
        return None
    try:
        return walk(Cursor(frame.octets))
    except Malformed:
        return None


def _ethernet(octets: Cursor) -> Found | None:
    destination = octets.take(6, "destination MAC")
    source = octets.take(6, "source MAC")
    return _ether_type(octets, octets.number(2, "EtherType"), _tap_nbma(source), _tap_nbma(destination))


def _cooked(octets: Cursor) -> Found | None:
    octets.take(4, "packet type and device type")
    length = octets.number(2, "address length")
    address = octets.take(8, "address")
    return _ether_type(octets, octets.number(2, "EtherType"), _device_nbma(address, length), None)


def _cooked_2(octets: Cursor) -> Found | None:
    protocol = octets.number(2, "EtherType")
    octets.take(9, "interface, device type and packet type")
    length = octets.number(1, "address length")
    return _ether_type(octets, protocol, _device_nbma(octets.take(8, "address"), length), None)


def _tap_nbma(mac: bytes) -> Address | None:
    return IPv4Address(mac[2:]) if mac[:2] == TAP_MAC_PREFIX else None


def _device_nbma(address: bytes, length: int) -> Address | None:
    # The link-layer address of a kernel GRE device is the outer IPv4 address, and 0.0.0.0 when it is not known.
    return IPv4Address(address[:4]) if length == 4 and any(address[:4]) else None


def _ether_type(octets: Cursor, protocol: int, source: Address | None, destination: Address | None) -> Found | None:
    for _ in range(VLAN_LIMIT):
        if protocol not in VLAN_TYPES:
            break
        octets.take(2, "VLAN tag")
        protocol = octets.number(2, "EtherType")
    if protocol == GRE_PROTOCOL:
        return Found(octets.rest(), source, destination)
    return _ip(octets) if protocol in (IPV4_TYPE, IPV6_TYPE) else None


def _ip(octets: Cursor) -> Found | None:
    version = octets.octets[octets.offset] >> 4 if octets.left else 0
    if version == 4:
        return _ipv4(octets)
    return _ipv6(octets) if version == 6 else None


def _ipv4(octets: Cursor) -> Found | None:
    start = octets.offset
    header_octets = (octets.number(1, "version and header length") & 0x0F) * 4
    octets.take(1, "type of service")
    total = octets.number(2, "total length")
    octets.take(2, "identification")
    fragment = octets.number(2, "fragment") & 0x1FFF
    octets.take(1, "time to live")
    protocol = octets.number(1, "protocol")
    octets.take(2, "header checksum")
    source = IPv4Address(octets.take(4, "source"))
    destination = IPv4Address(octets.take(4, "destination"))
    octets.take(max(header_octets - 20, 0), "options")
    if fragment or header_octets < 20:
        return None
    if total:  # 0 in captures taken before segmentation offload has cut the packet
        octets.end = min(octets.end, max(start + total, octets.offset))
    return _payload(octets, protocol, source, destination)


def _ipv6(octets: Cursor) -> Found | None:
    octets.take(4, "version, class and flow label")
    length = octets.number(2, "payload length")
    protocol = octets.number(1, "next header")
    octets.take(1, "hop limit")
    source = IPv6Address(octets.take(16, "source"))
    destination = IPv6Address(octets.take(16, "destination"))
    octets.end = min(octets.end, octets.offset + length)
    for _ in range(IPV6_HEADERS_LIMIT):
        if protocol in IPV6_HEADERS:
            protocol = octets.number(1, "next header")
            octets.take(octets.number(1, "header length") * 8 + 6, "IPv6 header")
        elif protocol == IPV6_FRAGMENT:
            protocol = octets.number(1, "next header")
            octets.take(1, "reserved")
            fragment = octets.number(2, "fragment") & 0xFFF8
            octets.take(4, "identification")
            if fragment:
                return None
        else:
            break
    return _payload(octets, protocol, source, destination)


def _payload(octets: Cursor, protocol: int, source: Address, destination: Address) -> Found | None:
    if protocol == IP_NHRP:
        return Found(octets.rest(), source, destination)
    return _gre(octets, source, destination) if protocol == IP_GRE else None


def _gre(octets: Cursor, source: Address | None = None, destination: Address | None = None) -> Found | None:
    flags = octets.number(2, "GRE flags")
    protocol = octets.number(2, "GRE protocol type")
    if flags & GRE_REFUSED or protocol != GRE_PROTOCOL:
        return None
    if flags & GRE_CHECKSUM:
        octets.take(4, "GRE checksum")
    key = octets.number(4, "GRE key") if flags & GRE_KEY else None
    if flags & GRE_SEQUENCE:
        octets.take(4, "GRE sequence number")
    return Found(octets.rest(), source, destination, key)


def _guess(octets: Cursor) -> Found:
    """Hex may begin with NHRP, IP, GRE or a link layer. What is none of them is taken for NHRP: its fault is told."""
    whole = octets.octets[octets.offset : octets.end]
    if not _looks_like_nhrp(whole):
        for walk in (_ip, _gre, _ethernet, _cooked, _cooked_2):
            try:
                found = walk(Cursor(whole))
            except Malformed:
                continue
            if found is not None:
                return found
    return Found(whole)


def _looks_like_nhrp(whole: bytes) -> bool:
    if len(whole) < HEADER_OCTETS:
        return False
    family = int.from_bytes(whole[:2], "big")
    return family in (NBMA_IPV4, NBMA_IPV6) and whole[16] == VERSION


_WALKS: Final[dict[int, Callable[[Cursor], Found | None]]] = {
    ETHERNET: _ethernet,
    LINUX_SLL: _cooked,
    LINUX_SLL2: _cooked_2,
    UNSAID: _guess,
    **dict.fromkeys((*RAW_BSD, RAW, IPV4, IPV6), _ip),
}
