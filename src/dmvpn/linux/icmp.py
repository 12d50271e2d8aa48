"""ICMP echoes as they are sent and come back. RFC 792, RFC 4443 4.1; the checksum is RFC 1071's."""

import struct

ECHO_REQUEST, ECHO_REPLY = {4: 8, 6: 128}, {4: 0, 6: 129}  # by IP version
HEAD_OCTETS = 8
_HEAD = struct.Struct("!BBHHH")  # type, code, checksum, identifier, sequence


def echo_request(version: int, identifier: int, sequence: int, body: bytes) -> bytes:
    """A whole request; the kernel makes the checksum of ICMPv6 itself."""
    head = _HEAD.pack(ECHO_REQUEST[version], 0, 0, identifier, sequence)
    if version == 4:
        head = _HEAD.pack(ECHO_REQUEST[version], 0, _checksum(head + body), identifier, sequence)
    return head + body


def echo_in(octets: bytes) -> tuple[int, int, int] | None:
    """Type, identifier and sequence of a message without its IP header; None where it is cut short."""
    if len(octets) < HEAD_OCTETS:
        return None
    kind, _code, _sum, identifier, sequence = _HEAD.unpack_from(octets)
    return kind, identifier, sequence


def without_ip(octets: bytes) -> bytes:
    """What a raw socket of IPv4 gives begins with the IP header, raw(7)."""
    return octets[(octets[0] & 0xF) * 4 :] if octets else b""


def _checksum(octets: bytes) -> int:
    padded = octets + b"\0" if len(octets) % 2 else octets
    total: int = sum(struct.unpack(f"!{len(padded) // 2}H", padded))
    total = (total >> 16) + (total & 0xFFFF)
    return ~(total + (total >> 16)) & 0xFFFF
