"""What every BGP neighbour of ours has, in the clouds and at the site. FRR manual, "BGP"."""

from collections.abc import Iterator

from dmvpn.network.plan import Address, Bgp, Plan, SiteSession
from dmvpn.render.words import word

BGP_PORT = 179
CONNECT_RETRY_S = 2  # the default of 120 s would be the time a network takes to come up


def has_bgp(plan: Plan) -> bool:
    """Whether the router has a bgpd: for a cloud, or for another router of its site."""
    return plan.session is not None or any(cloud.bgp is not None for cloud in plan.clouds)


def lines(address: Address, asn: int, router: str, session: Bgp | SiteSession) -> Iterator[str]:
    at = f" neighbor {address}"
    yield f"{at} remote-as {asn}"
    yield from ((f"{at} port {session.port}",) if session.port != BGP_PORT else ())
    yield f"{at} description {word(router, 'router')}"
    yield f"{at} timers {session.keepalive_s} {session.hold_s}"
    yield f"{at} timers connect {CONNECT_RETRY_S}"
