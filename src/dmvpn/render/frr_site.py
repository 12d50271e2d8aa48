"""bgpd between the routers of one site that are in different clouds: each gives the other the ways of its own cloud.

Inside one AS, over a network of the site. What comes from a partner is the last choice, and goes no farther:
`no-export` stops it at the site, unless a hub's `redistribute` asks for it. So no cloud learns of another by a site
that is in both.
FRR manual, "BGP"; RFC 1997.
"""

from collections.abc import Iterator

from dmvpn.network.plan import Cloud, Network, Plan, Protocol, Role
from dmvpn.render import bfd, frr_choice, frr_lists, frr_neighbor
from dmvpn.render.words import word

PREFERENCE = 50  # local preference: below the default of 100, and all that a router's own clouds have
TOLD, NEVER, FROM, TO = "dmvpn-site", "dmvpn-site-never", "dmvpn-site-in", "dmvpn-site-out"
INTO = "dmvpn-to-bgp"
PORTS = "dmvpn-ports"
FAMILIES = ((4, "ip", 32), (6, "ipv6", 128))
WORDS = {(Protocol.OSPF, 4): "ospf", (Protocol.OSPF, 6): "ospf6", (Protocol.RIP, 4): "rip", (Protocol.RIP, 6): "ripng"}


def _gathered(plan: Plan) -> list[Cloud]:
    """Clouds of this router that bgpd must be told of: for a partner, or for a hub's `redistribute`."""
    taken = {name for cloud in plan.clouds for name in cloud.redistributes}
    return [cloud for cloud in plan.clouds if cloud.bgp is None and (plan.session is not None or cloud.name in taken)]


def gathers(plan: Plan) -> bool:
    return bool(_gathered(plan)) and frr_neighbor.has_bgp(plan)


def route_maps(plan: Plan) -> Iterator[str]:
    """What a partner is told: networks of other sites, never overlays, the transport range or the site's own."""
    if plan.session is None and not gathers(plan):
        return
    own: list[Network] = [plan.transport_range, *plan.serves]
    own += [overlay for cloud in plan.clouds for overlay in cloud.overlay]
    # A hub announces the whole of `prefixes` in its cloud; for its partner that would be a way to nowhere.
    summaries = plan.prefixes if any(cloud.role is Role.HUB for cloud in plan.clouds) else ()
    families = [family for family in FAMILIES if any(prefix.version == family[0] for prefix in plan.prefixes)]
    for version, kind, longest in families:
        entries = [f"deny {prefix} le {longest}" for prefix in dict.fromkeys(own) if prefix.version == version]
        entries += [f"deny {prefix}" for prefix in summaries if prefix.version == version]
        entries += [f"permit {prefix} le {longest}" for prefix in plan.prefixes if prefix.version == version]
        yield from frr_lists.closed(f"{kind} prefix-list {TOLD}", entries)
    stays = f" set community {_bound(exported=plan.session is not None and plan.session.exported)} additive"
    for number, (_, kind, _) in enumerate(families, start=1):
        match = f" match {kind} address prefix-list {TOLD}"
        if plan.session is not None:
            yield from frr_lists.permit(FROM, 10 * number, (match, f" set local-preference {PREFERENCE}"))
            yield from frr_lists.permit(TO, 10 * number, (match, stays))
    yield from _gathering(plan)


def _bound(*, exported: bool) -> str:
    """How far a route of another cloud may go."""
    return frr_choice.TAKEN if exported else "no-export"


def _gathering(plan: Plan) -> Iterator[str]:
    """Of a cloud that does not speak BGP: known to bgpd, for the partner alone unless a hub takes it."""
    if not gathers(plan):
        return
    taken = {name for cloud in plan.clouds if cloud.bgp is not None for name in cloud.redistributes}
    told = [(cloud, family) for cloud in _gathered(plan) for family in (4, 6) if frr_lists.speaks(cloud, family)]
    for number, (cloud, family) in enumerate(told, start=1):
        match = f" match {frr_lists.IP_WORDS[family]} address prefix-list {TOLD}"
        exported = cloud.name in taken or (plan.session is not None and plan.session.exported)
        community = f" set community {_bound(exported=exported)} additive"
        lines = (f" match interface {word(cloud.device, 'device')}", match, community)
        yield from frr_lists.permit(INTO, 10 * number, lines)


def neighbor_lines(plan: Plan) -> Iterator[str]:
    session = plan.session
    if session is None:
        return
    for peer in session.peers:
        yield from frr_neighbor.lines(peer.address, session.asn, peer.router, session)
        yield f" neighbor {peer.address} update-source {peer.own}"
        yield from bfd.site_neighbor(session, str(peer.address))


def standing(plan: Plan, version: int) -> tuple[Network, ...]:
    """Networks at ports of this router that another router of the site has too, and what is behind them: announced
    while zebra has them, a network while the port has carrier, what is behind it while the port is switched on. Else
    the clouds would send here what the other one could still bring.
    """
    if plan.vrrp is None:
        return ()
    shared = {gateway.device for gateway in plan.vrrp.gateways}
    found = [lan.prefix for lan in plan.lans if lan.device in shared and lan.prefix in plan.serves]
    found += [route.prefix for route in plan.routes if route.device in shared]
    return tuple(dict.fromkeys(prefix for prefix in found if prefix.version == version))


def ports(plan: Plan) -> Iterator[str]:
    """What is announced of them counts as if `network` had said it."""
    for number, version in enumerate((4, 6), start=1):
        prefixes = standing(plan, version)
        if prefixes:
            kind = f"{frr_lists.IP_WORDS[version]} prefix-list {PORTS}"
            yield from frr_lists.closed(kind, [f"permit {prefix}" for prefix in prefixes])
            match = f" match {frr_lists.IP_WORDS[version]} address prefix-list {PORTS}"
            yield from frr_lists.permit(PORTS, 10 * number, (match, " set origin igp", " set metric 0"))


def family_lines(version: int, plan: Plan) -> Iterator[str]:
    """Inside the address family."""
    session = plan.session
    if standing(plan, version):
        yield f"  redistribute connected route-map {PORTS}"
        if any(route.prefix in standing(plan, version) for route in plan.routes):
            yield f"  redistribute kernel route-map {PORTS}"
    if gathers(plan):
        for routing in {cloud.routing: None for cloud in _gathered(plan) if frr_lists.speaks(cloud, version)}:
            yield f"  redistribute {WORDS[routing, version]} route-map {INTO}"
    for peer in session.peers if session is not None else ():
        if peer.address.version != version:
            continue
        at = f"  neighbor {peer.address}"
        yield f"{at} activate"
        yield f"{at} next-hop-self"
        yield f"{at} route-map {FROM} in"
        yield f"{at} route-map {TO} out"
