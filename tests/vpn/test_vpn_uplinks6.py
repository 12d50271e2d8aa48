"""Two ISPs at a hub and at a spoke, all with IPv6 alone: whichever dies, and at whichever end, the tunnel goes on."""

from collections.abc import Iterator

import pytest
from vpn_lab import NETWORKS, Figure, Vpn, settled_lab, until

from dmvpn.lab.impairment import Change

pytestmark = pytest.mark.lab

INTERVAL_S = 0.02
CARRIED_S = 30.0
BACK_S = 90.0


@pytest.fixture(scope="module")
def vpn() -> Iterator[Vpn]:
    with settled_lab(NETWORKS["uplinks6"], "six-isps") as vpn:
        yield vpn


def carrying(vpn: Vpn, router: str) -> str:
    """The uplink with the router's tunnel, if it is one."""
    names = [row.name for row in vpn.status(router).uplinks if row.tunnels]
    return names[0] if len(names) == 1 else ""


def states(vpn: Vpn, router: str) -> dict[str, str]:
    return {row.name: row.state for row in vpn.status(router).uplinks}


def default(vpn: Vpn, router: str) -> str:
    return vpn.run(router, "ip", "-6", "route", "show", "default").text


@pytest.mark.parametrize(("router", "gateway"), [("par1", "2001:db8:13::1"), ("hq1", "2001:db8:2::1")])
def test_a_silent_isp_is_left_and_taken_back(vpn: Vpn, figure: Figure, router: str, gateway: str) -> None:
    other = {"par1": "hq1", "hq1": "par1"}[router]
    until("both online", lambda: set(states(vpn, router).values()) == {"online"}, within_s=BACK_S)
    until("the first carries", lambda: carrying(vpn, router) == "isp1", within_s=CARRIED_S)
    with vpn.flow("paris-pc", "hq-pc", interval_s=INTERVAL_S) as flow:
        flow.until("direct", within_s=15)
        flow.mark()
        vpn.lab.impair(f"{router}.isp1", Change(silent=True))
        try:
            until("the other carries", lambda: carrying(vpn, router) == "isp2", within_s=CARRIED_S)
            flow.until("direct", within_s=CARRIED_S)
            lost = flow.lost()
            figure(f"an IPv6 ISP of {router} falls silent: nothing arrives for", len(lost) * INTERVAL_S)
            assert f"via {gateway}" in default(vpn, router)
            assert carrying(vpn, other) == "isp1", "the other end is where it was"
            assert all(one["state"] == "Established" for one in vpn.status(router).bgp), "BGP has noticed nothing"
        finally:
            vpn.lab.heal(f"{router}.isp1")
        until("the first is online", lambda: states(vpn, router)["isp1"] == "online", within_s=BACK_S)
        until("and carries", lambda: carrying(vpn, router) == "isp1", within_s=CARRIED_S)
        flow.until("direct", within_s=CARRIED_S)


def test_each_uplink_answers_by_itself(vpn: Vpn) -> None:
    for address in ("2001:db8:12::2", "2001:db8:13::2", "2001:db8:1::2", "2001:db8:2::2"):
        pinged = vpn.run("internet", "ping", "-6", "-c", "2", "-W", "2", address)
        assert pinged.status == 0, pinged.text
    way = vpn.run("par1", "ip", "route", "get", "2001:db8:1::2", "from", "2001:db8:13::2").text
    assert "via 2001:db8:13::1 dev eth2" in way
