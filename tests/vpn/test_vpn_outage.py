"""A hub whose WAN is silent for longer than BGP's hold time: its site is back seconds after the path is."""

import time

import pytest
from vpn_lab import Figure, Vpn, until, until_nothing

from dmvpn.lab.impairment import Change
from dmvpn.network.clouds import BGP_HOLD_S

NETWORK = "trio"
SPOKES = ("par1", "lyo1")
pytestmark = pytest.mark.lab
HUB_LIMIT_S = 30.0  # IKE's pauses grow while nobody answers
SESSION_LIMIT_S = 10.0  # about three, were there no other load; the fault this is for made it sixty


def test_a_hubs_site_is_back_soon_after_an_outage_longer_than_the_hold_time(vpn: Vpn, figure: Figure) -> None:
    with vpn.flow("paris-pc", "lyon-pc") as pair:
        pair.until("direct", within_s=15)
        pair.mark()
        vpn.lab.impair("hq1.wan", Change(silent=True))
        try:
            until_nothing("sessions to end", lambda: sorted(_established(vpn)), within_s=2 * BGP_HOLD_S)
        finally:
            vpn.lab.heal("hq1.wan")
        healed = time.monotonic()
        for spoke in SPOKES:
            until(f"the hub is up for {spoke}", lambda: vpn.status(spoke).hubs[0].state == "up", within_s=HUB_LIMIT_S)  # noqa: B023
        up = time.monotonic()
        with vpn.flow("paris-pc", "hq-pc") as flow:
            flow.until("direct", within_s=SESSION_LIMIT_S)  # two routers on the way, as between spokes
        back = time.monotonic()
        until("every session", lambda: _established(vpn) == {*SPOKES, "hq1"}, within_s=SESSION_LIMIT_S)
        assert pair.lost() == [], "what goes directly needs no hub"
    figure("hub silent for longer than the hold time, heard again: up after", up - healed)
    figure("and its site reached, after another", back - up)


def _established(vpn: Vpn) -> set[str]:
    """Routers with a BGP session that both ends have not given up."""
    return {name for name in vpn.routers() if any(row["state"] == "Established" for row in vpn.status(name).bgp)}
