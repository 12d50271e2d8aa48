"""IP address delegation, RFC 3779 section 2, in its prefix form. charon's addrblock plugin enforces it."""

from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Network, collapse_addresses

from dmvpn.identity import der

Network = IPv4Network | IPv6Network

OID = "1.3.6.1.5.5.7.1.7"  # id-pe-ipAddrBlocks
_AFI = {4: b"\x00\x01", 6: b"\x00\x02"}  # IANA address family numbers; without SAFI: all of them


def encode(prefixes: Sequence[Network]) -> bytes:
    """IPAddrBlocks, canonical: families in order, prefixes sorted, none inside or beside another (2.2.3.6)."""
    families = []
    four = collapse_addresses(prefix for prefix in prefixes if isinstance(prefix, IPv4Network))
    six = collapse_addresses(prefix for prefix in prefixes if isinstance(prefix, IPv6Network))
    for version, merged in ((4, list(four)), (6, list(six))):
        if merged:
            blocks = (der.bits(prefix.network_address.packed, prefix.prefixlen) for prefix in merged)
            families.append(der.sequence(der.encode(der.OCTET_STRING, _AFI[version]), der.sequence(*blocks)))
    return der.sequence(*families)


def decode(octets: bytes) -> tuple[Network, ...]:
    """The prefixes of an extension. Raises Malformed, also for `inherit`, ranges and SAFIs: we write none."""
    outer = der.Reader(octets)
    families = outer.sequence()
    outer.end()
    found: list[Network] = []
    while families.more:
        family = families.sequence()
        afi = family.value(der.OCTET_STRING)
        prefixes = family.sequence()
        family.end()
        found += [_prefix(afi, value) for value in prefixes.elements(der.BIT_STRING)]
    return tuple(found)


def _prefix(afi: bytes, value: bytes) -> Network:
    sizes = {_AFI[4]: 4, _AFI[6]: 16}
    if afi not in sizes:
        raise der.Malformed(f"address family {afi.hex()} in an address block")
    unused, address = value[:1], value[1:]
    if not unused or unused[0] > 7 or len(address) > sizes[afi] or (unused[0] and not address):
        raise der.Malformed(f"address block {value.hex()}")
    length = len(address) * 8 - unused[0]
    padded = address.ljust(sizes[afi], b"\0")
    try:
        return IPv4Network((padded, length)) if afi == _AFI[4] else IPv6Network((padded, length))
    except ValueError as error:
        raise der.Malformed(f"address block {value.hex()}: {error}") from error
