"""OSPF for both families, with FRR 10: next hops are link-local, and each leads where the overlay address does."""

import json
import os
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from vpn_lab import PLANE, PLANE_AT, Vpn, until, until_nothing

from dmvpn.daemon.control import State
from dmvpn.doctor.report import Outcome
from dmvpn.errors import Fault
from dmvpn.lab import frr10
from dmvpn.linux import vtysh
from dmvpn.linux.neighbours import Neighbours
from dmvpn.operations import labs

pytestmark = [
    pytest.mark.lab,
    pytest.mark.both_planes(vm_is_wide=True),
    pytest.mark.skipif(bool(frr10.why_not()), reason=frr10.why_not()),
]

NETWORK = Path(__file__).parents[2] / "examples" / "ospf6.yaml"
ROUTERS = ("hq1", "par1", "osl1")
DEVICE = "delta-blue"
LANS = {"hq1": "fd00:1:10::1", "par1": "fd00:1:11::1", "osl1": "fd00:1:12::1"}
LEARNT_S = 60.0  # two hellos, the exchange, and a router's own pause between two versions of what it says


@pytest.fixture(scope="module")
def vpn(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vpn]:
    file = tmp_path_factory.mktemp("ospf6") / "ospf6.yaml"
    # An emulated machine misses 0.3 s of packets whenever it has something else to do.
    slower = "bfd: {interval: 1s, multiplier: 10}"
    file.write_text(NETWORK.read_text().replace("bfd: {}", slower if PLANE == "kernel" else "bfd: {}"))
    with labs.held(file, f"vpn-ospf6-{os.getpid()}", lambda _progress: None) as lab:
        vpn = Vpn(lab)
        for router, ways in WAYS.items():
            until(f"OSPF's routes on {router}", lambda r=router, w=ways: learnt(vpn, r) == w, within_s=LEARNT_S)
        yield vpn
        vpn.assert_no_traceback()


WAYS = {
    "hq1": {"fd00:1:11::/64": "fe80::11", "fd00:1:21::/64": "fe80::11", "fd00:1:12::/64": "fe80::12"},
    "par1": {"fd00:1:10::/64": "fe80::1", "fd00:1:12::/64": "fe80::1"},
    "osl1": {"fd00:1:10::/64": "fe80::1", "fd00:1:11::/64": "fe80::1", "fd00:1:21::/64": "fe80::1"},
}  # the network behind another router of Paris among them, and no internet-only one


def learnt(vpn: Vpn, router: str) -> dict[str, str]:
    """The networks of other sites that the kernel has by OSPF, and their next hops."""
    rows = json.loads(vpn.run(router, "ip", "-6", "-json", "route", "show", "proto", "ospf").stdout)
    return {row["dst"]: row["gateway"] for row in rows if row["dst"].endswith("/64")}


def frr(vpn: Vpn, router: str, command: str, daemon: str) -> Any:
    run = Path(vpn.layout.frr_run)
    return vpn.node(router).call(lambda: vtysh.show(run, command, daemon=daemon))


def entries(vpn: Vpn, router: str) -> dict[str, str]:
    """Where the kernel sends what goes to each next hop."""

    def ours() -> dict[str, str]:
        with Neighbours(79) as neighbours:
            return {str(row.protocol): str(row.nbma) for row in neighbours.ours(DEVICE)}

    return vpn.node(router).call(ours)


def clients_up(vpn: Vpn) -> int:
    try:
        return sum(row.layer == "UP" for row in vpn.status("hq1").peers)
    except Fault:  # it has only just started
        return 0


def pings(vpn: Vpn, source: str, target: str) -> int:
    """How many of five were answered."""
    answer = vpn.run(source, "ping", "-c", "5", "-i", "0.3", "-I", LANS[source], LANS[target]).text
    return int(answer.rsplit(" received", 1)[0].rsplit(" ", 1)[-1])


def test_the_plane_is_the_place_s(vpn: Vpn, place: str) -> None:
    planes = {cloud.plane for router in ROUTERS for cloud in vpn.status(router).clouds}
    assert planes == {PLANE_AT[place]}


def test_each_next_hop_is_bound_under_both_addresses(vpn: Vpn) -> None:
    found = entries(vpn, "hq1")
    for end, nbma in (("11", "100.64.1.11"), ("12", "100.64.1.12")):
        assert (found[f"fd00:255:1::{end}"], found[f"fe80::{end}"]) == (nbma, nbma)


def test_both_families_have_their_neighbours_and_bfd_watches_them(vpn: Vpn) -> None:
    run = Path(vpn.layout.frr_run)
    met = vpn.node("hq1").call(lambda: vtysh.ospf_neighbours(run))
    assert {(str(one.router_id), one.address.version, one.full) for one in met} == {
        (router, version, True) for router in ("100.64.1.11", "100.64.1.12") for version in (4, 6)
    }
    sessions = frr(vpn, "hq1", "show bfd peers json", "bfdd")
    assert {(one["peer"], one["status"]) for one in sessions} == {
        (peer, "up") for peer in ("10.255.1.11", "10.255.1.12", "fe80::11", "fe80::12")
    }


def test_lan_reaches_lan_the_way_becomes_direct_and_the_command_says_so(vpn: Vpn) -> None:
    until("a ping from LAN to LAN", lambda: pings(vpn, "par1", "osl1") == 5, within_s=30)
    row = until("a shortcut", lambda: vpn.peer("par1", "osl1"), within_s=30)
    assert "fd00:1:12::/64" in row.prefixes
    there, arrived, *back = vpn.json("par1", "explain", LANS["par1"], LANS["osl1"])
    assert (there["state"], there["gateway"], there["table"]) == ("direct", "fd00:255:1::12", "shortcut")
    assert (arrived["router"], back[0]["destination"]) == ("osl1", LANS["par1"])
    assert "5 sent, 0 lost, direct" in vpn.dmvpn("par1", "ping", LANS["osl1"]).text


def test_what_the_hub_relays_is_said_to_go_by_it(vpn: Vpn) -> None:
    """Oslo's address in its LAN ends as the hub's does on the tunnel."""
    for router in ("par1", "osl1"):
        assert vpn.dmvpn(router, "nhrp", "purge").status == 0
    (first, *_) = vpn.dmvpn("par1", "ping", LANS["osl1"], "-c", "1").text.splitlines()
    assert first.endswith("via hub")


def test_explain_calls_a_hub_by_its_overlay_address(vpn: Vpn) -> None:
    (first, *_) = vpn.json("osl1", "explain", LANS["osl1"], LANS["hq1"])
    assert (first["state"], first["gateway"], first["via"]) == ("direct", "fd00:255:1::1", "hq1")
    assert "5 sent, 0 lost, direct" in vpn.dmvpn("hq1", "ping", LANS["osl1"]).text


def test_a_doctor_finds_nothing(vpn: Vpn) -> None:
    for router in ROUTERS:
        assert vpn.ill(router) == []
    found = {one.check: one.what for one in vpn.examined("hq1")}
    assert found["OSPF in blue"] == found["OSPF in blue, IPv6"] == "2 neighbours, all full"


def test_a_hub_that_speaks_no_ospf_is_missed(vpn: Vpn) -> None:
    missed = "OSPF with hq1 (fd00:255:1::1) has no full adjacency"
    vpn.stop_service("hq1", "ospf6d")
    try:
        until("it is missed", lambda: missed in vpn.dmvpn("par1", "status").text, within_s=90)
        ill = {one.check: one for one in vpn.examined("par1") if one.outcome is not Outcome.OK}
        assert ill["OSPF in blue, IPv6"].what == "no full neighbour: hq1"
        assert ill["internal prefixes by blue"].what == f"no route by {DEVICE} into fd00::/16"
        assert "OSPF in blue" not in ill
    finally:
        vpn.start_service("hq1", "ospf6d")
    until("OSPF's ways", lambda: learnt(vpn, "par1") == WAYS["par1"], within_s=LEARNT_S)
    assert missed not in vpn.dmvpn("par1", "status").text


def test_spokes_do_not_become_neighbours_over_a_shortcut(vpn: Vpn) -> None:
    until("a shortcut", lambda: vpn.peer("par1", "osl1"), within_s=30)
    vpn.run("par1", "sleep", "12", timeout_s=30)  # a hello has gone out by then
    assert set(frr(vpn, "par1", "show ipv6 ospf6 neighbor detail json", "ospf6d")) == {"100.64.1.1%delta-blue"}


def test_nobody_speaks_from_another_s_link_local_address(vpn: Vpn, place: str) -> None:
    if place == "vm":
        pytest.skip("the kernel plane has no check of inner sources")
    before = vpn.drops("hq1").get("gre source", 0)
    vpn.run("par1", "ip", "address", "add", "fe80::12/64", "dev", DEVICE, "nodad")
    try:
        stolen = vpn.run("par1", "ping", "-c", "2", "-W", "1", "-I", f"fe80::12%{DEVICE}", f"fe80::1%{DEVICE}")
        own = vpn.run("par1", "ping", "-c", "2", "-W", "1", "-I", f"fe80::11%{DEVICE}", f"fe80::1%{DEVICE}")
    finally:
        vpn.run("par1", "ip", "address", "del", "fe80::12/64", "dev", DEVICE)
    assert " 100% packet loss" in stolen.text
    assert " 0% packet loss" in own.text
    until("the drops", lambda: vpn.drops("hq1").get("gre source", 0) >= before + 2, within_s=10)


def test_a_new_dmvpnd_takes_both_entries_up_and_no_adjacency_ends(vpn: Vpn) -> None:
    before = entries(vpn, "hq1")
    since = [one.full for one in vpn.node("hq1").call(lambda: vtysh.ospf_neighbours(Path(vpn.layout.frr_run)))]
    assert all(since)
    old = vpn.kill("hq1", "dmvpnd")
    assert entries(vpn, "hq1") == before
    vpn.returned("hq1", "dmvpnd", old)
    until("clients again", lambda: clients_up(vpn) == 4, within_s=30)
    assert entries(vpn, "hq1") == before
    if PLANE == "userspace":
        assert learnt(vpn, "hq1") == WAYS["hq1"]
    else:  # hellos are copied by dmvpnd, and an emulated one takes its time to come back
        until("OSPF's ways", lambda: learnt(vpn, "hq1") == WAYS["hq1"], within_s=LEARNT_S)


def test_a_change_leaves_the_adjacencies(vpn: Vpn) -> None:
    def cost() -> int:
        return int(frr(vpn, "par1", f"show ipv6 ospf6 interface {DEVICE} json", "ospf6d")[DEVICE]["cost"])

    assert cost() == 100
    pid = vpn.services("par1")["ospf6d"].pid
    vpn.write(
        "par1",
        "/run/changed.yaml",
        vpn.read("par1", "/etc/dmvpn/delta/current/network.yaml").replace("bandwidth: 100M", "bandwidth: 200M"),
    )
    applied = vpn.dmvpn("par1", "apply", "/run/changed.yaml", timeout_s=90)
    assert applied.status == 0, applied
    assert (cost(), vpn.services("par1")["ospf6d"].pid) == (50, pid)
    assert learnt(vpn, "par1") == WAYS["par1"]


def test_who_leaves_takes_both_entries_and_its_ways_along(vpn: Vpn) -> None:
    vpn.stop_service("osl1", "charon")
    try:
        gone = ("fd00:255:1::12", "fe80::12")
        until_nothing("osl1's entries", lambda: [one for one in entries(vpn, "hq1") if one in gone], within_s=40)
        # Just then an operator wants to know who it was.
        assert {row.name for row in vpn.status("hq1").peers if row.state is not State.DIRECT} == {"osl1"}
        until("osl1's ways", lambda: set(learnt(vpn, "hq1").values()) == {"fe80::11"}, within_s=60)
    finally:
        vpn.start_service("osl1", "charon")
    until("osl1 again", lambda: learnt(vpn, "hq1") == WAYS["hq1"], within_s=LEARNT_S)
    assert ip_address(entries(vpn, "hq1")["fe80::12"]) == ip_address("100.64.1.12")


def test_a_router_may_lose_the_family_and_get_it_back(vpn: Vpn) -> None:
    """The daemon that ends leaves its socket behind: `apply` must not look for it there."""
    in_force = vpn.read("osl1", "/etc/dmvpn/delta/current/network.yaml")
    for name, text, daemons in (
        ("without", in_force.replace(', "fd00:255:1::12"', ""), {"ospfd"}),
        ("with", in_force, {"ospfd", "ospf6d"}),
    ):
        vpn.write("osl1", f"/run/{name}.yaml", text)
        applied = vpn.dmvpn("osl1", "apply", f"/run/{name}.yaml", timeout_s=120)
        assert applied.status == 0, applied
        assert {unit for unit in vpn.services("osl1") if unit.startswith("ospf")} == daemons
    until("osl1 again", lambda: learnt(vpn, "hq1") == WAYS["hq1"], within_s=LEARNT_S)
    assert "good: nothing to do" in vpn.dmvpn("osl1", "status").text
