"""BFD as rendered: nothing without it, a profile and neighbours with it, and a hub that falls silent is missed."""

import json
import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest
import render_plans as plans
from render_speaker import Speaker, readable
from render_wires import Namespaces, run, wait_for

from dmvpn.network.plan import Bfd, Plan
from dmvpn.render.engines import render_all

BFD = Bfd(interval_ms=250, multiplier=3)
HOLD_S = 9.0  # of render_plans


def with_bfd(plan: Plan) -> Plan:
    return replace(plan, clouds=tuple(replace(cloud, bfd=BFD) for cloud in plan.clouds))


def _frr(plan: Plan) -> dict[str, str]:
    return {file.path.name: file.text for part in render_all(plan) if part.engine == "frr" for file in part.files}


def _units(plan: Plan) -> list[str]:
    return [unit.name for part in render_all(plan) if part.engine == "frr" for unit in part.units]


def test_without_bfd_there_is_no_word_of_it() -> None:
    for plan in (plans.hub(), plans.spoke(), plans.dual_stack_hub()):
        assert "bfdd.conf" not in _frr(plan)
        assert all("bfd" not in text for text in _frr(plan).values())
        assert "dmvpn-acme-bfdd" not in _units(plan)


def test_bfdd_starts_before_bgpd_which_asks_it_for_sessions() -> None:
    names = [name.removeprefix("dmvpn-acme-") for name in _units(with_bfd(plans.hub()))]
    assert names == ["frr-run", "zebra", "bfdd", "bgpd", "learned"]


def test_the_profile_has_the_times_of_the_file() -> None:
    assert _frr(with_bfd(plans.spoke()))["bfdd.conf"].splitlines()[-7:] == [
        "bfd",
        " profile dmvpn-blue",
        "  detect-multiplier 3",
        "  transmit-interval 250",
        "  receive-interval 250",
        " exit",
        "exit",
    ]


@pytest.mark.parametrize(
    ("plan", "who"),
    [
        pytest.param(plans.spoke(), ("10.255.1.1",), id="a spoke's hub"),
        pytest.param(plans.hub(), ("blue-spokes",), id="a hub's spokes"),
        pytest.param(
            plans.dual_stack_hub(), ("blue-spokes", "10.255.1.2", "fd00:255:1::2"), id="hubs among each other"
        ),
    ],
)
def test_every_neighbour_ends_with_its_bfd_session(plan: Plan, who: tuple[str, ...]) -> None:
    lines = [line for line in _frr(with_bfd(plan))["bgpd.conf"].splitlines() if " bfd" in line]
    profiles = {name: "dmvpn-blue-called" if name == "blue-spokes" else "dmvpn-blue" for name in who}
    assert lines == [f" neighbor {name}{words}" for name in who for words in (" bfd", f" bfd profile {profiles[name]}")]


# ---------------------------------------------------------------- with FRR


@pytest.fixture
def pair(namespaces: Namespaces, tmp_path: Path) -> tuple[Speaker, Speaker]:
    readable(tmp_path)
    hub = Speaker(namespaces, with_bfd(plans.hub()), tmp_path / "hub")
    spoke = Speaker(namespaces, with_bfd(plans.spoke()), tmp_path / "spoke")
    run("ip", "link", "add", "acme-blue", "netns", hub.netns, "type", "veth", "peer", "acme-blue", "netns", spoke.netns)
    run("ip", "-n", hub.netns, "addr", "add", "10.255.1.1/24", "dev", "acme-blue")
    run("ip", "-n", spoke.netns, "addr", "add", "10.255.1.11/32", "dev", "acme-blue")
    hub.start()
    run("ip", "-n", spoke.netns, "link", "set", "acme-blue", "up")
    run("ip", "-n", spoke.netns, "route", "add", "10.255.1.1/32", "dev", "acme-blue", "scope", "link")
    spoke.start()
    wait_for(lambda: spoke.kernel_routes() == {"10.0.0.0/8"}, "the spoke has the network's prefixes")
    for end in (hub, spoke):
        wait_for(lambda end=end: _sessions(end)[:1] == ["up"], f"{end.plan.router} has its BFD session")  # type: ignore[misc]
    return hub, spoke


@pytest.mark.kernel
@pytest.mark.usefixtures("need_frr")
def test_a_hub_that_falls_silent_is_missed_long_before_the_hold_time(pair: tuple[Speaker, Speaker]) -> None:
    hub, spoke = pair
    for process in hub.processes.values():
        os.kill(process.pid, signal.SIGSTOP)
    began = time.monotonic()
    try:
        wait_for(lambda: spoke.kernel_routes() == set(), "the spoke drops what it has from the hub")
        assert time.monotonic() - began < HOLD_S / 2
    finally:
        for process in hub.processes.values():
            os.kill(process.pid, signal.SIGCONT)
    wait_for(lambda: spoke.kernel_routes() == {"10.0.0.0/8"}, "and takes it again")


@pytest.mark.kernel
@pytest.mark.usefixtures("need_frr")
def test_other_times_are_taken_by_a_reload_that_keeps_the_session(pair: tuple[Speaker, Speaker]) -> None:
    _, spoke = pair
    path = spoke.tree / "bfdd.conf"
    path.write_text(path.read_text().replace("250", "400"))
    run("ip", "netns", "exec", spoke.netns, *spoke.argv("bfdd", "reload"))
    wait_for(lambda: _peers(spoke)[0]["transmit-interval"] == 400, "bfdd has the new interval")
    assert spoke.show("bgp neighbors")["10.255.1.1"]["connectionsEstablished"] == 1


def _peers(end: Speaker) -> list[dict[str, object]]:
    shown = json.loads(run("vtysh", "--vty_socket", str(end.run_dir), "-c", "show bfd peers json"))
    assert isinstance(shown, list)
    return shown


def _sessions(end: Speaker) -> list[object]:
    """The first is spoke()'s: a hub has one for each that it knows, and those that are away are down."""
    return [peer["status"] for peer in sorted(_peers(end), key=lambda peer: str(peer["peer"]))]
