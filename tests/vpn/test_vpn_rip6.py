"""RIP for both families: next hops of IPv6 are link-local, and each leads where the overlay address does."""

import json
import os
import re
import sys
from collections.abc import Iterator
from functools import partial

import pytest
from vpn_lab import NETWORKS, PLANE_AT, Vpn, until

from dmvpn.doctor.report import Outcome
from dmvpn.linux.neighbours import Neighbours
from dmvpn.operations import labs

pytestmark = [pytest.mark.lab, pytest.mark.both_planes(vm_is_wide=True)]

ROUTERS = ("hq1", "par1", "osl1")
DEVICE = "echo-blue"
LANS = {
    4: {"hq1": "10.1.0.1", "par1": "10.1.1.1", "osl1": "10.1.2.1"},
    6: {"hq1": "fd00:1:10::1", "par1": "fd00:1:11::1", "osl1": "fd00:1:12::1"},
}
# By router and family: the networks of other sites, and by whom; one behind another router of Paris among them.
WAYS = {
    ("hq1", 4): {"10.1.1.0/24": "10.255.1.11", "10.1.21.0/24": "10.255.1.11", "10.1.2.0/24": "10.255.1.12"},
    ("hq1", 6): {"fd00:1:11::/64": "fe80::11", "fd00:1:21::/64": "fe80::11", "fd00:1:12::/64": "fe80::12"},
    ("par1", 4): {"10.1.0.0/24": "10.255.1.1", "10.1.2.0/24": "10.255.1.12"},
    ("par1", 6): {"fd00:1:10::/64": "fe80::1", "fd00:1:12::/64": "fe80::12"},
    ("osl1", 4): {"10.1.0.0/24": "10.255.1.1", "10.1.1.0/24": "10.255.1.11", "10.1.21.0/24": "10.255.1.11"},
    ("osl1", 6): {"fd00:1:10::/64": "fe80::1", "fd00:1:11::/64": "fe80::11", "fd00:1:21::/64": "fe80::11"},
}
RIP_ROUTES = {4: "rip", 6: "190"}  # by number: not every iproute2 has a name for RIPng's
SHOWN = {4: ("ripd", "show ip rip"), 6: ("ripngd", "show ipv6 ripng")}
LEARNT_S = 40.0  # three updates, and one that was missed


@pytest.fixture(scope="module")
def vpn() -> Iterator[Vpn]:
    with labs.held(NETWORKS["rip6"], f"vpn-rip6-{os.getpid()}", lambda _progress: None) as lab:
        vpn = Vpn(lab)
        for router, version in WAYS:
            until(f"RIP's routes on {router}", lambda at=(router, version): brought(vpn, *at), within_s=LEARNT_S)
        yield vpn
        vpn.assert_no_traceback()


def learnt(vpn: Vpn, router: str, version: int) -> dict[str, str]:
    """What the kernel has by RIP, and the next hops."""
    rows = vpn.run(router, "ip", f"-{version}", "-json", "route", "show", "proto", RIP_ROUTES[version]).stdout
    return {row["dst"]: row["gateway"] for row in json.loads(rows)}


def brought(vpn: Vpn, router: str, version: int) -> bool:
    return learnt(vpn, router, version) == WAYS[router, version]


def pings(vpn: Vpn, version: int) -> int:
    """How many of five from Paris to Oslo were answered."""
    own, target = LANS[version]["par1"], LANS[version]["osl1"]
    answer = vpn.run("par1", "ping", "-c", "5", "-i", "0.3", "-I", own, target).text
    return int(answer.rsplit(" received", 1)[0].rsplit(" ", 1)[-1])


def shown(vpn: Vpn, version: int, network: str) -> str:
    return vpn.run("par1", "ip", f"-{version}", "route", "show", network).text


def ill(vpn: Vpn, router: str) -> set[str]:
    return {one.check for one in vpn.examined(router) if one.outcome is not Outcome.OK}


def told(vpn: Vpn, router: str, version: int) -> set[str]:
    """The networks that its RIP itself has from others, whatever else the kernel has."""
    daemon, command = SHOWN[version]
    argv = ("vtysh", "--vty_socket", vpn.layout.frr_run, "-d", daemon, "-c", command)
    return set(re.findall(r"^R\(n\) ([\da-f.:]+/\d+)", vpn.run(router, *map(str, argv)).text, re.MULTILINE))


def test_the_plane_is_the_place_s(vpn: Vpn, place: str) -> None:
    planes = {cloud.plane for router in ROUTERS for cloud in vpn.status(router).clouds}
    assert planes == {PLANE_AT[place]}


def test_each_next_hop_is_bound_under_both_addresses(vpn: Vpn) -> None:
    def ours() -> dict[str, str]:
        with Neighbours(79) as neighbours:
            return {str(row.protocol): str(row.nbma) for row in neighbours.ours(DEVICE)}

    found = vpn.node("hq1").call(ours)
    for end, nbma in (("11", "100.64.1.11"), ("12", "100.64.1.12")):
        assert (found[f"fd00:255:1::{end}"], found[f"fe80::{end}"]) == (nbma, nbma)


@pytest.mark.parametrize("version", [4, 6])
def test_lan_reaches_lan_the_way_becomes_direct_and_the_command_says_so(vpn: Vpn, version: int) -> None:
    own, target = LANS[version]["par1"], LANS[version]["osl1"]
    until("a ping from LAN to LAN", lambda: pings(vpn, version) == 5, within_s=30)
    there, arrived, *back = vpn.json("par1", "explain", own, target)
    assert (there["state"], there["via"]) == ("direct", "osl1")
    assert (arrived["router"], back[0]["destination"]) == ("osl1", own)
    assert "5 sent, 0 lost, direct" in vpn.dmvpn("par1", "ping", target).text


@pytest.mark.parametrize("version", [4, 6])
def test_a_shortcut_takes_the_place_of_nothing_that_rip_was_told(vpn: Vpn, version: int) -> None:
    """Were networks behind a router redistributed from the kernel, shortcuts would be, too."""
    network = {4: "10.1.2.0/24", 6: "fd00:1:12::/64"}[version]
    until("a ping from LAN to LAN", lambda: pings(vpn, version) == 5, within_s=30)
    until("a shortcut", lambda: "metric 10 " in shown(vpn, version, network), within_s=10)
    assert network in told(vpn, "par1", version)
    assert vpn.dmvpn("par1", "nhrp", "purge").status == 0
    until("RIP's routes alone", lambda: "metric 10 " not in shown(vpn, version, network), within_s=5)
    assert learnt(vpn, "par1", version) == WAYS["par1", version]
    assert pings(vpn, version) >= 4, "the first one may be what asks for the next hop"


def test_what_no_hub_relays_is_not_said_to_go_by_one(vpn: Vpn) -> None:
    assert vpn.dmvpn("par1", "ping", "10.1.1.10", "-c", "2").text.splitlines()[-1] == "2 sent, 0 lost, direct"


def test_each_family_has_its_table_in_ciscos_columns(vpn: Vpn) -> None:
    _, four, six = re.split(r"Interface: echo-blue, IPv[46] NHRP Details\n", vpn.dmvpn("hq1", "show", "dmvpn").text)
    assert ("10.255.1.11" in four, "fd00:255:1::11" in four) == (True, False)
    assert ("10.255.1.11" in six, "fd00:255:1::11" in six) == (False, True)
    assert four.startswith("Type:Hub, NHRP Peers:2,")


def test_a_doctor_finds_nothing_and_has_heard_of_both_families(vpn: Vpn) -> None:
    for router in ROUTERS:
        assert vpn.ill(router) == []
    checks = {one.check for one in vpn.examined("par1")}
    assert {"RIP with hq1", "RIP with hq1, IPv6"} <= checks


def test_a_change_of_networks_behind_a_site_restarts_no_daemon(vpn: Vpn) -> None:
    """What is gone is gone everywhere, and comes back."""
    pids = {name: vpn.services("par1")[name].pid for name in ("ripd", "ripngd")}
    in_force = vpn.read("par1", "/etc/dmvpn/echo/current/network.yaml")
    behind = {4: "10.1.21.0/24", 6: "fd00:1:21::/64"}
    kept = [line for line in in_force.splitlines(keepends=True) if not any(one in line for one in behind.values())]
    without = "".join(line for line in kept if line.strip() != "routes:")
    for name, text, there in (("without", without, False), ("with", in_force, True)):
        vpn.write("par1", f"/run/{name}.yaml", text)
        applied = vpn.dmvpn("par1", "apply", f"/run/{name}.yaml", timeout_s=120)
        assert applied.status == 0, applied
        for version, network in behind.items():
            has = partial(learnt, vpn, "osl1", version)
            until(f"osl1 {name} {network}", lambda h=has, n=network, t=there: (n in h()) is t, within_s=90)
    assert {name: vpn.services("par1")[name].pid for name in ("ripd", "ripngd")} == pids


@pytest.mark.wide
def test_a_hub_that_speaks_no_rip_is_missed(vpn: Vpn) -> None:
    missed = "hq1 (fd00:255:1::1) told of no route by RIP lately; run: dmvpn doctor"
    vpn.stop_service("hq1", "ripngd")
    try:
        silent = "RIP with hq1, IPv6"
        until("it is missed", lambda: silent in ill(vpn, "par1"), within_s=90)
        assert "RIP with hq1" not in ill(vpn, "par1")
        until("and in the status", lambda: missed in vpn.dmvpn("par1", "status").text, within_s=60)
    finally:
        vpn.start_service("hq1", "ripngd")
    until("RIPng's ways", lambda: brought(vpn, "par1", 6), within_s=LEARNT_S)


# What any host can say, at its own time: a network behind it, one hop away. RFC 2453 4, RFC 2080 2.
FORGED = {4: "10.1.77.0/24", 6: "fd00:1:77::/64"}
FORGER = """
import socket, sys
name = next(name for _, name in socket.if_nameindex() if name.startswith("eth"))
if sys.argv[1] == "4":
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, name.encode())
    s.bind(("", 520))
    entry = bytes.fromhex("00020000 0a014d00 ffffff00 00000000 00000001")
    s.sendto(bytes.fromhex("02020000") + entry, ("224.0.0.9", 520))
else:
    s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
    s.bind(("::", 521))
    entry = socket.inet_pton(socket.AF_INET6, "fd00:1:77::") + bytes.fromhex("00004001")
    s.sendto(bytes.fromhex("02010000") + entry, ("ff02::9", 521, 0, socket.if_nametoindex(name)))
"""


@pytest.mark.parametrize("version", [4, 6])
def test_no_host_of_a_site_is_believed(vpn: Vpn, version: int) -> None:
    """The last one: without its protection it is, and is told to everybody."""

    def forge() -> None:
        said = vpn.run("paris-pc", sys.executable, "-c", FORGER, str(version))
        assert said.status == 0, said
        vpn.run("par1", "sleep", "1")

    forge()
    assert FORGED[version] not in told(vpn, "par1", version)
    router, what = {4: ("rip", "distribute-list"), 6: ("ripng", "ipv6 distribute-list")}[version]
    daemon, _ = SHOWN[version]
    vpn.configure("par1", ("configure", f"router {router}", f"no {what} prefix dmvpn-nobody in eth1"), daemon)
    forge()
    until("it is believed", lambda: FORGED[version] in told(vpn, "par1", version), within_s=5)
