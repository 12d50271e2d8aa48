"""The main job on the demo network: pairs of sites become direct, and nothing is lost while they do."""

import re

import pytest
from vpn_lab import Figure, Vpn, until

from dmvpn.daemon.control import WhyNot

NETWORK = "demo"
pytestmark = pytest.mark.lab

HOSTS = {"hel1": "helsinki-pc", "par1": "paris-pc", "lyo1": "lyon-pc", "osl1": "oslo-pc", "hq1": "hq-pc"}
SWITCH_LIMIT_S = 10.0
CUT_LIMIT_S = 8.0  # the promise is 5 s; the rest is for a busy machine

SPOKES = [
    pytest.param("hel1", "par1", id="1:1 NAT and port-restricted NAT"),
    pytest.param("hel1", "lyo1", id="1:1 NAT and port-moving NAT"),
    pytest.param("hel1", "osl1", id="1:1 NAT and none"),
    pytest.param("par1", "lyo1", id="the same private address behind two NATs"),
    pytest.param("par1", "osl1", id="port-restricted NAT and none"),
    pytest.param("lyo1", "osl1", id="port-moving NAT and none"),
]


@pytest.mark.parametrize("spoke", ["hel1", "par1", "lyo1", "osl1"])
def test_the_tunnel_to_the_hub_is_the_direct_path(vpn: Vpn, spoke: str) -> None:
    with vpn.flow(HOSTS[spoke], HOSTS["hq1"]) as flow:
        flow.until("direct", within_s=SWITCH_LIMIT_S)
        assert flow.lost() == []
    assert not [packet for packet in flow.stream.packets if packet.relayed]


@pytest.mark.parametrize(("one", "other"), SPOKES)
def test_two_spokes_become_direct_and_lose_nothing_on_the_way(vpn: Vpn, one: str, other: str, figure: Figure) -> None:
    wire = vpn.start_capture("internet")
    with vpn.flow(HOSTS[one], HOSTS[other]) as flow:
        seconds = flow.until("direct", within_s=SWITCH_LIMIT_S)
        lost = flow.lost()
    seen = wire.counted()
    figure(f"{one} - {other}: direct after", seconds)
    assert flow.stream.packets[0].relayed, "the first packet goes by the hub"
    assert lost == []
    assert seen["gre_in_clear"] == 0
    assert seen["esp_in_udp"] > len(flow.stream.packets)
    for here, there in ((one, other), (other, one)):
        peer = vpn.peer(here, there)
        assert peer is not None
        assert (peer.kind, peer.state.value, peer.layer) == ("shortcut", "direct", "UP")


@pytest.mark.parametrize(("one", "other"), [("par1", "osl1"), ("osl1", "lyo1")])
def test_nothing_is_lost_while_both_ends_agree_on_one_sa(vpn: Vpn, one: str, other: str) -> None:
    """Both initiated: the second SA comes up, and one of the two goes, under the first seconds of the direct flow."""
    vpn.forget()
    with vpn.flow(HOSTS[one], HOSTS[other], interval_s=0.005) as flow:
        flow.until("direct", within_s=SWITCH_LIMIT_S)
        until("three seconds of packets", lambda: len(flow.stream.stretch()) > 600, within_s=20)
        assert flow.lost() == []


def test_a_cut_path_is_left_for_the_hub_and_taken_again_when_it_heals(vpn: Vpn, figure: Figure) -> None:
    with vpn.flow(HOSTS["par1"], HOSTS["lyo1"]) as flow:
        flow.until("direct", within_s=SWITCH_LIMIT_S)
        vpn.lab.cut_path("par1", "lyo1")
        try:
            seconds = flow.until("relayed", within_s=CUT_LIMIT_S)
            text = vpn.dmvpn("par1", "explain", "paris", "lyon").text
        finally:
            vpn.lab.heal_path("par1", "lyo1")
        healed = flow.until("direct", within_s=60)
        flow.mark()
        assert flow.lost() == []
    figure("par1 - lyo1 cut: by the hub after", seconds)
    figure("par1 - lyo1 healed: direct after", healed)
    reason = re.search(r"^par1 -> .*: via hub \(hq1\)$.*^  why not direct: ([^(\n]+)", text, re.MULTILINE | re.DOTALL)
    assert reason is not None, text
    assert reason[1].strip() in {WhyNot.PATH_DEAD, WhyNot.CONNECTING, WhyNot.NO_SECURITY}


def test_the_hub_may_be_away_while_a_direct_flow_runs(vpn: Vpn) -> None:
    with vpn.flow(HOSTS["hel1"], HOSTS["osl1"]) as flow:
        flow.until("direct", within_s=SWITCH_LIMIT_S)
        flow.mark()
        assert vpn.dmvpn("hq1", "stop").status == 0
        until("the hub is missed", lambda: vpn.status("hel1").hubs[0].state != "up", within_s=60)
        status = vpn.dmvpn("hel1", "status")
        assert vpn.dmvpn("hq1", "run").status == 0
        vpn.settle()
        assert flow.lost() == []
        assert all(packet.direct for packet in flow.stream.stretch())
    assert status.status == 1
    assert status.text.splitlines()[-1].startswith("hub hq1 is")
    assert "run: dmvpn explain hel1 hq1" in status.text.splitlines()[-1]


@pytest.mark.parametrize(
    "victim", [pytest.param("hel1", id="on a spoke of the pair"), pytest.param("hq1", id="on the hub")]
)
def test_dmvpnd_may_be_killed_under_a_direct_flow(vpn: Vpn, victim: str) -> None:
    with vpn.flow(HOSTS["hel1"], HOSTS["osl1"]) as flow:
        flow.until("direct", within_s=SWITCH_LIMIT_S)
        # What is adopted is what was remembered: once every two seconds.
        until("remembered", lambda: "10.1.14.0/24" in vpn.read("hel1", _MEMORY), within_s=10)
        neighbours, routes = _neighbours(vpn, "hel1"), _shortcut_routes(vpn, "hel1")
        assert "10.1.14.0/24" in routes
        flow.mark()
        pid = vpn.kill(victim, "dmvpnd")
        vpn.returned(victim, "dmvpnd", pid)
        vpn.settle()
        until("its shortcut is taken up", lambda: vpn.peer("hel1", "osl1"), within_s=10)
        assert flow.lost() == []
        assert all(packet.direct for packet in flow.stream.stretch())
    assert _neighbours(vpn, "hel1") >= neighbours
    assert _shortcut_routes(vpn, "hel1") == routes
    wanted = [one for one in vpn.moments("hel1") if one["happening"] == "shortcut-wanted"]
    if victim == "hel1":
        assert not wanted, "adopted, not resolved anew"


_MEMORY = "/var/lib/dmvpn/acme/nhrp-blue.json"


def _neighbours(vpn: Vpn, router: str) -> set[str]:
    rows = vpn.run(router, "ip", "neigh", "show", "dev", "acme-blue", "nud", "permanent").text.splitlines()
    return {row.split()[0] for row in rows}


def _shortcut_routes(vpn: Vpn, router: str) -> set[str]:
    return {line.split()[0] for line in vpn.run(router, "ip", "route", "show", "proto", "redirect").text.splitlines()}
