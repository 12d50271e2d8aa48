"""What routers of one site do for each other: shared gateways, ways into each other's clouds; who is behind them."""

from collections.abc import Iterator
from ipaddress import IPv4Address

from dmvpn.network.model import Network
from dmvpn.network.places import NOT_ANNOUNCED, Place, own_addresses, places, with_length
from dmvpn.network.plan import Bfd, Gateway, Opening, Role, SitePeer, SiteSession, StaticRoute, Vrrp
from dmvpn.network.ports import lan_device
from dmvpn.network.transport import transport_address

SITE_KEEPALIVE_S, SITE_HOLD_S = 3, 9
NOBODYS_AS = 4294967294  # RFC 6996's last: a session inside a site that no BGP cloud ever sees
PRIORITIES = (200, 10)  # the first router's, and how much less each next one offers; RFC 5798 5.2.4: 1 to 254
LOST = 100  # so much less of one without a tunnel: the next one has more, and of several without the first


def planned_vrrp(network: Network, place: Place) -> Vrrp | None:
    """None for a site with one router, or without gateways."""
    routers = list(place.site.routers)
    gateways = tuple(_gateways(place))
    if len(routers) < 2 or not gateways:
        return None
    first, step = PRIORITIES
    settings = network.system.vrrp
    return Vrrp(
        group=settings.group,
        priority=max(LOST + 1, first - step * routers.index(place.name)),
        lost=LOST,
        advertise_ms=round(settings.advertise * 100) * 10,
        gateways=gateways,
    )


def _gateways(place: Place) -> Iterator[Gateway]:
    for name, net in place.site.networks.items():
        device = lan_device(place, net) or ""
        for address in net.gateway:
            prefix = next((prefix for prefix in net.prefix if address in prefix), None)
            if prefix is not None:
                yield Gateway(name, device, with_length(address, prefix))


def planned_session(network: Network, place: Place) -> SiteSession | None:
    """None where the other routers of the site are in the same clouds: each has all ways itself."""
    others = [other for other in places(network) if other.site_name == place.site_name and other.name != place.name]
    apart = [other for other in others if set(other.router.tunnels) != set(place.router.tunnels)]
    peers = tuple(peer for other in apart for peer in _peer(place, other))
    if not peers:
        return None
    clouds = [network.clouds[name] for router in place.site.routers.values() for name in router.tunnels]
    times = [cloud.bfd for cloud in clouds if cloud.bfd is not None]
    quickest = min(times, key=lambda bfd: bfd.interval * bfd.multiplier, default=None)
    return SiteSession(
        asn=place.site.asn or NOBODYS_AS,
        router_id=IPv4Address(str(transport_address(network, place))),
        peers=peers,
        keepalive_s=SITE_KEEPALIVE_S,
        hold_s=SITE_HOLD_S,
        port=network.ports.bgp,
        exported=any(_takes(network, other, place) for other in others),
        bfd=None if quickest is None else Bfd(round(quickest.interval * 1000), quickest.multiplier),
    )


def _takes(network: Network, other: Place, place: Place) -> bool:
    """Whether a hub beside this router announces a cloud of this one in its own."""
    hubs = [name for name, tunnel in other.router.tunnels.items() if tunnel.role is Role.HUB]
    return any(name in place.router.tunnels for hub in hubs for name in network.clouds[hub].redistribute)


def _peer(place: Place, other: Place) -> Iterator[SitePeer]:
    """One session for each family, over the first network that both are in."""
    for version in (4, 6):
        for name, net in place.site.networks.items():
            if net.zone == NOT_ANNOUNCED:
                continue
            own = [one for one in own_addresses(place, name, net) if one.version == version]
            theirs = [one for one in own_addresses(other, name, net) if one.version == version]
            if own and theirs:
                yield SitePeer(other.name, theirs[0].ip, own[0].ip, lan_device(place, net) or "")
                break


def planned_routes(place: Place) -> tuple[StaticRoute, ...]:
    """In the file's order."""
    found = []
    for route in place.router.routes:
        for name, net in place.site.networks.items():
            if any(route.via in address.network for address in own_addresses(place, name, net)):
                found.append(StaticRoute(route.prefix, route.via, lan_device(place, net) or ""))
                break
    return tuple(found)


def site_openings(network: Network, place: Place) -> Iterator[Opening]:
    """What the other routers of the site send to this one."""
    vrrp, session = planned_vrrp(network, place), planned_session(network, place)
    if vrrp is not None:
        yield Opening("VRRP", "vrrp", (), tuple(dict.fromkeys(gateway.device for gateway in vrrp.gateways)))
    if session is not None:
        devices = tuple(dict.fromkeys(peer.device for peer in session.peers))
        yield Opening("BGP between the site's routers", "tcp", (session.port,), devices)
        if session.bfd is not None:
            yield Opening("BFD between the site's routers", "udp", (3784,), devices)
