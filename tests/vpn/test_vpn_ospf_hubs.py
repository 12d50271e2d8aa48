"""Two hubs of OSPF at equal cost: both are next hops, either says that there is a shorter way, and one may die."""

import json
import os
from collections.abc import Iterator

import pytest
from vpn_lab import NETWORKS, Figure, Vpn, on_this_kernel, until

from dmvpn.lab.impairment import Change
from dmvpn.lab.stream import Figures
from dmvpn.operations import labs

pytestmark = [pytest.mark.lab, pytest.mark.wide]

HUBS = {"hq1": "10.255.1.1", "res1": "10.255.1.2"}
LYON, PARIS = "10.1.13.0/24", "10.1.12.1"
LEARNT_S = 60.0
OSPF_DEAD_S = 40.0


@pytest.fixture(scope="module")
def vpn(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vpn]:
    text = on_this_kernel(NETWORKS["hubs"].read_text()).replace("routing: bgp", "routing: ospf, bfd: true")
    file = tmp_path_factory.mktemp("hubs") / "network.yaml"
    file.write_text(text)
    with labs.held(file, f"vpn-ospf-hubs-{os.getpid()}", lambda _progress: None) as lab:
        vpn = Vpn(lab)
        until("both hubs' ways", lambda: ways(vpn) == set(HUBS.values()), within_s=LEARNT_S)
        yield vpn
        vpn.assert_no_traceback()


def ways(vpn: Vpn) -> set[str]:
    """The next hops that par1's kernel has by OSPF to the network of Lyon."""
    found = json.loads(vpn.run("par1", "ip", "-json", "route", "show", LYON, "proto", "ospf").stdout)
    return {hop["gateway"] for row in found for hop in row.get("nexthops", [row])}


def test_whichever_hub_relays_says_that_there_is_a_shorter_way(vpn: Vpn) -> None:
    """The kernel spreads over both by source and destination: before, what the second one relayed stayed relayed."""
    targets = {by(vpn, f"10.1.13.{end}"): f"10.1.13.{end}" for end in range(20, 36)}
    assert set(targets) == set(HUBS.values())
    for hub, target in targets.items():
        assert vpn.dmvpn("par1", "nhrp", "purge").status == 0
        assert by(vpn, target) == hub
        vpn.run("par1", "ping", "-c", "3", "-i", "0.2", "-W", "1", "-I", PARIS, target)
        until(f"a shortcut after {target} by {hub}", lambda: vpn.peer("par1", "lyo1"), within_s=10)


def by(vpn: Vpn, target: str, source: str = PARIS) -> str:
    way = () if source == PARIS else ("iif", "eth1")
    (row,) = json.loads(vpn.run("par1", "ip", "-json", "route", "get", target, "from", source, *way).stdout)
    return str(row["gateway"])


def test_a_doctor_finds_nothing(vpn: Vpn) -> None:
    for router in vpn.routers():
        assert vpn.ill(router) == []


def test_the_hub_that_relays_falls_silent_and_is_taken_again(vpn: Vpn, figure: Figure) -> None:
    vpn.lab.cut_path("par1", "lyo1")
    vpn.forget()
    relaying = by(vpn, "10.1.13.10", source="10.1.12.10")
    (hub,) = (name for name, address in HUBS.items() if address == relaying)
    try:
        with vpn.flow("paris-pc", "lyon-pc") as flow:
            flow.until("relayed", within_s=15)
            flow.mark()
            vpn.lab.impair(f"{hub}.wan", Change(silent=True))
            until("the other hub's ways alone", lambda: relaying not in ways(vpn), within_s=OSPF_DEAD_S / 2)
            flow.until("relayed", within_s=5)
            flow.lost()
            gap_s = Figures.of(flow.stream.stretch()).longest_gap_s
    finally:
        vpn.lab.heal(f"{hub}.wan")
        vpn.lab.heal_path("par1", "lyo1")
    figure("OSPF, the relaying hub of two falls silent: longest gap", gap_s)
    assert 0.3 < gap_s < OSPF_DEAD_S / 2, "it did relay, and BFD is quicker than the dead interval"
    until("both hubs' ways again", lambda: ways(vpn) == set(HUBS.values()), within_s=LEARNT_S)
