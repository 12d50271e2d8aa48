"""A hub dies without a word while it relays: with BFD its spokes are at the other hub within a second or so."""

import os
from collections.abc import Callable, Iterator

import pytest
from vpn_lab import NETWORKS, Figure, Vpn, until

from dmvpn.lab.impairment import Change
from dmvpn.lab.stream import Figures
from dmvpn.network.clouds import BGP_HOLD_S
from dmvpn.operations import labs

pytestmark = pytest.mark.lab
ADDRESSES = {"10.255.1.1": "hq1", "10.255.1.2": "res1"}
MISSED_LIMIT_S = BGP_HOLD_S / 2
AGAIN_LIMIT_S = 60.0
# It waits for the hold time, and that another hub takes over then is test_vpn_two_hubs.py's too.
without_bfd = pytest.param(False, id="no bfd", marks=pytest.mark.wide)


@pytest.fixture(scope="module", params=[pytest.param(True, id="bfd"), without_bfd])
def vpn(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vpn]:
    """Two hubs, two spokes that cannot reach each other directly; with BFD and without."""
    text = NETWORKS["hubs"].read_text()
    if request.param:
        assert "plane: userspace}" in text
        text = text.replace("plane: userspace}", "plane: userspace, bfd: true}")
    path = tmp_path_factory.mktemp("bfd") / "network.yaml"
    path.write_text(text)
    with labs.held(path, f"vpn-bfd-{os.getpid()}", lambda _progress: None) as lab:
        vpn = Vpn(lab)
        vpn.settle()
        if request.param:
            until("every BFD session", lambda: not _without_bfd(vpn), within_s=10)
        vpn.lab.cut_path("par1", "lyo1")
        yield vpn
        vpn.assert_no_traceback()


def _silence(vpn: Vpn, hub: str) -> None:
    vpn.lab.impair(f"{hub}.wan", Change(silent=True))


def _hear(vpn: Vpn, hub: str) -> None:
    vpn.lab.heal(f"{hub}.wan")


def _kill(vpn: Vpn, hub: str) -> None:
    """The supervisor is the first process of all that it keeps: the kernel ends the rest with it, at once."""
    zebra = vpn.services(hub)["zebra"].pid
    stat = vpn.read(hub, f"/proc/{zebra}/stat")
    vpn.run(hub, "kill", "-9", stat.rpartition(")")[2].split()[1])


def _start(vpn: Vpn, hub: str) -> None:
    assert vpn.dmvpn(hub, "run").status == 0


Deed = Callable[[Vpn, str], None]


@pytest.mark.parametrize(
    ("die", "live"),
    [pytest.param(_silence, _hear, id="its uplink is silent"), pytest.param(_kill, _start, id="all its processes die")],
)
def test_what_a_dead_hub_relayed_goes_by_the_other(
    die: Deed, live: Deed, vpn: Vpn, figure: Figure, request: pytest.FixtureRequest
) -> None:
    bfd = "bfdd" in vpn.services("par1")
    hub = _relaying(vpn)
    try:
        with vpn.flow("paris-pc", "lyon-pc", interval_s=0.01) as flow:
            flow.until("relayed", within_s=15)
            flow.mark()
            die(vpn, hub)
            took_s = flow.until("relayed", within_s=2 * BGP_HOLD_S)
            flow.lost()
            gap_s = Figures.of(flow.stream.stretch()).longest_gap_s
    finally:
        live(vpn, hub)
    until("all as before", lambda: not any(vpn.unsettled(router) for router in vpn.routers()), within_s=AGAIN_LIMIT_S)
    if bfd:
        until("every BFD session again", lambda: not _without_bfd(vpn), within_s=10)
    case = request.node.callspec.id.partition("-")[2] or request.node.callspec.id
    figure(f"hub dead ({case}), {'with' if bfd else 'without'} BFD: nothing arrived for", gap_s)
    if bfd:
        assert max(gap_s, took_s) < MISSED_LIMIT_S, "BFD is there to be quicker than the hold time"


def _without_bfd(vpn: Vpn) -> list[str]:
    """Routers that have not a session with each of the others that they have BGP with: spokes 2, hubs 3."""
    wanted = {name: 3 if name in ADDRESSES.values() else 2 for name in vpn.routers()}
    return [name for name, count in wanted.items() if _bfd(vpn, name).count("up") != count]


def _bfd(vpn: Vpn, router: str) -> list[str]:
    shown = vpn.run(router, "vtysh", "--vty_socket", str(vpn.layout.frr_run), "-c", "show bfd peers brief").text
    return [line.split()[-1] for line in shown.splitlines() if "10.255.1." in line]


def _relaying(vpn: Vpn) -> str:
    """The hub by which the first spoke reaches the other site."""
    route = vpn.run("par1", "ip", "route", "get", "10.1.13.10").text.split()
    return ADDRESSES[route[route.index("via") + 1]]
