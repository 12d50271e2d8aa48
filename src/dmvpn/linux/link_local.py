"""Link-local addresses on tunnels: fe80::/64 and the overlay address's last 64 bits. RFC 4291 2.5.6.

OSPFv3 and RIPng speak from them and name no other next hops (RFC 5340 2.9, RFC 2080 2.1.1). No certificate claims one
and no NHRP of ours asks for one: each stands for the overlay address with the same end, of which both do.
"""

from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Address, IPv6Network
from typing import Final

from dmvpn.linux.netlink import Address

Network = IPv4Network | IPv6Network

_RANGE: Final = int(IPv6Address("fe80::"))
_INTERFACE_ID: Final = (1 << 64) - 1


def link_local_of(overlay: Address) -> IPv6Address | None:
    """The link-local address that goes with an overlay address; None with an IPv4 one."""
    return IPv6Address(_RANGE | int(overlay) & _INTERFACE_ID) if isinstance(overlay, IPv6Address) else None


def link_locals_of(overlay: Iterable[Address], within: Iterable[Network]) -> tuple[IPv6Network, ...]:
    """Those of the addresses that are `within` one of these, as host prefixes."""
    ranges = tuple(within)
    found = (link_local_of(one) for one in overlay if any(one in net for net in ranges))
    return tuple(IPv6Network(one) for one in found if one is not None)


def overlay_of(address: Address, overlay: Iterable[Network]) -> Address:
    """The overlay address that a link-local one stands for; any other address, or of no overlay, is itself."""
    if not address.is_link_local or not isinstance(address, IPv6Address):
        return address
    for net in overlay:
        meant = IPv6Address(int(net.network_address) | int(address) & _INTERFACE_ID) if net.version == 6 else None
        if meant is not None and meant in net and link_local_of(meant) == address:
            return meant
    return address
