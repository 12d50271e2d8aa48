"""bgpd between the routers of one site that are in different clouds: each gives the other the ways of its own cloud.

Inside one AS, over a network of the site. What comes from a partner is the last choice, and goes no farther:
`no-export` stops it at the site, unless a hub's `redistribute` asks for it. So no cloud learns of another by a site
that is in both.
FRR manual, "BGP"; RFC 1997.
"""

from collections.abc import Iterator

from dmvpn.network.plan import Cloud, Network, Plan, Protocol, Role
from dmvpn.render import bfd, frr_choice
from dmvpn.render.words import word

CONNECT_RETRY_S = 2
PREFERENCE = 50  # local preference: below the default of 100, and all that a router's own clouds have
TOLD, NEVER, FROM, TO = "dmvpn-site", "dmvpn-site-never", "dmvpn-site-in", "dmvpn-site-out"
INTO = "dmvpn-to-bgp"
FAMILIES = ((4, "ip", 32), (6, "ipv6", 128))
WORDS = {Protocol.OSPF: "ospf", Protocol.RIP: "rip"}


def spoken(plan: Plan) -> bool:
    return plan.session is not None


def _gathered(plan: Plan) -> list[Cloud]:
    """Clouds of this router that bgpd must be told of: for a partner, or for a hub's `redistribute`."""
    taken = {name for cloud in plan.clouds for name in cloud.redistributes}
    return [cloud for cloud in plan.clouds if cloud.bgp is None and (plan.session is not None or cloud.name in taken)]


def gathers(plan: Plan) -> bool:
    return bool(_gathered(plan)) and (plan.session is not None or any(cloud.bgp is not None for cloud in plan.clouds))


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
        for number, entry in enumerate([*entries, f"deny {'0.0.0.0/0' if version == 4 else '::/0'} le {longest}"], 1):
            yield f"{kind} prefix-list {TOLD} seq {5 * number} {entry}"
    stays = f" set community {_bound(exported=plan.session is not None and plan.session.exported)} additive"
    for number, (_, kind, _) in enumerate(families, start=1):
        match = f" match {kind} address prefix-list {TOLD}"
        if plan.session is not None:
            yield from (f"route-map {FROM} permit {10 * number}", match, f" set local-preference {PREFERENCE}", "exit")
            yield from (f"route-map {TO} permit {10 * number}", match, stays, "exit")
    yield from _gathering(plan)


def _bound(*, exported: bool) -> str:
    """How far a route of another cloud may go."""
    return frr_choice.TAKEN if exported else "no-export"


def _gathering(plan: Plan) -> Iterator[str]:
    """Of a cloud that does not speak BGP: known to bgpd, for the partner alone unless a hub takes it."""
    if not gathers(plan):
        return
    taken = {name for cloud in plan.clouds if cloud.bgp is not None for name in cloud.redistributes}
    for number, cloud in enumerate(_gathered(plan), start=1):
        yield f"route-map {INTO} permit {10 * number}"
        yield f" match interface {word(cloud.device, 'device')}"
        yield f" match ip address prefix-list {TOLD}"
        exported = cloud.name in taken or (plan.session is not None and plan.session.exported)
        yield f" set community {_bound(exported=exported)} additive"
        yield "exit"


def neighbor_lines(plan: Plan) -> Iterator[str]:
    session = plan.session
    if session is None:
        return
    for peer in session.peers:
        at = f" neighbor {peer.address}"
        yield f"{at} remote-as {session.asn}"
        yield from ((f"{at} port {session.port}",) if session.port != 179 else ())
        yield f"{at} description {word(peer.router, 'router')}"
        yield f"{at} timers {session.keepalive_s} {session.hold_s}"
        yield f"{at} timers connect {CONNECT_RETRY_S}"
        yield f"{at} update-source {peer.own}"
        yield from bfd.site_neighbor(session, str(peer.address))


def family_lines(version: int, plan: Plan) -> Iterator[str]:
    """Inside the address family."""
    session = plan.session
    if version == 4 and gathers(plan):  # OSPF and RIP carry nothing else
        for cloud in {cloud.routing: cloud for cloud in _gathered(plan)}.values():
            yield f"  redistribute {WORDS[cloud.routing]} route-map {INTO}"
    for peer in session.peers if session is not None else ():
        if peer.address.version != version:
            continue
        at = f"  neighbor {peer.address}"
        yield f"{at} activate"
        yield f"{at} next-hop-self"
        yield f"{at} route-map {FROM} in"
        yield f"{at} route-map {TO} out"
