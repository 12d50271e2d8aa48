"""GRE and Ethernet headers, as pure functions over octets. RFC 2784, RFC 2890; ECN by RFC 6040.

Ethernet's type and GRE's protocol type are the same numbers, so both are called `protocol` here. NHRP is 0x2001.
"""

from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Final

from dmvpn.plane.counters import Drop

IPV4: Final = 0x0800
IPV6: Final = 0x86DD
NHRP: Final = 0x2001
CARRIED: Final = frozenset((IPV4, IPV6, NHRP))

ETHERNET_OCTETS: Final = 14
_MAC_PREFIX: Final = b"\x02\x00"
_CHECKSUM: Final = 0x8000
_KEY: Final = 0x2000
_SEQUENCE: Final = 0x1000
# Routing, strict source route and the first bit of recursion: RFC 2784 2.3 discards them and ignores the rest.
_REFUSED: Final = 0x4C00
_VERSION: Final = 0x0007
_CE: Final = 3


@dataclass(frozen=True, slots=True)
class Arrival:
    """A GRE packet that may be delivered if its sender may. `inner` is the octet at which the inner packet starts."""

    sender: bytes
    key: int | None
    protocol: int
    inner: int


def mac_of(nbma: IPv4Address) -> bytes:
    """The MAC that spells an NBMA address: 02:00 and its four octets."""
    return mac_of_octets(nbma.packed)


def mac_of_octets(nbma: bytes) -> bytes:
    """The same for an address that is in its four octets already."""
    return _MAC_PREFIX + nbma


def nbma_of(mac: bytes) -> bytes | None:
    """The NBMA address (4 octets) that a unicast MAC spells; None if it spells none that can be sent to."""
    if mac[:2] != _MAC_PREFIX or not 0 < mac[2] < 224 or mac[2] == 127:
        return None
    return mac[2:]


def is_group(mac: bytes) -> bool:
    """Multicast or broadcast: the first bit on the wire of an Ethernet address."""
    return bool(mac[0] & 1)


def gre_header(key: int | None, protocol: int) -> bytes:
    """The header in front of an inner packet: 8 octets with a key, 4 without. RFC 2890 2."""
    if key is None:
        return b"\0\0" + protocol.to_bytes(2, "big")
    return _KEY.to_bytes(2, "big") + protocol.to_bytes(2, "big") + key.to_bytes(4, "big")


def arrival(datagram: memoryview) -> Arrival | Drop:
    """Read the outer IPv4 and the GRE header of what a raw socket gave. Never raises for what the octets say."""
    octets = len(datagram)
    start = (datagram[0] & 0x0F) * 4 if octets else 0
    if start < 20 or datagram[0] >> 4 != 4 or octets < start + 4:
        return Drop.MALFORMED
    flags = int.from_bytes(datagram[start : start + 2], "big")
    if flags & _VERSION:
        return Drop.VERSION
    if flags & _REFUSED:
        return Drop.ROUTING
    at = start + 4
    if flags & _CHECKSUM:
        at += 4
    key_at = at
    if flags & _KEY:
        at += 4
    if flags & _SEQUENCE:
        at += 4
    if octets < at:
        return Drop.MALFORMED
    if flags & _CHECKSUM and not _checksum_holds(datagram[start:]):
        return Drop.CHECKSUM
    protocol = int.from_bytes(datagram[start + 2 : start + 4], "big")
    if protocol not in CARRIED:
        return Drop.PROTOCOL
    key = int.from_bytes(datagram[key_at : key_at + 4], "big") if flags & _KEY else None
    return Arrival(bytes(datagram[12:16]), key, protocol, at)


def _checksum_holds(packet: memoryview) -> bool:
    """The one's complement sum of a packet with a right checksum is 0xffff, which is zero modulo 65535. RFC 1071."""
    even = bytes(packet) + b"\0" * (len(packet) & 1)
    return int.from_bytes(even, "big") % 0xFFFF == 0


def inner_source(protocol: int, packet: memoryview) -> bytes | Drop:
    """The source address of an inner IPv4 or IPv6 packet that is whole. RFC 791 3.1, RFC 8200 3."""
    octets = len(packet)
    if protocol == IPV4:
        if octets < 20 or packet[0] >> 4 != 4:
            return Drop.MALFORMED
        header = (packet[0] & 0x0F) * 4
        total = packet[2] << 8 | packet[3]
        if header < 20 or total < header:
            return Drop.MALFORMED
        return Drop.TRUNCATED if total > octets else bytes(packet[12:16])
    if octets < 40 or packet[0] >> 4 != 6:
        return Drop.MALFORMED
    return Drop.TRUNCATED if (packet[4] << 8 | packet[5]) + 40 > octets else bytes(packet[8:24])


def inherited_tos(protocol: int, packet: memoryview) -> int:
    """The TOS or traffic class of an inner packet, ECN included: RFC 6040 4.1, normal mode."""
    if protocol == IPV4:
        return packet[1]
    return (packet[0] & 0x0F) << 4 | packet[1] >> 4


def congestion_passes(protocol: int, packet: memoryview) -> bool:
    """Mark "congestion experienced" in an inner packet whose outer header has it; False: drop it. RFC 6040 4.2."""
    tos = inherited_tos(protocol, packet)
    match tos & _CE:
        case 0:
            return False
        case 3:
            return True
    if protocol == IPV6:
        packet[1] |= _CE << 4
        return True
    before = packet[0] << 8 | packet[1]
    packet[1] |= _CE
    checksum = packet[10] << 8 | packet[11]
    total = (~checksum & 0xFFFF) + (~before & 0xFFFF) + (packet[0] << 8 | packet[1])
    total = (total & 0xFFFF) + (total >> 16)
    total = (total & 0xFFFF) + (total >> 16)
    packet[10:12] = (~total & 0xFFFF).to_bytes(2, "big")
    return True
