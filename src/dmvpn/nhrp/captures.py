"""Frames from a capture file's octets: pcap, pcapng or hex text. Everything a file says of itself is bounded.

pcap and pcapng: draft-ietf-opsawg-pcap, draft-ietf-opsawg-pcapng. Nothing is opened here; the caller has the octets.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

from dmvpn.errors import WrongInput
from dmvpn.nhrp.frames import UNSAID, Frame
from dmvpn.nhrp.hextext import octets_in

FILE_LIMIT_OCTETS: Final = 256 << 20
RECORD_LIMIT_OCTETS: Final = 256 << 10  # tcpdump's largest snapshot length
TEXT_LIMIT_OCTETS: Final = 4 << 20
PCAP_MAGICS: Final[dict[bytes, tuple[Literal["<", ">"], int]]] = {  # byte order, ticks in a second
    bytes.fromhex("d4c3b2a1"): ("<", 10**6),
    bytes.fromhex("a1b2c3d4"): (">", 10**6),
    bytes.fromhex("4d3cb2a1"): ("<", 10**9),
    bytes.fromhex("a1b23c4d"): (">", 10**9),
}
PCAP_HEADER_OCTETS: Final = 24
LINKTYPE_MASK: Final = 0x0FFFFFFF  # the upper bits tell the length of a frame check sequence
SECTION: Final = 0x0A0D0D0A  # the same in both byte orders
BYTE_ORDERS: Final[dict[bytes, Literal["<", ">"]]] = {
    bytes.fromhex("4d3c2b1a"): "<",
    bytes.fromhex("1a2b3c4d"): ">",
}
INTERFACE: Final = 1
SIMPLE_PACKET: Final = 3
ENHANCED_PACKET: Final = 6
OPTION_RESOLUTION: Final = 9
OPTION_OFFSET: Final = 14
INTERFACES_LIMIT: Final = 1024
YEAR_10000_S: Final = 253402300800


def frames(name: str, octets: bytes) -> Iterator[Frame]:
    """The frames of a file named `name`, in its order. Raises WrongInput, saying where, for what is not one.

    The frames before the fault have been yielded by then: a capture that was cut short is still worth reading.
    """
    if len(octets) > FILE_LIMIT_OCTETS:
        raise WrongInput(name, f"{len(octets)} octets, above {FILE_LIMIT_OCTETS}", "cut it with editcap or tcpdump -C")
    if octets[:4] in PCAP_MAGICS:
        return _pcap(name, octets)
    if octets[:4] == SECTION.to_bytes(4, "big"):
        return _pcapng(name, octets)
    return _hex(name, octets)


def _hex(name: str, octets: bytes) -> Iterator[Frame]:
    if len(octets) > TEXT_LIMIT_OCTETS:
        raise WrongInput(name, "neither pcap nor pcapng, and too long for hex text")
    try:
        text = octets.decode("ascii")
    except UnicodeDecodeError as fault:
        raise WrongInput(
            f"{name}: octet {fault.start}", "neither pcap, pcapng nor hex text", "give a capture file or hex digits"
        ) from None
    for number, packet in enumerate(octets_in(name, text), 1):
        yield Frame(number, None, packet, UNSAID)


def _pcap(name: str, octets: bytes) -> Iterator[Frame]:
    order, ticks = PCAP_MAGICS[octets[:4]]
    if len(octets) < PCAP_HEADER_OCTETS:
        raise WrongInput(f"{name}: octet 0", f"a pcap header of {len(octets)} octets, not {PCAP_HEADER_OCTETS}")
    linktype = struct.unpack_from(f"{order}I", octets, 20)[0] & LINKTYPE_MASK
    offset = PCAP_HEADER_OCTETS
    number = 0
    record = struct.Struct(f"{order}IIII")
    while offset < len(octets):
        number += 1
        where = f"{name}: octet {offset}"
        if len(octets) - offset < record.size:
            raise WrongInput(where, f"record {number} is cut short")
        seconds, fraction, captured, _ = record.unpack_from(octets, offset)
        offset += record.size
        _check_record(where, number, captured, len(octets) - offset)
        yield Frame(number, seconds + fraction / ticks, octets[offset : offset + captured], linktype)
        offset += captured


def _check_record(where: str, number: int, captured: int, left: int) -> None:
    if captured > RECORD_LIMIT_OCTETS:
        raise WrongInput(where, f"record {number} says it has {captured} octets, above {RECORD_LIMIT_OCTETS}")
    if captured > left:
        raise WrongInput(where, f"record {number} is cut short: {captured} octets needed, {left} left")


@dataclass(frozen=True, slots=True)
class _Interface:
    """What an Interface Description Block says that reading its packets needs."""

    linktype: int
    snaplen: int
    ticks: int
    offset_s: int


@dataclass(frozen=True, slots=True)
class _Block:
    """One block of a pcapng file without its lengths; `where` points at its start."""

    where: str
    kind: int
    body: bytes
    order: Literal["<", ">"]


def _pcapng(name: str, octets: bytes) -> Iterator[Frame]:
    interfaces: list[_Interface] = []
    number = 0
    for block in _blocks(name, octets):
        if block.kind == SECTION:
            interfaces = []  # interface numbers belong to a section
        elif block.kind == INTERFACE:
            if len(interfaces) == INTERFACES_LIMIT:
                raise WrongInput(block.where, f"more than {INTERFACES_LIMIT} interfaces")
            interfaces.append(_interface(block))
        elif block.kind in (ENHANCED_PACKET, SIMPLE_PACKET):
            number += 1
            read = _enhanced if block.kind == ENHANCED_PACKET else _simple
            yield read(block, interfaces, number)


def _blocks(name: str, octets: bytes) -> Iterator[_Block]:
    """Wire: type(4) length(4) body length(4), the length being that of the whole block and a multiple of 4."""
    offset = 0
    order: Literal["<", ">"] = "<"
    while offset < len(octets):
        where = f"{name}: octet {offset}"
        left = len(octets) - offset
        if left < 12:
            raise WrongInput(where, f"a block is cut short: 12 octets needed, {left} left")
        section = octets[offset : offset + 4] == SECTION.to_bytes(4, "big")
        if section:
            magic = octets[offset + 8 : offset + 12]
            if magic not in BYTE_ORDERS:
                raise WrongInput(where, f"a section's byte order is told by {magic.hex()}, not 1a2b3c4d")
            order = BYTE_ORDERS[magic]
        kind, length = struct.unpack_from(f"{order}II", octets, offset)
        if length < 12 or length % 4:
            raise WrongInput(where, f"a block says it has {length} octets")
        if length > left:
            raise WrongInput(where, f"a block is cut short: {length} octets needed, {left} left")
        if struct.unpack_from(f"{order}I", octets, offset + length - 4)[0] != length:
            raise WrongInput(where, "a block's two lengths differ")
        yield _Block(where, kind, octets[offset + 8 : offset + length - 4], order)
        offset += length


def _interface(block: _Block) -> _Interface:
    if len(block.body) < 8:
        raise WrongInput(block.where, "an interface block of fewer than 8 octets")
    linktype, _, snaplen = struct.unpack_from(f"{block.order}HHI", block.body)
    ticks, offset_s, at = 10**6, 0, 8
    while at + 4 <= len(block.body):
        option, length = struct.unpack_from(f"{block.order}HH", block.body, at)
        value = block.body[at + 4 : at + 4 + length]
        if len(value) < length:
            raise WrongInput(block.where, f"option {option} of an interface is cut short")
        if option == OPTION_RESOLUTION and length == 1:
            # The first bit tells a power of two from a power of ten.
            ticks = 2 ** (value[0] & 0x7F) if value[0] & 0x80 else 10 ** value[0]
        elif option == OPTION_OFFSET and length == 8:
            offset_s = struct.unpack(f"{block.order}q", value)[0]
        at += 4 + (length + 3) // 4 * 4
    return _Interface(linktype, snaplen, ticks, offset_s)


def _enhanced(block: _Block, interfaces: list[_Interface], number: int) -> Frame:
    if len(block.body) < 20:
        raise WrongInput(block.where, f"packet {number} is cut short")
    at, high, low, captured, _ = struct.unpack_from(f"{block.order}IIIII", block.body)
    if at >= len(interfaces):
        raise WrongInput(block.where, f"packet {number} came over interface {at}, which is not described before it")
    _check_record(block.where, number, captured, len(block.body) - 20)
    interface = interfaces[at]
    time_s = interface.offset_s + (high << 32 | low) / interface.ticks
    # A damaged clock or option is no reason to lose the packet, but no calendar goes there.
    told = time_s if 0 <= time_s < YEAR_10000_S else None
    return Frame(number, told, block.body[20 : 20 + captured], interface.linktype)


def _simple(block: _Block, interfaces: list[_Interface], number: int) -> Frame:
    """A packet of the first interface, without a time; its length may have been cut to the snapshot length."""
    if not interfaces:
        raise WrongInput(block.where, f"packet {number} came over interface 0, which is not described before it")
    if len(block.body) < 4:
        raise WrongInput(block.where, f"packet {number} is cut short")
    captured = struct.unpack_from(f"{block.order}I", block.body)[0]
    if interfaces[0].snaplen:
        captured = min(captured, interfaces[0].snaplen)
    _check_record(block.where, number, captured, len(block.body) - 4)
    return Frame(number, None, block.body[4 : 4 + captured], interfaces[0].linktype)
