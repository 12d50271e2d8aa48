"""One NHRP packet: octets to Packet and back. RFC 2332 5.1 and 5.2; Cisco's traffic indication."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final, TypeVar

from dmvpn.nhrp.candidates import OUI, Candidates
from dmvpn.nhrp.checksum import checksum
from dmvpn.nhrp.cie import IPV4_OCTETS, IPV6_OCTETS, Cie, address_of, prefix_length_is_valid
from dmvpn.nhrp.cursor import Cursor, Malformed
from dmvpn.nhrp.events import Address, DropReason
from dmvpn.nhrp.extensions import Extension, VendorPrivate, decode_all, encode_all, type_of
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

MALFORMED: Final = DropReason.MALFORMED
INDICATIONS: Final = (Kind.ERROR_INDICATION, Kind.TRAFFIC_INDICATION)  # a payload and a code, no CIEs and no id
NBMA_OCTETS: Final = {NBMA_IPV4: IPV4_OCTETS, NBMA_IPV6: IPV6_OCTETS}
PROTOCOL_OCTETS: Final = {PROTOCOL_IPV4: IPV4_OCTETS, PROTOCOL_IPV6: IPV6_OCTETS}
CHECKSUM_AT: Final = 12
MANDATORY_HEAD_OCTETS: Final = 8  # of the mandatory part: two lengths, flags, request id
# IOS logs spurious faults about an error indication that ends with the offending packet: it wants octets behind it.
CISCO_TRAILER: Final = bytes(16)
OFFENDING_LIMIT_OCTETS: Final = 512

E_ = TypeVar("E_", bound=Extension)


@dataclass(frozen=True, slots=True)
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
    payload: bytes = b""

    def encode(self) -> bytes:
        """Raises Malformed (oversized) for more than PACKET_LIMIT_OCTETS."""
        raise NotImplementedError

    def extension(self, wanted: type[E_]) -> E_ | None:
        """The first extension of a class."""
        return next((extension for extension in self.extensions if isinstance(extension, wanted)), None)

    def with_extension(self, extension: Extension) -> "Packet":
        """The packet with this extension in the place of those it supersedes (same type; same OUI), else at the end."""
        raise NotImplementedError

    def without_extension(self, unwanted: type[Extension]) -> "Packet":
        kept = tuple(extension for extension in self.extensions if not isinstance(extension, unwanted))
        return replace(self, extensions=kept)

    def candidates(self) -> Candidates | None:
        """Our own vendor extension; never raises on a packet that came from decode()."""
        raise NotImplementedError

    def with_candidates(self, candidates: Candidates) -> "Packet":
        return self.with_extension(candidates.to_vendor())


def decode(octets: bytes) -> Packet:
    """The packet at the start of `octets`; what lies behind its ar$pktsz (padding of a link) is ignored.

    Raises Malformed with reason malformed, checksum, version, oversized or unsupported, and the octet's offset.
    """
    raise NotImplementedError


def offending(octets: bytes) -> bytes:
    """The payload of an error indication about a received packet."""
    return octets[:OFFENDING_LIMIT_OCTETS] + CISCO_TRAILER
