"""Which sessions are missed: with hubs, and with the other routers of this site, whose sessions are on its network."""

import asyncio
from ipaddress import ip_address, ip_network
from types import SimpleNamespace
from typing import Any

import pytest

from dmvpn.daemon import bgp
from dmvpn.linux.vtysh import BgpPeer

HUB, PARTNER = "10.255.1.1", "10.1.12.3"


def node() -> Any:
    """A spoke of one cloud."""
    settings = SimpleNamespace(
        overlay=(ip_network("10.255.1.0/24"),), routing="bgp", hubs=(SimpleNamespace(overlay=(ip_address(HUB),)),)
    )
    cloud = SimpleNamespace(settings=settings, engine=SimpleNamespace(view=lambda _now: SimpleNamespace(bindings=())))
    return SimpleNamespace(
        settings=SimpleNamespace(paths=SimpleNamespace(frr_run=None)),
        clouds={"blue": cloud},
        learned=SimpleNamespace(trouble=""),
        now=lambda: 0.0,
    )


@pytest.mark.parametrize(
    ("states", "troubles"),
    [
        pytest.param({HUB: "Established", PARTNER: "Established"}, [], id="all stand"),
        pytest.param(
            {HUB: "Established", PARTNER: "Connect"},
            [(2, f"BGP with {PARTNER}, of this site, is not established: the ways of its clouds are not known here")],
            id="the site's own",
        ),
        pytest.param(
            {HUB: "Active", PARTNER: "Established"},
            [(3, f"BGP with {HUB} is not established")],
            id="the hub's: a partner is no hub",
        ),
    ],
)
def test_a_session_that_is_missing_is_a_trouble(
    monkeypatch: pytest.MonkeyPatch, states: dict[str, str], troubles: list[tuple[int, str]]
) -> None:
    rows = tuple(
        BgpPeer(ip_address(address), 65000, state, 1, 1.0, "ipv4Unicast", dynamic=False)
        for address, state in states.items()
    )
    monkeypatch.setattr(bgp.vtysh, "bgp_peers", lambda _run, _limit_s: rows)
    named, found = asyncio.run(bgp.sessions(node()))
    assert [(one.severity, one.what) for one in found] == troubles
    assert {row["address"]: row["state"] for row in named} == states
