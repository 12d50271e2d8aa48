"""Autonomous systems, and what is announced where."""

from collections.abc import Iterator
from itertools import count

from dmvpn.errors import Problem
from dmvpn.firewall.prefixes import within
from dmvpn.network.model import Network
from dmvpn.network.places import NOT_ANNOUNCED, Place, hubs, members, overlapping, own_addresses, places
from dmvpn.network.plan import Address, Protocol
from dmvpn.network.plan import Network as Prefix
from dmvpn.network.preference import chooses, site_clouds
from dmvpn.network.proposals import free_asn
from dmvpn.network.source import Key

AS_TRANS = 23456  # RFC 6793 9
LAST_16_BIT_AS = 65535  # RFC 7300
INTERFACE_ID_BITS = 64  # RFC 4291 2.5.1


def asns(network: Network) -> Iterator[Problem]:
    seen: dict[int, str] = {}
    unused = count(free_asn(network))
    for name, site in network.sites.items():
        clouds = {cloud for router in site.routers.values() for cloud in router.tunnels if cloud in network.clouds}
        bgp = sorted(cloud for cloud in clouds if network.clouds[cloud].routing is Protocol.BGP)
        if site.asn is None:
            if bgp:
                what = f"site {name} has no asn, and cloud {bgp[0]} speaks BGP"
                yield Problem(("sites", name), what, f"add asn: a number no other site has, such as {next(unused)}")
            continue
        key = ("sites", name, "asn")
        if site.asn in (AS_TRANS, LAST_16_BIT_AS):
            yield Problem(key, f"AS {site.asn} is reserved", "use a private one: 64512 to 65534, or 4200000000 and up")
        if site.asn in seen:
            what = f"AS {site.asn} is that of {seen[site.asn]} too, so each would refuse the other's routes"
            yield Problem(key, what, "give each site its own")
        seen.setdefault(site.asn, name)


def routed_families(network: Network) -> Iterator[Problem]:
    """OSPFv3 and RIPng name link-local next hops: the end of a member's overlay address says which is whose."""
    for name, cloud in network.clouds.items():
        six = [(index, overlay) for index, overlay in enumerate(cloud.overlay) if overlay.version == 6]
        if cloud.routing is Protocol.BGP or not six:
            continue
        by = cloud.routing.upper()
        for index, overlay in six:
            if overlay.prefixlen < INTERFACE_ID_BITS:
                what = f"{overlay} is wider than a /64, and {by} tells routers apart by the last 64 bits"
                yield Problem(("clouds", name, "overlay", index), what, f"write a /64 of it, or routing: bgp at {name}")
        yield from _link_local_unknown(network, name, by)


def _link_local_unknown(network: Network, name: str, by: str) -> Iterator[Problem]:
    for member in members(network, name):
        if not member.place.ours and any(address.version == 6 for address in member.tunnel.address):
            what = f"{member.place.name} is a {member.place.router.platform} router, whose link-local address"
            fix = f"write routing: bgp at {name}, or give it an IPv4 address alone"
            yield Problem(member.key, f"{what} nobody knows, and {by} over IPv6 names no other next hop", fix)


def families_without_a_cloud(network: Network) -> Iterator[Problem]:
    """A network of a family that no tunnel of its site has is reached by nobody."""
    for name, site in network.sites.items():
        tunnels = [tunnel for router in site.routers.values() for tunnel in router.tunnels.values()]
        carried = {address.version for tunnel in tunnels for address in tunnel.address}
        for net_name, net in site.networks.items():
            for index, prefix in enumerate(net.prefix) if carried and net.zone != NOT_ANNOUNCED else ():
                if prefix.version not in carried:
                    what = f"no tunnel of {name} has an IPv{prefix.version} address, so no other site reaches {prefix}"
                    fix = f"add an IPv{prefix.version} overlay to its cloud, or zone: {NOT_ANNOUNCED}"
                    key: Key = ("sites", name, "networks", net_name, "prefix", index)
                    yield Problem(key, what, fix, warning=True)


def ripng_comes_last(network: Network) -> Iterator[Problem]:
    """FRR's ripngd has one administrative distance, 120: that of a tenth cloud (render/frr_choice.py)."""
    reported: set[str] = set()
    for place in places(network):
        mine = [name for name in network.clouds if name in place.router.tunnels and _has_ipv6(place, name)]
        if not place.ours or not chooses(network, site_clouds(place.site)):
            continue
        order = sorted(mine, key=lambda name: -(network.clouds[name].bandwidth or 0))
        for index, name in enumerate(order):
            other = next((one for one in order[index + 1 :] if not _is_rip(network, one)), None)
            if _is_rip(network, name) and other is not None and name not in reported:
                reported.add(name)
                what = f"for IPv6 {place.name} would take {other} before {name}: FRR's ripngd comes last, always"
                fix = f"give {name} less bandwidth than {other}, or write routing: ospf or bgp"
                yield Problem(("clouds", name), what, fix)


def _is_rip(network: Network, cloud: str) -> bool:
    return network.clouds[cloud].routing is Protocol.RIP


def _has_ipv6(place: Place, cloud: str) -> bool:
    return any(address.version == 6 for address in place.router.tunnels[cloud].address)


def rip_asks_for_no_bfd(network: Network) -> Iterator[Problem]:
    """FRR's bgpd and ospfd tell bfdd whom to watch; its ripd and ripngd do not."""
    for name, cloud in network.clouds.items():
        if _is_rip(network, name) and cloud.bfd is not None:
            what = f"cloud {name} is routed by RIP, which asks for no BFD: nobody would be watched"
            yield Problem(("clouds", name, "bfd"), what, "remove it, or write routing: ospf or bgp")


def rip_names_spokes(network: Network) -> Iterator[Problem]:
    """FRR's RIP keeps a next hop that is on the link it tells of: a hub's spokes go by each other, or not at all."""
    for name, cloud in network.clouds.items():
        if cloud.routing is Protocol.RIP and cloud.phase == 1:
            what = "by RIP spokes have each other as next hops, which phase 1 does not resolve"
            yield Problem(("clouds", name, "phase"), what, "write phase: 2 or 3, or routing: ospf or bgp")


def redistribution(network: Network) -> Iterator[Problem]:
    """Two protocols that feed each other loop."""
    reported: set[tuple[str, str]] = set()
    for name, cloud in network.clouds.items():
        for index, other in enumerate(cloud.redistribute):
            key = ("clouds", name, "redistribute", index)
            if other == name:
                yield Problem(key, f"cloud {name} takes its own routes", "remove it")
            elif other in network.clouds and (other, name) not in reported and _reaches(network, other, name):
                reported.add((name, other))
                what = f"{name} takes the routes of {other}, and its own come to {other}"
                yield Problem(key, what, "keep one direction: routes that go round come back better than they left")


def redistribution_has_a_place(network: Network) -> Iterator[Problem]:
    """Somebody has to know both clouds: a hub of the one, or a router beside it at its site."""
    for name, cloud in network.clouds.items():
        beside = {
            theirs
            for hub in hubs(network, name)
            for router in hub.place.site.routers.values()
            for theirs in router.tunnels
        }
        for index, other in enumerate(cloud.redistribute):
            if other in network.clouds and other != name and other not in beside:
                what = f"no hub of {name} and no router beside it is in {other}"
                yield Problem(("clouds", name, "redistribute", index), what, f"give the hub a tunnel of {other}")


def redistribution_carries(network: Network) -> Iterator[Problem]:
    """A hub of BGP's tells its spokes of all that is internal; with OSPF and RIP they know their own cloud alone."""
    for name, cloud in network.clouds.items():
        for index, other in enumerate(cloud.redistribute):
            key = ("clouds", name, "redistribute", index)
            if cloud.routing is Protocol.RIP:
                what = f"cloud {name} is routed by RIP, which takes no routes of another cloud"
                yield Problem(key, what, "write routing: ospf or bgp, or remove it")
            elif other in network.clouds and network.clouds[other].routing is not Protocol.BGP:
                alone = [site for site, clouds in _clouds_of_sites(network) if other in clouds and name not in clouds]
                if alone:
                    by = network.clouds[other].routing.upper()
                    what = (
                        f"{alone[0]} is in {other} alone and knows no way back to {name}: {by} tells it of {other} only"
                    )
                    yield Problem(key, what, f"write routing: bgp at {other}", warning=True)


def _clouds_of_sites(network: Network) -> Iterator[tuple[str, set[str]]]:
    for name, site in network.sites.items():
        yield name, {cloud for router in site.routers.values() for cloud in router.tunnels}


def routes(network: Network) -> Iterator[Problem]:
    """Networks behind a site's own: where they are and by whom."""
    seen: dict[tuple[str, Prefix], str] = {}
    for place in places(network):
        for index, route in enumerate(place.router.routes):
            key: Key = (*place.key, "routes", index)
            if not place.ours:
                yield Problem(key, f"{place.name} is a {place.router.platform} router", "write its routes there")
                continue
            yield from _via((*key, "via"), route.via, place)
            where: Key = (*key, "prefix")
            if (place.name, route.prefix) in seen:
                yield Problem(where, f"{route.prefix} has a route already", "keep one of the two")
            seen.setdefault((place.name, route.prefix), place.name)
            yield from _behind(where, route.prefix, place, network)


def _behind(where: Key, prefix: Prefix, place: Place, network: Network) -> Iterator[Problem]:
    taken = next((net for net in _near(place) if overlapping(net, prefix)), None)
    if taken is not None:
        yield Problem(where, f"{prefix} overlaps {taken} of the site itself", "remove it, or narrow it")
    elif not any(within(prefix, internal) for internal in network.prefixes):
        yield Problem(where, f"{prefix} is not inside prefixes", "add a prefix that has it to prefixes")
    for overlay in (overlay for cloud in network.clouds.values() for overlay in cloud.overlay):
        if overlapping(overlay, prefix):
            yield Problem(where, f"{prefix} overlaps the overlay {overlay}", "narrow it")
    for who, theirs in _elsewhere(network, place):
        if overlapping(theirs, prefix):
            yield Problem(where, f"{prefix} overlaps {theirs} of {who}", "change one of them")


def _near(place: Place) -> tuple[Prefix, ...]:
    return tuple(prefix for net in place.site.networks.values() for prefix in net.prefix)


def _elsewhere(network: Network, place: Place) -> Iterator[tuple[str, Prefix]]:
    for other in places(network):
        if other.site_name == place.site_name:
            continue
        yield from ((other.site_name, prefix) for prefix in _near(other))
        yield from ((other.name, route.prefix) for route in other.router.routes)


def _via(key: Key, via: Address, place: Place) -> Iterator[Problem]:
    mine = [
        (address, name, net)
        for name, net in place.site.networks.items()
        for address in own_addresses(place, name, net)
        if via in address.network
    ]
    if not mine:
        yield Problem(key, f"{via} is in no network of {place.site_name}", "name a router on one of them")
        return
    address, name, net = mine[0]
    if via in net.gateway and len(place.site.routers) > 1:
        yield Problem(
            key, f"{via} is the gateway that {place.site_name}'s routers share", "name the router behind them"
        )
    elif via == address.ip or via in net.gateway:
        yield Problem(key, f"{via} is {place.name}'s own address", "name the router behind which the network is")
    elif net.zone == NOT_ANNOUNCED:
        what = f"{via} is in {place.site_name}.{name}, whose zone never meets the clouds"
        yield Problem(key, what, "name a router on another network")


def _reaches(network: Network, start: str, goal: str) -> bool:
    """Whether routes of `goal` come to `start`, over any number of clouds."""
    todo, seen = [start], {start}
    while todo:
        cloud = network.clouds.get(todo.pop())
        for other in cloud.redistribute if cloud is not None else ():
            if other == goal:
                return True
            if other not in seen:
                seen.add(other)
                todo.append(other)
    return False


CHECKS = (
    asns,
    routed_families,
    families_without_a_cloud,
    rip_names_spokes,
    rip_asks_for_no_bfd,
    ripng_comes_last,
    redistribution,
    redistribution_has_a_place,
    redistribution_carries,
    routes,
)
