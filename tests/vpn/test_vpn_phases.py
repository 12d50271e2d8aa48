"""Phase 1: the hub relays for good. Phase 2: routing names the far spoke, and the kernel asks where that is.

Phase 2 on both planes, since who asks is the plane's own device.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from vpn_lab import NETWORKS, PLANE_AT, Figure, Vpn, on_this_kernel, until, until_nothing

from dmvpn.daemon.control import WhyNot
from dmvpn.lab.stream import Figures
from dmvpn.linux import vtysh
from dmvpn.linux.pace import patience
from dmvpn.operations import labs

pytestmark = pytest.mark.lab

MANY = 100


def _vpn(phase: int, directory: Path) -> Iterator[Vpn]:
    file = directory / f"phase{phase}.yaml"
    file.write_text(on_this_kernel(NETWORKS["trio"].read_text()).replace("phase: 3", f"phase: {phase}"))
    with labs.held(file, f"vpn-phase{phase}-{os.getpid()}", lambda _progress: None) as lab:
        vpn = Vpn(lab)
        vpn.settle()
        yield vpn
        vpn.assert_no_traceback()


@pytest.fixture(scope="module")
def phase1(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vpn]:
    yield from _vpn(1, tmp_path_factory.mktemp("phase1"))


@pytest.fixture(scope="module")
def phase2(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vpn]:
    yield from _vpn(2, tmp_path_factory.mktemp("phase2"))


def _view(vpn: Vpn) -> dict[str, object]:
    return dict(vpn.json("par1", "explain", "paris", "lyon")[0])


def test_phase_1_always_relays(phase1: Vpn) -> None:
    with phase1.flow("paris-pc", "lyon-pc", interval_s=0.01) as flow:
        flow.until("relayed", within_s=5)
        until("many packets", lambda: len(flow.stream.stretch()) > MANY, within_s=20)
        assert flow.lost() == []
    assert all(packet.relayed for packet in flow.stream.packets)
    assert phase1.shortcuts() == []
    view = _view(phase1)
    assert (view["state"], view["via"], view["why"]) == ("via hub", "hq1", WhyNot.PHASE_1)
    assert "why not direct: phase 1" in phase1.dmvpn("par1", "explain", "paris", "lyon").text


@pytest.mark.parametrize(("router", "limit_s"), [("hq1", 6.0), ("par1", 3.0)])
def test_what_a_dead_bgpd_costs_is_known(phase1: Vpn, router: str, limit_s: float, figure: Figure) -> None:
    """Graceful restart, RFC 4724, as far as FRR keeps to it: docs/routing.md has the figures and why."""
    with phase1.flow("paris-pc", "lyon-pc", interval_s=0.01) as flow:
        flow.until("relayed", within_s=5)
        flow.mark()
        old = phase1.kill(router, "bgpd")
        phase1.returned(router, "bgpd", old)
        until_nothing("its sessions to be back", lambda: phase1.unsettled(router), within_s=30)
        flow.until("relayed", within_s=20)
        flow.lost()
        gap_s = Figures.of(flow.stream.stretch()).longest_gap_s
    figure(f"bgpd of {router} killed: longest gap", gap_s)
    assert gap_s < patience(limit_s)


@pytest.mark.parametrize("router", [pytest.param("hq1", marks=pytest.mark.wide), "par1"])
def test_a_zebra_that_was_killed_is_told_all_routes_again(phase1: Vpn, router: str, figure: Figure) -> None:
    """The kernel has them for a minute more; whoever had told the one before would not tell the next."""
    old = {name: phase1.services(router)[name].pid for name in ("zebra", "bgpd")}
    with phase1.flow("paris-pc", "lyon-pc", interval_s=0.01) as flow:
        flow.until("relayed", within_s=5)
        flow.mark()
        phase1.returned(router, "zebra", phase1.kill(router, "zebra"))
        until(
            "bgpd to be another one",
            lambda: phase1.services(router)["bgpd"].pid not in (None, old["bgpd"]),
            within_s=20,
        )
        until("zebra to know its routes", lambda: _told_to_zebra(phase1, router), within_s=40)
        until_nothing("its sessions to be back", lambda: phase1.unsettled(router), within_s=30)
        flow.until("relayed", within_s=20)
        flow.lost()
        gap_s = Figures.of(flow.stream.stretch()).longest_gap_s
    figure(f"zebra of {router} killed: longest gap", gap_s)
    assert phase1.status(router).troubles == ()


def _told_to_zebra(vpn: Vpn, router: str) -> bool:
    run = Path(vpn.layout.frr_run)
    return bool(vpn.node(router).call(lambda: vtysh.show(run, "show ip route bgp json", daemon="zebra")))


@pytest.mark.both_planes(vm_is_wide=True)
def test_phase_2_finds_the_next_hop_that_routing_names(phase2: Vpn, figure: Figure, place: str) -> None:
    assert [cloud.plane for cloud in phase2.status("par1").clouds] == [PLANE_AT[place]]
    assert "10.1.13.0/24" in phase2.run("par1", "ip", "route", "show", "via", "10.255.1.13").text
    with phase2.flow("paris-pc", "lyon-pc") as flow:
        figure("phase 2: direct after", flow.until("direct", within_s=10))
        assert len(flow.lost()) < patience(1), "none, or as many as pass while this machine would send one"
    assert flow.stream.packets[0].relayed
    view = _view(phase2)
    assert (view["state"], view["via"], view["why"]) == ("direct", "lyo1", WhyNot.DIRECT)
    last = phase2.json("par1", "ping", "lyon", "--until-direct")[-1]
    assert last["path"] == "direct"


@pytest.mark.both_planes(vm_is_wide=True)
def test_phase_2_relays_while_the_path_is_cut(phase2: Vpn, figure: Figure) -> None:
    with phase2.flow("paris-pc", "lyon-pc") as flow:
        flow.until("direct", within_s=10)
        phase2.lab.cut_path("par1", "lyo1")
        figure("phase 2, path cut: by the hub after", flow.until("relayed", within_s=8))
        view = _view(phase2)
        assert (view["state"], view["via"]) == ("via hub", "hq1")
        assert view["why"] in {WhyNot.PATH_DEAD, WhyNot.CONNECTING, WhyNot.NO_SECURITY}
        phase2.lab.heal_path("par1", "lyo1")
        figure("phase 2, path healed: direct after", flow.until("direct", within_s=40))
