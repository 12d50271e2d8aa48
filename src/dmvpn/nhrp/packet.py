"""One NHRP packet: octets to Packet and back. RFC 2332 5.1 and 5.2; Cisco's traffic indication."""

from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Final, TypeVar

from dmvpn.nhrp.candidates import OUI, Candidates
from dmvpn.nhrp.checksum import checksum
from dmvpn.nhrp.cie import IPV4_OCTETS, IPV6_OCTETS, Cie, address_of, prefix_length_is_valid
from dmvpn.nhrp.cursor import Cursor, Layout, Malformed
from dmvpn.nhrp.events import Address, DropReason
from dmvpn.nhrp.extensions import (
    EXTENSION_HEAD_OCTETS,
    KEPT,
    OUI_OCTETS,
    Extension,
    VendorPrivate,
    decode_all,
    encode_all,
    type_of,
)
from dmvpn.nhrp.numbers import (
    HEADER_OCTETS,
    LENGTH_MASK,
    NBMA_IPV4,
    NBMA_IPV6,
    PACKET_LIMIT_OCTETS,
    PROTOCOL_IPV4,
    PROTOCOL_IPV6,
    VERSION,
    Kind,
)
from dmvpn.nhrp.value import value

MALFORMED: Final = DropReason.MALFORMED
INDICATIONS: Final = (Kind.ERROR_INDICATION, Kind.TRAFFIC_INDICATION)  # a payload and a code, no CIEs and no id
NBMA_OCTETS: Final = {NBMA_IPV4: IPV4_OCTETS, NBMA_IPV6: IPV6_OCTETS}
PROTOCOL_OCTETS: Final = {PROTOCOL_IPV4: IPV4_OCTETS, PROTOCOL_IPV6: IPV6_OCTETS}
KINDS: Final = {int(kind): kind for kind in Kind}  # by number: making an enum of one takes ten times as long
PROTOCOL_AT: Final = 2  # offsets of the fixed header's fields that a fault points at
SIZE_AT: Final = 10
CHECKSUM_AT: Final = 12
EXTENSION_OFFSET_AT: Final = 14
VERSION_AT: Final = 16
KIND_AT: Final = 17
NBMA_LENGTH_AT: Final = 18
# IOS logs spurious faults about an error indication that ends with the offending packet: it wants octets behind it.
CISCO_TRAILER: Final = bytes(16)
OFFENDING_LIMIT_OCTETS: Final = 512
# Clients of one kind often say the same in all their extensions together: Cisco's and FRR's have nothing of their own.
KEPT_OCTETS: Final = 192

# RFC 2332: SNAP is ignored when received; the checksum is looked at before, and over all octets.
_FIXED: Final = Layout(
    ("address family", 2),
    ("protocol type", 2),
    ("unused: SNAP", 1),
    ("unused: SNAP", 4),
    ("hop count", 1),
    ("packet length", 2),
    ("unused: checksum", 2),
    ("extension offset", 2),
    ("version", 1),
    ("packet type", 1),
    ("source NBMA length", 1),
    ("source NBMA subaddress length", 1),
)
_MANDATORY: Final = Layout(
    ("source protocol length", 1), ("destination protocol length", 1), ("flags", 2), ("request id", 4)
)

E_ = TypeVar("E_", bound=Extension)


@value
class Packet:
    """Source and destination are not swapped in a reply: the source is the station that asked.

    `flags` are those of the kind's family in numbers.py. `error_code`, `error_offset` and `payload` belong to
    indications only; there the payload is the head of the offending or triggering packet, for an error indication with
    whatever trailing octets the sender added. `request_id` and `cies` belong to all others.
    """

    kind: Kind
    hop_count: int
    flags: int
    request_id: int
    source_nbma: Address
    source_protocol: Address
    destination_protocol: Address
    cies: tuple[Cie, ...] = ()
    extensions: tuple[Extension, ...] = ()
    source_subaddress: bytes = b""
    error_code: int = 0
    error_offset: int = 0
    payload: bytes = field(default=b"", repr=False)  # an offending packet may hold a password

    def encode(self) -> bytes:
        """Raises Malformed (oversized) for more than PACKET_LIMIT_OCTETS."""
        source_nbma = self.source_nbma.packed
        source = self.source_protocol.packed
        destination = self.destination_protocol.packed
        indication = self.kind in INDICATIONS
        number = self.error_code << 16 | self.error_offset if indication else self.request_id
        mandatory = _MANDATORY.struct.pack(len(source), len(destination), self.flags, number)
        mandatory += source_nbma + self.source_subaddress + source + destination
        mandatory += self.payload if indication else b"".join(cie.encode() for cie in self.cies)
        extensions = encode_all(self.extensions)
        extensions_at = HEADER_OCTETS + len(mandatory) if extensions else 0
        size = HEADER_OCTETS + len(mandatory) + len(extensions)
        _refuse_oversized(size)
        fixed = _FIXED.struct.pack(
            NBMA_IPV4 if self.source_nbma.version == 4 else NBMA_IPV6,
            PROTOCOL_IPV4 if self.source_protocol.version == 4 else PROTOCOL_IPV6,
            self.hop_count,
            size,
            extensions_at,
            VERSION,
            self.kind,
            len(source_nbma),
            len(self.source_subaddress),
        )
        rest = mandatory + extensions
        sealed = checksum(fixed + rest).to_bytes(2, "big")
        return fixed[:CHECKSUM_AT] + sealed + fixed[CHECKSUM_AT + 2 :] + rest

    def extension(self, wanted: type[E_]) -> E_ | None:
        """The first extension of a class."""
        for extension in self.extensions:
            if isinstance(extension, wanted):
                return extension
        return None

    def with_extension(self, extension: Extension) -> "Packet":
        """The packet with this extension in place of the first it supersedes (same type, same OUI), else as the last.

        Others it supersedes go, since a duplicated authentication makes IOS drop the packet.
        """
        place = next((at for at, old in enumerate(self.extensions) if _supersedes(extension, old)), None)
        if place is None:
            return replace(self, extensions=(*self.extensions, extension))
        behind = tuple(old for old in self.extensions[place:] if not _supersedes(extension, old))
        return replace(self, extensions=(*self.extensions[:place], extension, *behind))

    def without_extension(self, unwanted: type[Extension]) -> "Packet":
        kept = tuple(extension for extension in self.extensions if not isinstance(extension, unwanted))
        return self if len(kept) == len(self.extensions) else replace(self, extensions=kept)

    def candidates(self) -> Candidates | None:
        """Those of our own vendor extension. Never raises on a packet that came from decode()."""
        for extension in self.extensions:
            if isinstance(extension, VendorPrivate) and extension.oui == OUI:
                return Candidates.from_vendor(extension)
        return None

    def without_candidates(self) -> "Packet":
        kept = tuple(one for one in self.extensions if not (isinstance(one, VendorPrivate) and one.oui == OUI))
        return replace(self, extensions=kept)

    def with_candidates(self, candidates: Candidates) -> "Packet":
        return self.with_extension(candidates.to_vendor())


def decode(octets: bytes) -> Packet:
    """The packet at the start of `octets`; what lies behind its ar$pktsz (padding of a link) is ignored.

    Raises Malformed with reason malformed, checksum, version, oversized or unsupported, and the octet's offset.
    """
    fixed = _Fixed.decode(Cursor(octets))
    _refuse_oversized(fixed.size)
    if fixed.size > len(octets):
        raise Malformed(MALFORMED, SIZE_AT, f"packet length {fixed.size}, but {len(octets)} octets arrived")
    # Bounded to the packet: padding behind it is not part of the sum.
    if checksum(octets[: fixed.size]):
        raise Malformed(DropReason.CHECKSUM, CHECKSUM_AT, "the checksum is wrong")
    cursor = Cursor(octets, HEADER_OCTETS, fixed.size)
    head = _Mandatory.decode(cursor, fixed)
    extensions: tuple[Extension, ...] = ()
    if fixed.extensions_at:
        if not cursor.offset <= fixed.extensions_at <= fixed.size:
            what = f"extension offset {fixed.extensions_at}, not from {cursor.offset} to {fixed.size}"
            raise Malformed(MALFORMED, EXTENSION_OFFSET_AT, what)
        extensions = _extensions(octets[fixed.extensions_at : fixed.size], fixed.extensions_at)
        cursor.end = fixed.extensions_at
    if fixed.kind in INDICATIONS:
        # Bounded by the extensions, not by what the triggering packet says of its own length: it is a packet's head.
        return head.packet(fixed, extensions=extensions, payload=cursor.rest())
    return head.packet(fixed, extensions=extensions, cies=_cies(cursor, head))


def decode_head(octets: bytes) -> Packet:
    """The fixed header and addresses of a packet that may have been cut behind them: an error indication's payload.

    Neither checksum nor length are looked at; entries and extensions are left out. Raises Malformed as decode() does.
    """
    cursor = Cursor(octets)
    fixed = _Fixed.decode(cursor)
    return _Mandatory.decode(cursor, fixed).packet(fixed)


def offending(octets: bytes) -> bytes:
    """The payload of an error indication about the received packet: its head, and the octets that IOS wants behind."""
    return octets[:OFFENDING_LIMIT_OCTETS] + CISCO_TRAILER


@dataclass(slots=True)
class _Fixed:
    """The fixed header as far as decoding needs it."""

    nbma_octets: int
    protocol_octets: int
    hop_count: int
    size: int
    extensions_at: int
    kind: Kind
    nbma_length: int
    subaddress_length: int

    @classmethod
    def decode(cls, octets: Cursor) -> "_Fixed":
        """Raises Malformed. The version is looked at first: another version may have put all else elsewhere."""
        if octets.left < HEADER_OCTETS:
            octets.take(HEADER_OCTETS, "fixed header")
        (
            family,
            protocol,
            hop_count,
            size,
            extensions_at,
            version,
            kind,
            nbma_length,
            subaddress_length,
        ) = octets.numbers(_FIXED)
        if version != VERSION:
            raise Malformed(DropReason.VERSION, VERSION_AT, f"version {version}, not {VERSION}")
        if family not in NBMA_OCTETS:
            raise Malformed(DropReason.UNSUPPORTED, 0, f"address family {family}, not 1 (IPv4) or 2 (IPv6)")
        if protocol not in PROTOCOL_OCTETS:
            what = f"protocol type 0x{protocol:04x}, not 0x0800 (IPv4) or 0x86dd (IPv6)"
            raise Malformed(DropReason.UNSUPPORTED, PROTOCOL_AT, what)
        if kind not in KINDS:
            raise Malformed(DropReason.UNSUPPORTED, KIND_AT, f"packet type {kind}, not 1 to {max(KINDS)}")
        return cls(
            NBMA_OCTETS[family],
            PROTOCOL_OCTETS[protocol],
            hop_count,
            size,
            extensions_at,
            KINDS[kind],
            nbma_length & LENGTH_MASK,
            subaddress_length & LENGTH_MASK,
        )


@dataclass(slots=True)
class _Mandatory:
    """The mandatory part up to the entries or the payload."""

    flags: int
    number: int
    source_nbma: Address
    source_subaddress: bytes
    source_protocol: Address
    destination_protocol: Address

    @classmethod
    def decode(cls, octets: Cursor, fixed: _Fixed) -> "_Mandatory":
        """The cursor stands behind the fixed header. Raises Malformed."""
        start = octets.offset
        source_length, destination_length, flags, number = octets.numbers(_MANDATORY)
        if fixed.nbma_length != fixed.nbma_octets:
            raise _wrong_length(NBMA_LENGTH_AT, "source NBMA", fixed.nbma_length, fixed.nbma_octets)
        if source_length != fixed.protocol_octets:
            raise _wrong_length(start, "source protocol", source_length, fixed.protocol_octets)
        if destination_length != fixed.protocol_octets:
            raise _wrong_length(start + 1, "destination protocol", destination_length, fixed.protocol_octets)
        return cls(
            flags,
            number,
            address_of(octets, fixed.nbma_length, "source NBMA address"),
            octets.take(fixed.subaddress_length, "source NBMA subaddress"),
            address_of(octets, source_length, "source protocol address"),
            address_of(octets, destination_length, "destination protocol address"),
        )

    def packet(
        self,
        fixed: _Fixed,
        *,
        cies: tuple[Cie, ...] = (),
        extensions: tuple[Extension, ...] = (),
        payload: bytes = b"",
    ) -> Packet:
        indication = fixed.kind in INDICATIONS
        return Packet(
            fixed.kind,
            fixed.hop_count,
            self.flags,
            0 if indication else self.number,
            self.source_nbma,
            self.source_protocol,
            self.destination_protocol,
            cies,
            extensions,
            self.source_subaddress,
            self.number >> 16 if indication else 0,
            self.number & 0xFFFF if indication else 0,
            payload,
        )


def _wrong_length(at: int, whose: str, length: int, wanted: int) -> Malformed:
    return Malformed(MALFORMED, at, f"{whose} address: length {length}, not {wanted}")


def _cies(octets: Cursor, head: _Mandatory) -> tuple[Cie, ...]:
    """The entries of the mandatory part. They bind, so their addresses must be of the packet's own families."""
    cies = []
    while octets.left:
        start = octets.offset
        cie = Cie.decode(octets)
        if cie.nbma is not None and cie.nbma.version != head.source_nbma.version:
            raise Malformed(MALFORMED, start, "CIE NBMA address: not of the packet's address family")
        if cie.protocol is not None and cie.protocol.version != head.source_protocol.version:
            raise Malformed(MALFORMED, start, "CIE protocol address: not of the packet's protocol type")
        if not prefix_length_is_valid(cie.prefix_length, head.source_protocol):
            raise Malformed(MALFORMED, start + 1, f"CIE prefix length {cie.prefix_length}: longer than the address")
        cies.append(cie)
    return tuple(cies)


def _extensions(part: bytes, start: int) -> tuple[Extension, ...]:
    """The extensions part, which begins at `start`. Raises Malformed."""
    try:
        return _kept_extensions(part) if len(part) <= KEPT_OCTETS else _checked_extensions(part)
    except Malformed as fault:
        raise Malformed(fault.reason, start + fault.offset, fault.detail) from fault


def _checked_extensions(part: bytes) -> tuple[Extension, ...]:
    extensions = decode_all(Cursor(part))
    _check_candidates(extensions)
    return extensions


_kept_extensions: Final = lru_cache(KEPT)(_checked_extensions)


def _check_candidates(extensions: tuple[Extension, ...]) -> None:
    """Our own vendor extension is read once here, where the octet's offset is known, so that candidates() is safe."""
    for place, extension in enumerate(extensions):
        if isinstance(extension, VendorPrivate) and extension.oui == OUI:
            try:
                Candidates.from_vendor(extension)
            except Malformed as fault:
                before = sum(EXTENSION_HEAD_OCTETS + len(one.encode()) for one in extensions[:place])
                data_at = before + EXTENSION_HEAD_OCTETS + OUI_OCTETS
                raise Malformed(fault.reason, data_at + fault.offset, fault.detail) from fault


def _refuse_oversized(size: int) -> None:
    if size > PACKET_LIMIT_OCTETS:
        raise Malformed(DropReason.OVERSIZED, SIZE_AT, f"packet length {size}, above {PACKET_LIMIT_OCTETS}")


def _supersedes(new: Extension, old: Extension) -> bool:
    if isinstance(new, VendorPrivate) and isinstance(old, VendorPrivate):
        return new.oui == old.oui
    return type_of(new) == type_of(old)
