"""Walks through a network: routers with their sites, members of a cloud. Every other module walks with these."""

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv6Interface

from dmvpn.firewall.prefixes import within
from dmvpn.network.model import Network, Router, Site, SiteNetwork, Tunnel, Uplink
from dmvpn.network.plan import Address, Interface, Platform, Role
from dmvpn.network.plan import Network as Prefix
from dmvpn.network.source import Key

OURS = (Platform.DEBIAN, Platform.ALPINE)
NHRPD = (Platform.FRR, Platform.VYOS)  # foreign ones that run FRR's nhrpd
NOT_ANNOUNCED = "internet-only"  # a network in this zone never meets the clouds


@dataclass(frozen=True, slots=True)
class Place:
    """One router, and where it stands."""

    site_name: str
    site: Site
    name: str
    router: Router

    @property
    def key(self) -> Key:
        return ("sites", self.site_name, "routers", self.name)

    @property
    def ours(self) -> bool:
        return self.router.platform in OURS


@dataclass(frozen=True, slots=True)
class Member:
    """One router in one cloud."""

    place: Place
    cloud: str
    tunnel: Tunnel

    @property
    def key(self) -> Key:
        return (*self.place.key, "tunnels", self.cloud)

    @property
    def over(self) -> tuple[str, ...]:
        """Its uplinks in order of preference, as the file says or as they are listed."""
        return self.tunnel.over or tuple(self.place.router.uplinks)

    def known_uplinks(self) -> Iterator[Uplink]:
        uplinks = self.place.router.uplinks
        return (uplinks[name] for name in self.over if name in uplinks)


def places(network: Network) -> Iterator[Place]:
    for site_name, site in network.sites.items():
        for name, router in site.routers.items():
            yield Place(site_name, site, name, router)


def members(network: Network, cloud: str) -> Iterator[Member]:
    for place in places(network):
        if cloud in place.router.tunnels:
            yield Member(place, cloud, place.router.tunnels[cloud])


def hubs(network: Network, cloud: str) -> Iterator[Member]:
    return (member for member in members(network, cloud) if member.tunnel.role is Role.HUB)


def own_addresses(place: Place, name: str, net: SiteNetwork) -> tuple[Interface, ...]:
    """A router's addresses in one network of its site, one for each prefix.

    As the file says; else, in a site with one router, the gateway's; else the first address of the prefix.
    """
    given = place.router.addresses.get(name, ())
    alone = len(place.site.routers) == 1
    found: list[Interface] = []
    for prefix in net.prefix:
        candidates = [address for address in given if address.version == prefix.version]
        if not candidates and alone:
            candidates = [address for address in net.gateway if address.version == prefix.version]
        if not candidates and alone:
            candidates = [first_address(prefix)]
        found += [with_length(address, prefix) for address in candidates[:1]]
    return tuple(found)


def first_address(prefix: Prefix) -> Address:
    """The first address a host may have."""
    return prefix[0] if prefix.num_addresses == 1 else prefix[1]


def with_length(address: Address, prefix: Prefix) -> Interface:
    kind = IPv4Interface if isinstance(address, IPv4Address) else IPv6Interface
    return kind(f"{address}/{prefix.prefixlen}")


def announced(place: Place) -> tuple[Prefix, ...]:
    """The prefixes of a site that the clouds may reach by this router: its networks, and those behind them."""
    near = (prefix for net in place.site.networks.values() if net.zone != NOT_ANNOUNCED for prefix in net.prefix)
    return (*near, *(route.prefix for route in place.router.routes))


def overlapping(one: Prefix, other: Prefix) -> bool:
    return within(one, other) or within(other, one)
