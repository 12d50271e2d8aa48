"""All engines in the order in which their units start, and the one place that puts their files together."""

from collections.abc import Callable
from pathlib import PurePosixPath

from dmvpn.errors import Fault
from dmvpn.network.plan import Plan
from dmvpn.render import (
    adoption,
    daemon,
    dhcpcd,
    frr,
    gre,
    host,
    interfaces,
    keepalived,
    nftables,
    pppd,
    strongswan,
    uplinks,
)
from dmvpn.render.layout import Layout
from dmvpn.render.result import Rendered

# The guards stand before anything can send, the host's own services make room before ours come, addresses before
# whoever binds to them, charon before GRE and BGP speak.
ENGINES: tuple[tuple[str, Callable[[Plan, Layout], Rendered]], ...] = (
    (nftables.NAME, nftables.render),
    (adoption.NAME, adoption.render),
    (interfaces.NAME, interfaces.render),
    (dhcpcd.NAME, dhcpcd.render),
    (pppd.NAME, pppd.render),
    (uplinks.NAME, uplinks.render),
    (strongswan.NAME, strongswan.render),
    (frr.NAME, frr.render),
    (gre.NAME, gre.render),
    (daemon.NAME, daemon.render),
    (keepalived.NAME, keepalived.render),
    (host.NAME, host.render),
)


def render_all(plan: Plan) -> tuple[Rendered, ...]:
    """Every engine's part of this router, in starting order.

    Raises Fault for what an engine cannot do, and for a path or a unit that two engines claim.
    """
    layout = Layout(plan.network)
    parts = tuple(render(plan, layout) for _, render in ENGINES)
    _refuse_double_claims(parts)
    return parts


def _refuse_double_claims(parts: tuple[Rendered, ...]) -> None:
    owner: dict[PurePosixPath | str, str] = {}
    for part in parts:
        claims: list[PurePosixPath | str] = [file.path for file in part.files]
        claims += [unit.name for unit in part.units]
        for claim in claims:
            if claim in owner:
                raise Fault(part.engine, f"{claim} is claimed by {owner[claim]} too")
            owner[claim] = part.engine
