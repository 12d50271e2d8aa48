"""Two hubs: spokes know both, and losing one costs seconds, not shortcuts.

In the virtual machine with BFD, which test_vpn_bfd.py measures here: one lab shows both, and a hub that is silent.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from vpn_lab import NETWORKS, PLANE_AT, Figure, Vpn, on_this_kernel, settled_lab, until

from dmvpn.lab.impairment import Change
from dmvpn.lab.stream import Figures
from dmvpn.network.clouds import BGP_HOLD_S

pytestmark = pytest.mark.lab
FAILOVER_LIMIT_S = 45.0  # BGP's hold time is 30 s
AGAIN_LIMIT_S = 60.0


@pytest.fixture(scope="module")
def vpn(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vpn]:
    text = on_this_kernel(NETWORKS["hubs"].read_text()).replace("plane: kernel", "plane: kernel, bfd: true")
    file = tmp_path_factory.mktemp("hubs") / "network.yaml"
    file.write_text(text)
    with settled_lab(file, "hubs") as vpn:
        yield vpn


@pytest.mark.both_planes(vm_is_wide=True)
def test_a_spoke_is_registered_with_both_hubs(vpn: Vpn, place: str) -> None:
    assert {cloud.plane for router in vpn.routers() for cloud in vpn.status(router).clouds} == {PLANE_AT[place]}
    for spoke in ("par1", "lyo1"):
        assert {(hub.router, hub.state) for hub in vpn.status(spoke).hubs} == {("hq1", "up"), ("res1", "up")}
    for hub in ("hq1", "res1"):
        clients = {row.name: row.state.value for row in vpn.status(hub).peers if row.kind == "client"}
        assert clients == {"par1": "direct", "lyo1": "direct"}


def test_a_shortcut_does_not_notice_that_a_hub_is_gone(vpn: Vpn) -> None:
    with vpn.flow("paris-pc", "lyon-pc") as flow:
        flow.until("direct", within_s=15)
        flow.mark()
        with _stopped(vpn, _hub_of(vpn, "par1")) as hub:
            until(f"{hub} is missed", lambda: hub in _missed(vpn, "par1"), within_s=30)
            flow.until("direct", within_s=5)
            status = vpn.dmvpn("par1", "status")
        assert flow.lost() == []
        assert all(packet.direct for packet in flow.stream.stretch())
    assert status.status == 3, "one of two hubs is a warning"
    assert status.text.splitlines()[-1].startswith(f"hub {hub} is connecting")


@pytest.mark.vm
@pytest.mark.wide
def test_a_silent_hub_is_left_for_the_other_and_back_when_it_is_heard(vpn: Vpn) -> None:
    """test_vpn_bfd.py and test_vpn_outage.py do it here."""
    vpn.lab.cut_path("par1", "lyo1")
    hub = _hub_of(vpn, "par1")
    try:
        with vpn.flow("paris-pc", "lyon-pc", interval_s=0.05) as flow:
            flow.until("relayed", within_s=15)
            flow.mark()
            vpn.lab.impair(f"{hub}.wan", Change(silent=True))
            took_s = flow.until("relayed", within_s=2 * BGP_HOLD_S)
            flow.lost()
            gap_s = Figures.of(flow.stream.stretch()).longest_gap_s
    finally:
        vpn.lab.heal(f"{hub}.wan")
        vpn.lab.heal_path("par1", "lyo1")
    until("all as before", lambda: not any(vpn.unsettled(router) for router in vpn.routers()), within_s=AGAIN_LIMIT_S)
    assert max(gap_s, took_s) < BGP_HOLD_S / 2, "BFD is there to be quicker than the hold time"


@pytest.mark.both_planes(vm_is_wide=True)
def test_what_must_be_relayed_goes_by_the_other_hub(vpn: Vpn, figure: Figure) -> None:
    """The last one: nothing is put back."""
    vpn.lab.cut_path("par1", "lyo1")
    with vpn.flow("paris-pc", "lyon-pc") as flow:
        flow.until("relayed", within_s=15)
        assert vpn.dmvpn(_hub_of(vpn, "par1"), "stop").status == 0
        figure("one of two hubs stopped: by the other after", flow.until("relayed", within_s=FAILOVER_LIMIT_S))


@contextmanager
def _stopped(vpn: Vpn, hub: str) -> Iterator[str]:
    assert vpn.dmvpn(hub, "stop").status == 0
    try:
        yield hub
    finally:
        assert vpn.dmvpn(hub, "run").status == 0
        vpn.settle()


def _missed(vpn: Vpn, router: str) -> set[str]:
    return {hub.router for hub in vpn.status(router).hubs if hub.state != "up"}


def _hub_of(vpn: Vpn, router: str) -> str:
    """The hub that the summary leads to."""
    route = vpn.run(router, "ip", "route", "get", "10.99.0.1").text.split()
    addresses = {"10.255.1.1": "hq1", "10.255.1.2": "res1"}
    return addresses.get(route[route.index("via") + 1], "") if "via" in route else ""
