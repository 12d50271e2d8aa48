"""OSPF over the mesh: a spoke meets its hub only, learns every network by it, and shortcuts still make ways direct."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from vpn_lab import Vpn, until

from dmvpn.linux import vtysh
from dmvpn.operations import labs

pytestmark = [pytest.mark.lab, pytest.mark.both_planes(vm_is_wide=True)]

NETWORK = Path(__file__).parents[2] / "examples" / "ospf.yaml"
SPOKES = {"par1": ("10.1.1.1", "10.1.1.0/24"), "osl1": ("10.1.2.1", "10.1.2.0/24")}
LEARNT_S = 60.0  # two hellos, the exchange, and a retransmission or two


@pytest.fixture(scope="module")
def vpn() -> Iterator[Vpn]:
    with labs.held(NETWORK, f"vpn-ospf-{os.getpid()}", lambda _progress: None) as lab:
        vpn = Vpn(lab)
        for router in ("hq1", *SPOKES):
            until(f"OSPF routes on {router}", lambda router=router: len(learnt(vpn, router)) == 2, within_s=LEARNT_S)
        yield vpn
        vpn.assert_no_traceback()


def frr(vpn: Vpn, router: str, command: str) -> Any:
    run, daemon = Path(vpn.layout.frr_run), "zebra" if command.startswith("show ip route") else "ospfd"
    return vpn.node(router).call(lambda: vtysh.show(run, command, daemon=daemon))


def neighbours(vpn: Vpn, router: str) -> set[str]:
    return set(frr(vpn, router, "show ip ospf neighbor json")["neighbors"])


def learnt(vpn: Vpn, router: str) -> dict[str, str]:
    """The networks of other sites that OSPF has put into the kernel, and their next hops."""
    found = {}
    for prefix, rows in frr(vpn, router, "show ip route ospf json").items():
        for row in rows:
            if row.get("installed") and prefix.startswith("10.1."):
                found[prefix] = row["nexthops"][0].get("ip", "")
    return found


def pings(vpn: Vpn, source: str, target: str, count: int = 5) -> int:
    """How many of so many were answered."""
    answer = vpn.run(source, "ping", "-c", str(count), "-i", "0.3", "-I", SPOKES[source][0], target).text
    return int(answer.rsplit(" received", 1)[0].rsplit(" ", 1)[-1])


def test_the_virtual_machine_has_the_kernel_plane(vpn: Vpn, place: str) -> None:
    planes = {cloud.plane for router in ("hq1", *SPOKES) for cloud in vpn.status(router).clouds}
    assert planes == {"kernel"} or place == "native"


def test_a_hub_has_every_spokes_network_by_that_spoke(vpn: Vpn) -> None:
    assert learnt(vpn, "hq1") == {"10.1.1.0/24": "10.255.1.11", "10.1.2.0/24": "10.255.1.12"}


def test_a_spoke_has_every_network_by_its_hub(vpn: Vpn) -> None:
    assert learnt(vpn, "par1") == {"10.1.0.0/24": "10.255.1.1", "10.1.2.0/24": "10.255.1.1"}
    assert learnt(vpn, "osl1") == {"10.1.0.0/24": "10.255.1.1", "10.1.1.0/24": "10.255.1.1"}


def test_what_is_internet_only_is_not_told(vpn: Vpn) -> None:
    assert "10.1.101.0/24" not in {*learnt(vpn, "hq1"), *learnt(vpn, "osl1")}


def test_lan_reaches_lan_and_the_way_becomes_direct(vpn: Vpn) -> None:
    until("a ping from LAN to LAN", lambda: pings(vpn, "par1", "10.1.2.1") == 5, within_s=30)
    row = until("a shortcut", lambda: vpn.peer("par1", "osl1"), within_s=30)
    assert row.kind == "shortcut"
    assert [str(prefix) for prefix in row.prefixes] == ["10.1.2.0/24"]


def test_spokes_do_not_become_neighbours_over_a_shortcut(vpn: Vpn) -> None:
    """A hello to a spoke would make the shortcut itself OSPF's way, and every spoke every other's neighbour."""
    until("a shortcut", lambda: vpn.peer("par1", "osl1"), within_s=30)
    row = frr(vpn, "par1", "show ip ospf interface json")["interfaces"]["delta-blue"]
    vpn.run("par1", "sleep", str(2 + row["timerMsecs"] // 1000), timeout_s=30)  # a hello has gone out by then
    assert neighbours(vpn, "par1") == {"100.64.1.1"}
    assert learnt(vpn, "par1")["10.1.2.0/24"] == "10.255.1.1"
