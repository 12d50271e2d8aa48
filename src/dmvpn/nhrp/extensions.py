"""The extensions part: one class for each extension, in the order of their types. RFC 2332 5.3 and Cisco's.

Wire: C(1) u(1) type(14) length(16) value, the last one End (type 0, compulsory, empty). Order is kept, since a transit
station must not change it.
"""

import struct
from collections.abc import Iterable
from dataclasses import field
from enum import StrEnum
from functools import lru_cache
from hmac import compare_digest
from typing import ClassVar, Final, Self

from dmvpn.nhrp.cie import Cie
from dmvpn.nhrp.cursor import Cursor, Malformed
from dmvpn.nhrp.events import DropReason
from dmvpn.nhrp.value import value

COMPULSORY_BIT: Final = 0x8000
TYPE_MASK: Final = 0x3FFF  # bit 0x4000 is unused: ignored when received, never sent
EXTENSION_HEAD_OCTETS: Final = 4
END_TYPE: Final = 0
END: Final = bytes.fromhex("80000000")
CLEAR_TEXT: Final = 1  # Cisco's authentication scheme
OUI_OCTETS: Final = 3
# What a hub hears differs little from client to client and from hour to hour, so what was decoded is kept.
KEPT: Final = 4096
KEPT_OCTETS: Final = 64
_HEAD: Final = struct.Struct("!HH")


class OnTransit(StrEnum):
    """What a station that forwards a packet does with an extension of it."""

    COPY = "copy"
    RECORD_ON_REQUEST = "record-on-request"  # appends its own CIE to requests, copies it in replies
    RECORD_ON_REPLY = "record-on-reply"  # the other way round
    REPLACE = "replace"  # belongs to one hop: checked, then written anew


@value
class ResponderAddress:
    """Who answered: empty in a request, one CIE of the station that built the reply. RFC 2332 5.3.1.

    The protocol address need not be the header's destination: IOS answers for others.
    """

    TYPE: ClassVar[int] = 3
    ON_TRANSIT: ClassVar[OnTransit] = OnTransit.COPY
    cie: Cie | None = None
    compulsory: bool = True

    @classmethod
    def decode(cls, value: Cursor, *, compulsory: bool) -> Self:
        return cls(Cie.decode(value) if value.left else None, compulsory)  # decode_one() minds octets left over

    def encode(self) -> bytes:
        return self.cie.encode() if self.cie else b""


@value
class ForwardTransit:
    """The stations a request went through, each by its own CIE. RFC 2332 5.3.2."""

    TYPE: ClassVar[int] = 4
    ON_TRANSIT: ClassVar[OnTransit] = OnTransit.RECORD_ON_REQUEST
    cies: tuple[Cie, ...] = ()
    compulsory: bool = True

    @classmethod
    def decode(cls, value: Cursor, *, compulsory: bool) -> Self:
        return cls(_cies(value), compulsory)

    def encode(self) -> bytes:
        return _octets(self.cies)


@value
class ReverseTransit:
    """The stations a reply went through. RFC 2332 5.3.3."""

    TYPE: ClassVar[int] = 5
    ON_TRANSIT: ClassVar[OnTransit] = OnTransit.RECORD_ON_REPLY
    cies: tuple[Cie, ...] = ()
    compulsory: bool = True

    @classmethod
    def decode(cls, value: Cursor, *, compulsory: bool) -> Self:
        return cls(_cies(value), compulsory)

    def encode(self) -> bytes:
        return _octets(self.cies)


@value
class CiscoAuthentication:
    """The password of the cloud in clear text, as IOS sends it. RFC 2332 5.3.4 has the type, Cisco the value.

    Wire: the scheme (4 octets, 1 is clear text), then the password without padding or NUL. Never shown, not even by
    repr(). A value shorter than the scheme is malformed: IOS answers one with "Incorrect Auth extn length 0".
    """

    TYPE: ClassVar[int] = 7
    ON_TRANSIT: ClassVar[OnTransit] = OnTransit.REPLACE
    password: bytes = field(repr=False)
    scheme: int = CLEAR_TEXT
    compulsory: bool = True

    @classmethod
    def decode(cls, value: Cursor, *, compulsory: bool) -> Self:
        scheme = value.number(4, "authentication scheme")
        return cls(value.rest(), scheme, compulsory)

    def encode(self) -> bytes:
        return self.scheme.to_bytes(4, "big") + self.password

    def matches(self, password: bytes) -> bool:
        """Whether this is clear text and that password, in a time that tells nothing about either."""
        return compare_digest(self.encode(), CiscoAuthentication(password).encode())


@value
class VendorPrivate:
    """Whatever the vendor with this OUI defined. RFC 2332 5.3.5. A packet may carry several."""

    TYPE: ClassVar[int] = 8
    ON_TRANSIT: ClassVar[OnTransit] = OnTransit.COPY
    oui: bytes
    data: bytes
    compulsory: bool = False

    @classmethod
    def decode(cls, value: Cursor, *, compulsory: bool) -> Self:
        oui = value.take(OUI_OCTETS, "vendor OUI")
        return cls(oui, value.rest(), compulsory)

    def encode(self) -> bytes:
        return self.oui + self.data


@value
class CiscoNat:
    """Real NBMA addresses of protocol addresses, as CIEs. Cisco; the rules are in nhrp/client.py and server.py.

    In a registration request the one CIE is the server; a reply's second CIE is the client as the server sees it.
    """

    TYPE: ClassVar[int] = 9
    ON_TRANSIT: ClassVar[OnTransit] = OnTransit.COPY
    cies: tuple[Cie, ...] = ()
    compulsory: bool = False

    @classmethod
    def decode(cls, value: Cursor, *, compulsory: bool) -> Self:
        return cls(_cies(value), compulsory)

    def encode(self) -> bytes:
        return _octets(self.cies)


@value
class Unknown:
    """An extension no class is registered for, raw. Compulsory ones a responder must refuse (error 1)."""

    ON_TRANSIT: ClassVar[OnTransit] = OnTransit.COPY
    type: int
    compulsory: bool
    value: bytes

    def encode(self) -> bytes:
        return self.value


Known = ResponderAddress | ForwardTransit | ReverseTransit | CiscoAuthentication | VendorPrivate | CiscoNat
Extension = Known | Unknown

EXTENSIONS: Final[tuple[type[Known], ...]] = (
    ResponderAddress,
    ForwardTransit,
    ReverseTransit,
    CiscoAuthentication,
    VendorPrivate,
    CiscoNat,
)
_BY_TYPE: Final = {known.TYPE: known for known in EXTENSIONS}


def type_of(extension: Extension) -> int:
    return extension.type if isinstance(extension, Unknown) else extension.TYPE


def decode_one(octets: Cursor) -> Extension | None:
    """The next extension; None for End. Raises Malformed if its value is cut short or runs on."""
    start = octets.offset
    if octets.left < EXTENSION_HEAD_OCTETS:
        kind = octets.number(2, "extension type") & TYPE_MASK
        octets.number(2, f"length of extension {kind}")
    head, length = _HEAD.unpack_from(octets.octets, start)
    octets.offset = start + EXTENSION_HEAD_OCTETS
    kind = head & TYPE_MASK
    value = octets.take(length, f"extension {kind}")
    if kind == END_TYPE:
        if length:
            raise Malformed(DropReason.MALFORMED, start, f"the end of the extensions has {length} octets, not 0")
        return None
    try:
        return _kept(head, value) if length <= KEPT_OCTETS else _decode(head, value)
    except Malformed as fault:
        raise Malformed(fault.reason, start + EXTENSION_HEAD_OCTETS + fault.offset, fault.detail) from fault


def _decode(head: int, octets: bytes) -> Extension:
    """By its first two octets and its value. Raises Malformed; its offset counts from where the value begins."""
    kind, compulsory = head & TYPE_MASK, bool(head & COMPULSORY_BIT)
    known = _BY_TYPE.get(kind)
    if known is None:
        return Unknown(kind, compulsory, octets)
    value = Cursor(octets)
    extension = known.decode(value, compulsory=compulsory)
    if value.left:
        raise Malformed(DropReason.MALFORMED, value.offset, f"extension {kind}: {value.left} octets too many")
    return extension


_kept: Final = lru_cache(KEPT)(_decode)


def encode_one(extension: Extension) -> bytes:
    value = extension.encode()
    head = type_of(extension) | (COMPULSORY_BIT if extension.compulsory else 0)
    return _HEAD.pack(head, len(value)) + value


def decode_all(octets: Cursor) -> tuple[Extension, ...]:
    """The extensions part up to its End, without it. Octets behind End are nobody's and are let go."""
    extensions: list[Extension] = []
    while (extension := decode_one(octets)) is not None:
        extensions.append(extension)
    return tuple(extensions)


def encode_all(extensions: Iterable[Extension]) -> bytes:
    """The extensions part with its End, or nothing when there are no extensions."""
    parts = [encode_one(extension) for extension in extensions]
    return b"".join((*parts, END)) if parts else b""


def _cies(value: Cursor) -> tuple[Cie, ...]:
    cies = []
    while value.left:
        cies.append(Cie.decode(value))
    return tuple(cies)


def _octets(cies: Iterable[Cie]) -> bytes:
    return b"".join(cie.encode() for cie in cies)
