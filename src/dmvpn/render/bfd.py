"""BFD in FRR: bfdd beside bgpd and ospfd, a profile for each cloud that has it. FRR manual, "BFD"; RFC 5880 and 5882.

A hub that dies says nothing: without this its spokes wait for BGP's hold time.
"""

from collections.abc import Iterator

from dmvpn.network.plan import Bfd, Cloud, Plan, Role, SiteSession
from dmvpn.render.words import header, word

FILE = "bfdd.conf"
SITE = "dmvpn-site"  # the profile between routers of one site


def spoken(plan: Plan) -> bool:
    """Whether a cloud of this router has it: only then there is a bfdd."""
    at_site = plan.session is not None and plan.session.bfd is not None
    return at_site or any(cloud.bfd is not None for cloud in plan.clouds)


def conf(plan: Plan) -> str:
    """bfdd's own file: how often and how patiently, by cloud. Its sessions are bgpd's and ospfd's to ask for."""
    lines = [header(plan.network, plan.router, "!"), f"hostname {word(plan.router, 'router')}", "bfd"]
    for cloud in plan.clouds:
        if cloud.bfd is None:
            continue
        lines += _profile(profile(cloud), cloud.bfd)
        # A hub knows spokes of BGP that are away: to those it must say nothing. OSPF asks for those it has met.
        if cloud.role is Role.HUB and cloud.bgp is not None:
            lines += _profile(_called(cloud), cloud.bfd, "  passive-mode")
    if plan.session is not None and plan.session.bfd is not None:
        lines += _profile(SITE, plan.session.bfd)
    return "\n".join([*lines, "exit", ""])


def _profile(name: str, times: Bfd, *more: str) -> list[str]:
    return [
        f" profile {name}",
        f"  detect-multiplier {times.multiplier}",
        f"  transmit-interval {times.interval_ms}",
        f"  receive-interval {times.interval_ms}",
        *more,
        " exit",
    ]


def profile(cloud: Cloud) -> str:
    return f"dmvpn-{word(cloud.name, 'cloud')}"


def _called(cloud: Cloud) -> str:
    """The profile of those who begin."""
    return f"{profile(cloud)}-called"


def neighbor(cloud: Cloud, name: str) -> Iterator[str]:
    """What makes a neighbour end with its BFD session; nothing in a cloud without."""
    if cloud.bfd is not None:
        yield from _followed(name, profile(cloud))


def site_neighbor(session: SiteSession, name: str) -> Iterator[str]:
    """The same of another router of the site."""
    if session.bfd is not None:
        yield from _followed(name, SITE)


def callers(cloud: Cloud, group: str) -> Iterator[str]:
    """The same of a group whose members begin: the session waits for the first packet of theirs."""
    if cloud.bfd is not None:
        yield from _followed(group, _called(cloud))


def _followed(name: str, its_profile: str) -> Iterator[str]:
    yield f" neighbor {name} bfd"
    yield f" neighbor {name} bfd profile {its_profile}"
