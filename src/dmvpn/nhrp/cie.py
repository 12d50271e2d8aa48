"""The Client Information Entry: one binding of a protocol address to an NBMA address. RFC 2332 5.2.0.1."""

from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_network
from typing import Final, Self

from dmvpn.nhrp.cursor import Cursor, Layout, Malformed
from dmvpn.nhrp.events import Address, DropReason, Network
from dmvpn.nhrp.numbers import LENGTH_MASK, PREFIX_WHOLE
from dmvpn.nhrp.value import value

IPV4_OCTETS = 4
IPV6_OCTETS = 16
# A hub hears the same addresses for hours: to find one takes a fifth of making it. Bounded, since peers choose them.
ADDRESSES_KEPT: Final = 32_768
_ipv4: Final = lru_cache(ADDRESSES_KEPT)(IPv4Address)
_ipv6: Final = lru_cache(ADDRESSES_KEPT)(IPv6Address)
_LAYOUT = Layout(
    ("code", 1),
    ("prefix length", 1),
    ("unused", 2),
    ("MTU", 2),
    ("holding time", 2),
    ("NBMA address length", 1),
    ("NBMA subaddress length", 1),
    ("protocol address length", 1),
    ("preference", 1),
)


@value
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
        (
            code,
            prefix_length,
            mtu_octets,
            holding_time_s,
            nbma_length,
            subaddress_length,
            protocol_length,
            preference,
        ) = octets.numbers(_LAYOUT, "CIE ")
        nbma = optional_address(octets, nbma_length & LENGTH_MASK, "CIE NBMA address")
        nbma_subaddress = octets.take(subaddress_length & LENGTH_MASK, "CIE NBMA subaddress")
        protocol = optional_address(octets, protocol_length, "CIE protocol address")
        return cls(code, prefix_length, mtu_octets, holding_time_s, preference, nbma, nbma_subaddress, protocol)

    def encode(self) -> bytes:
        nbma = self.nbma.packed if self.nbma else b""
        protocol = self.protocol.packed if self.protocol else b""
        head = _LAYOUT.struct.pack(
            self.code,
            self.prefix_length,
            self.mtu_octets,
            self.holding_time_s,
            len(nbma),
            len(self.nbma_subaddress),
            len(protocol),
            self.preference,
        )
        return head + nbma + self.nbma_subaddress + protocol

    def is_host(self, absent: Address) -> bool:
        """Whether the entry covers one address alone; `absent` as for network()."""
        if self.prefix_length in (0, PREFIX_WHOLE):
            return True
        return self.prefix_length >= (self.protocol or absent).max_prefixlen

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
            return _ipv4(octets.take(length, what))
        case 16:
            return _ipv6(octets.take(length, what))
        case _:
            raise Malformed(DropReason.MALFORMED, start, f"{what}: length {length}, not 4 or 16")


def optional_address(octets: Cursor, length: int, what: str) -> Address | None:
    return address_of(octets, length, what) if length else None
