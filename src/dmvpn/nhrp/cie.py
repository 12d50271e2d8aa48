"""The Client Information Entry: one binding of a protocol address to an NBMA address. RFC 2332 5.2.0.1."""

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_network
from typing import Self

from dmvpn.nhrp.cursor import Cursor, Malformed
from dmvpn.nhrp.events import Address, DropReason, Network
from dmvpn.nhrp.numbers import LENGTH_MASK, PREFIX_WHOLE

IPV4_OCTETS = 4
IPV6_OCTETS = 16
SUBADDRESS_LIMIT_OCTETS = LENGTH_MASK


@dataclass(frozen=True, slots=True)
class Cie:
    """Wire: 12 octets, then NBMA address, NBMA subaddress and protocol address, each of which may be absent.

    An absent address means the one of the packet's header. `code` is a CieCode where RFC 2332 names it, and
    `mtu_octets` is a hint that Cisco fills with the MTU of a virtual device (17912).
    """

    code: int
    prefix_length: int
    mtu_octets: int
    holding_time_s: int
    preference: int
    nbma: Address | None
    nbma_subaddress: bytes
    protocol: Address | None

    @classmethod
    def decode(cls, octets: Cursor) -> Self:
        """One CIE off the cursor. Raises Malformed when it is cut short or an address has no known length."""
        code = octets.number(1, "CIE code")
        prefix_length = octets.number(1, "CIE prefix length")
        octets.take(2, "CIE unused")
        mtu_octets = octets.number(2, "CIE MTU")
        holding_time_s = octets.number(2, "CIE holding time")
        nbma_length = octets.number(1, "CIE NBMA address length") & LENGTH_MASK
        subaddress_length = octets.number(1, "CIE NBMA subaddress length") & LENGTH_MASK
        protocol_length = octets.number(1, "CIE protocol address length")
        preference = octets.number(1, "CIE preference")
        nbma = optional_address(octets, nbma_length, "CIE NBMA address")
        nbma_subaddress = octets.take(subaddress_length, "CIE NBMA subaddress")
        protocol = optional_address(octets, protocol_length, "CIE protocol address")
        return cls(code, prefix_length, mtu_octets, holding_time_s, preference, nbma, nbma_subaddress, protocol)

    def encode(self) -> bytes:
        nbma = self.nbma.packed if self.nbma else b""
        protocol = self.protocol.packed if self.protocol else b""
        head = bytes((self.code, self.prefix_length, 0, 0))
        head += self.mtu_octets.to_bytes(2, "big") + self.holding_time_s.to_bytes(2, "big")
        lengths = bytes((len(nbma), len(self.nbma_subaddress), len(protocol), self.preference))
        return head + lengths + nbma + self.nbma_subaddress + protocol

    def network(self, absent: Address) -> Network:
        """What the entry covers. `absent` stands in for an absent protocol address (the header's).

        Senders write a host as 0, as 255 or as the address's own length, so none of them is a default route.
        """
        address = self.protocol or absent
        length = self.prefix_length
        if length == 0 or length > address.max_prefixlen:
            length = address.max_prefixlen
        return ip_network((address, length), strict=False)


def prefix_length_is_valid(prefix_length: int, address: Address) -> bool:
    return prefix_length <= address.max_prefixlen or prefix_length == PREFIX_WHOLE


def address_of(octets: Cursor, length: int, what: str) -> Address:
    """An IPv4 or IPv6 address by its length. Raises Malformed for any other length."""
    start = octets.offset
    match length:
        case 4:
            return IPv4Address(octets.take(length, what))
        case 16:
            return IPv6Address(octets.take(length, what))
        case _:
            raise Malformed(DropReason.MALFORMED, start, f"{what}: length {length}, not 4 or 16")


def optional_address(octets: Cursor, length: int, what: str) -> Address | None:
    return address_of(octets, length, what) if length else None
