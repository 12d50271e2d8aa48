"""Each router's transport address: given, or derived so that adding a site moves nobody's."""

from ipaddress import IPv4Address, IPv4Network

from dmvpn.network.model import Network
from dmvpn.network.places import Place
from dmvpn.network.plan import Address


def transport_address(network: Network, place: Place) -> Address:
    """The router's own, as given, or the range with the last bits of its first tunnel's first address."""
    router = place.router
    if router.transport is not None:
        return router.transport
    first = next(iter(router.tunnels.values()))
    return derived(network.transport, first.address[0])


def derived(range_: IPv4Network, tunnel_address: Address) -> IPv4Address:
    """The range's network bits, the tunnel address's host bits: 100.64.0.0/16 and 10.255.1.11 give 100.64.1.11."""
    return IPv4Address(int(range_.network_address) | int(tunnel_address) & int(range_.hostmask))
