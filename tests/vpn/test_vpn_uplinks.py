"""A spoke with two ISPs: one dies, silent or with its carrier, and returns; tunnels over others notice nothing.

On the kernel plane (`make wide`) the same without what is not the tunnels' own.
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
from uplink_counts import counted, counts
from vpn_lab import NETWORKS, PLANE_AT, Figure, Flow, Vpn, on_this_kernel, settled_lab, until

from dmvpn.daemon.control import UplinkRow
from dmvpn.lab import vm
from dmvpn.lab.impairment import Change
from dmvpn.linux import process
from dmvpn.linux.pace import patience

pytestmark = pytest.mark.lab
HOOK = "/etc/dmvpn/hooks/uplink"
TOLD = "/run/uplink-hook"
SILENT_LIMIT_S = 6.0  # three are the goal; where several labs run, answers and timers are late
CARRIER_LIMIT_S = 3.0
# The responder sends into a new SA at once, the initiator takes it with the last answer of IKE: half a round trip.
BACK_PACKETS = 2
# There an end holds what comes in against a policy of the SA that it took last, while the other still sends by the one
# before: until it has IKE's answer, and has looked at the certificate in it.
BACK_PACKETS_KERNEL = 5
NEW_ADDRESS = "198.51.100.10"
LINK = "anew"  # the ISP's end of what stands for a line that was taken away and came back


@pytest.fixture(scope="module")
def vpn(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vpn]:
    file = tmp_path_factory.mktemp("uplinks") / "network.yaml"
    file.write_text(on_this_kernel(NETWORKS["uplinks"].read_text()))
    with settled_lab(file, "uplinks") as vpn:
        yield vpn


@pytest.fixture(autouse=True, scope="module")
def hook(vpn: Vpn) -> None:
    told = f'echo "$DMVPN_UPLINK $DMVPN_STATE $event" >> {TOLD}'
    text = f"#!/bin/sh\nread -r event\n{told}\ngrep CapEff /proc/self/status >> {TOLD}\n"
    vpn.node("par1").call(partial(_executable, Path(HOOK), text))


@pytest.mark.both_planes(vm_is_wide=True)
def test_both_uplinks_are_online_and_the_first_carries_the_tunnels(vpn: Vpn, place: str) -> None:
    assert {cloud.plane for router in vpn.routers() for cloud in vpn.status(router).clouds} == {PLANE_AT[place]}
    with vpn.flow("paris-pc", "lyon-pc") as flow:
        flow.until("direct", within_s=15)
        rows = until("the tunnels' uplink", lambda: _carrying(vpn, "isp1"), within_s=10)
    assert {name: row.state for name, row in rows.items()} == {"isp1": "online", "isp2": "online"}
    assert rows["isp1"].tunnels == ("blue to hq1", "blue to lyo1")
    assert rows["isp2"].tunnels == ()
    assert vpn.dmvpn("par1", "status").status == 0
    shown = vpn.json("par1", "status")["uplinks"]
    assert [(row["name"], row["serves"], row["gateways"]) for row in shown] == [
        ("isp1", True, ["198.51.100.1"]),
        ("isp2", True, ["203.0.113.1"]),
    ]


@pytest.mark.both_planes(vm_is_wide=True)
def test_a_silent_isp_is_left_within_seconds_and_taken_back_before_it_is_needed(vpn: Vpn, figure: Figure) -> None:
    with _flows(vpn) as (to_hub, to_spoke, beside):
        vpn.lab.impair("par1.isp1", Change(silent=True))
        try:
            until("the other uplink carries", lambda: _carrying(vpn, "isp2"), within_s=15)
            _answers(to_hub, to_spoke)
            gaps = {"hub": to_hub.gap_s(), "spoke": to_spoke.gap_s()}
            assert beside.lost() == [], "nothing of what goes over other uplinks"
            assert _default(vpn) == ["203.0.113.1"]
            assert vpn.dmvpn("par1", "status").status == 3
            explained = vpn.json("par1", "explain", "paris", "hq")[0]["steps"]
            assert [one["what"] for one in explained if one["layer"] == "UNDERLAY"] == [
                "uplink isp2 is up, isp1 is offline"
            ]
            # Peers know where it is now, and BGP has noticed nothing.
            assert _endpoint_at_hub(vpn) == "203.0.113.2"
            assert all(one["state"] == "Established" for one in vpn.status("par1").bgp)
        finally:
            vpn.lab.heal("par1.isp1")
        for flow in (to_hub, to_spoke, beside):
            flow.mark()
        until("the preferred uplink carries", lambda: _carrying(vpn, "isp1"), within_s=20)
        until("and the old SAs are gone", lambda: _only_over(vpn, "198.51.100.2"), within_s=20)
        _moved_back(to_hub, to_spoke, beside)
    for whom, gap_s in gaps.items():
        figure(f"silent ISP: a LAN host's ping to a {whom}'s site answers after", gap_s)
        assert gap_s < patience(SILENT_LIMIT_S)


def test_hooks_have_run_without_privilege(vpn: Vpn) -> None:
    lines = until("two hooks", lambda: _two(vpn.read("par1", TOLD).splitlines()), within_s=10)
    told = [line.split(" ", 2) for line in lines if line.startswith("isp")]
    assert [(uplink, state) for uplink, state, _event in told] == [("isp1", "offline"), ("isp1", "online")]
    event = json.loads(told[0][2])
    assert (event["device"], event["before"], event["serving"]) == ("eth0", "disconnecting", ["isp2"])
    assert {int(line.split()[1], 16) for line in lines if line.startswith("CapEff")} == {0}


@pytest.mark.both_planes(vm_is_wide=True)
def test_each_uplink_answers_by_itself(vpn: Vpn) -> None:
    """The default route leads to the first; what came by the second goes back by it."""
    for address in ("198.51.100.2", "203.0.113.2"):
        pinged = vpn.run("hq1", "ping", "-c", "2", "-W", "2", address)
        assert pinged.status == 0, pinged.text
    way = vpn.run("par1", "ip", "route", "get", "192.0.2.2", "from", "203.0.113.2").text
    assert "via 203.0.113.1 dev eth2" in way
    assert vpn.run("par1", "ip", "route", "get", "10.1.13.10", "from", "203.0.113.2").text.count("blue"), "internal"


def test_what_came_in_by_an_uplink_is_answered_by_it_from_behind_the_router_too(vpn: Vpn) -> None:
    """A service in the LAN, reached by the second uplink while the default route is the first's."""
    with counted(vpn, "udp sport 7007"):
        server = vpn.node("paris-pc").start(("python3", "-c", ECHO))
        try:
            asked = until("an answer", lambda: _asked(vpn, "203.0.113.2"), within_s=10)
        finally:
            server.stop()
        assert asked == "paris"
        by_device = counts(vpn)
    assert by_device["eth0"] == 0
    assert by_device["eth2"] > 0


def test_a_connection_through_the_dead_uplink_goes_on_through_the_other(vpn: Vpn) -> None:
    """Tracked, and marked with the dead one: without being forgotten it would stay there for good."""
    ping = vpn.node("paris-pc").start(("ping", "-i", "0.2", "-w", "60", "198.18.0.1"))
    try:
        with counted(vpn, "ip daddr 198.18.0.1 icmp type echo-request meta mark and 0xff000000 == 0"):
            until("it goes by the first", lambda: counts(vpn)["eth0"] > 3, within_s=10)
            vpn.lab.impair("par1.isp1", Change(silent=True))
            try:
                until("the other uplink carries", lambda: _carrying(vpn, "isp2"), within_s=15)
                before = counts(vpn)
                until("it goes by the second", lambda: counts(vpn)["eth2"] > before["eth2"] + 15, within_s=10)
            finally:
                vpn.lab.heal("par1.isp1")
            until("the preferred uplink carries", lambda: _carrying(vpn, "isp1"), within_s=20)
    finally:
        ping.stop()


def test_an_isp_that_loses_most_packets_is_left(vpn: Vpn) -> None:
    """Some answers come, and too few."""
    vpn.lab.impair("par1.isp1", Change(loss=0.6))
    try:
        until("it is left", lambda: _uplinks(vpn)["isp1"].state == "offline", within_s=60)
        until("the other uplink carries", lambda: _carrying(vpn, "isp2"), within_s=15)
    finally:
        vpn.lab.heal("par1.isp1")
    until("the preferred uplink carries", lambda: _carrying(vpn, "isp1"), within_s=60)


def test_two_uplinks_with_weights_share_connections_and_a_dead_one_has_none(vpn: Vpn) -> None:
    """The file stays so for the tests behind."""
    text = NETWORKS["uplinks"].read_text()
    for weight in WEIGHTS:
        text = text.replace(
            "probe: {up: 3}\n            hook", f"probe: {{up: 3}}\n            weight: {weight}\n            hook", 1
        )
    assert _apply(vpn, text).status == 0
    until("a shared route", lambda: "nexthop" in _routes(vpn), within_s=10)
    with counted(vpn, "udp dport 9"):
        vpn.run("paris-pc", "python3", "-c", MANY)
        shared = counts(vpn)
    assert sum(shared.values()) == MANY_PORTS
    assert 0.6 < shared["eth0"] / MANY_PORTS < 0.9, f"three of four: {shared}"
    vpn.lab.impair("par1.isp1", Change(silent=True))
    try:
        until("one has all", lambda: _default(vpn) == ["203.0.113.1"], within_s=15)
        with counted(vpn, "udp dport 9"):
            vpn.run("paris-pc", "python3", "-c", MANY)
            by_device = counts(vpn)
        assert by_device == {"eth0": 0, "eth2": MANY_PORTS}
    finally:
        vpn.lab.heal("par1.isp1")
    until("the preferred uplink carries", lambda: _carrying(vpn, "isp1"), within_s=30)


@pytest.mark.both_planes(vm_is_wide=True)
def test_a_line_that_returns_with_another_address_heals_by_itself(vpn: Vpn, figure: Figure) -> None:
    with _flows(vpn) as (to_hub, to_spoke, beside):
        assert vpn.run("par1", "ip", "link", "delete", "eth0").status == 0
        until("the other uplink carries", lambda: _carrying(vpn, "isp2"), within_s=15)
        _answers(to_hub, to_spoke)
        figure("device taken away: a LAN host's ping answers after", to_hub.gap_s())
        assert to_hub.gap_s() < patience(CARRIER_LIMIT_S)
        for flow in (to_hub, to_spoke):
            flow.mark()
        _new_line(vpn)
        until("the preferred uplink carries", lambda: _carrying(vpn, "isp1"), within_s=30)
        until("and the old SAs are gone", lambda: _only_over(vpn, NEW_ADDRESS), within_s=20)
        _moved_back(to_hub, to_spoke, beside)
    assert _endpoint_at_hub(vpn) == NEW_ADDRESS
    assert NEW_ADDRESS in vpn.run("par1", "ip", "rule").text


@pytest.mark.both_planes(vm_is_wide=True)
def test_lost_carrier_needs_no_probe(vpn: Vpn, figure: Figure) -> None:
    """The line of the test before, whose other end is the ISP's."""
    with _flows(vpn) as (to_hub, to_spoke, beside):
        assert vpn.run("internet", "ip", "link", "set", LINK, "down").status == 0
        until("the other uplink carries", lambda: _carrying(vpn, "isp2"), within_s=15)
        _answers(to_hub, to_spoke)
        assert beside.lost() == []
        for whom, flow in (("hub", to_hub), ("spoke", to_spoke)):
            figure(f"carrier lost: a LAN host's ping to a {whom}'s site answers after", flow.gap_s())
            assert flow.gap_s() < patience(CARRIER_LIMIT_S)
    assert "no carrier" in _uplinks(vpn)["isp1"].why


def test_a_device_that_returns_bare_gets_what_the_file_says(vpn: Vpn) -> None:
    """As a card that was pulled and put back."""
    assert vpn.run("par1", "ip", "link", "delete", "eth0").status == 0
    until("it is missed", lambda: _uplinks(vpn)["isp1"].state == "disabled", within_s=10)
    _plug_in(vpn, "198.51.100.2")
    until("the preferred uplink carries", lambda: _carrying(vpn, "isp1"), within_s=30)
    assert "198.51.100.2/30" in vpn.run("par1", "ip", "addr", "show", "eth0").text


# ---------------------------------------------------------------- looking


def _uplinks(vpn: Vpn) -> dict[str, UplinkRow]:
    return {row.name: row for row in vpn.status("par1").uplinks}


def _carrying(vpn: Vpn, uplink: str) -> dict[str, UplinkRow] | None:
    """All uplinks, if this one has both tunnels."""
    rows = _uplinks(vpn)
    return rows if len(rows[uplink].tunnels) == 2 else None


def _routes(vpn: Vpn) -> str:
    return vpn.run("par1", "ip", "route", "show", "default").text


def _default(vpn: Vpn) -> list[str]:
    return [line.split()[2] for line in _routes(vpn).splitlines()]


def _endpoint_at_hub(vpn: Vpn) -> str:
    row = vpn.peer("hq1", "par1")
    assert row is not None
    return row.endpoint.rpartition(":")[0]


def _only_over(vpn: Vpn, address: str) -> bool:
    return {_far_end(vpn, hub) for hub in ("hq1", "lyo1")} == {address}


def _far_end(vpn: Vpn, router: str) -> str:
    row = vpn.peer(router, "par1")
    return row.endpoint.rpartition(":")[0] if row is not None else ""


def _two(lines: list[str]) -> list[str]:
    return lines if sum(line.startswith("isp") for line in lines) >= 2 else []


def _executable(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


# ---------------------------------------------------------------- traffic


@contextmanager
def _flows(vpn: Vpn) -> Iterator[tuple[Flow, Flow, Flow]]:
    """Paris to the hub's site, to another spoke's, and between two others; all marked."""
    with (
        vpn.flow("paris-pc", "hq-pc") as to_hub,
        vpn.flow("paris-pc", "lyon-pc") as to_spoke,
        vpn.flow("lyon-pc", "hq-nas") as beside,
    ):
        to_spoke.until("direct", within_s=15)
        for flow in (to_hub, beside):
            flow.until("direct", within_s=15)
        for flow in (to_hub, to_spoke, beside):
            flow.mark()
        yield to_hub, to_spoke, beside


def _answers(*flows: Flow) -> None:
    for flow in flows:
        flow.until("direct", within_s=20)


def _moved_back(to_hub: Flow, to_spoke: Flow, beside: Flow) -> None:
    allowed = patience(BACK_PACKETS_KERNEL) if vm.VARIABLE in os.environ else BACK_PACKETS
    assert max(len(flow.lost()) for flow in (to_hub, to_spoke)) <= allowed
    assert beside.lost() == []


ECHO = """
import socket
port = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
port.bind(("10.1.12.10", 7007))
while True:
    _, sender = port.recvfrom(100)
    port.sendto(b"paris", sender)
"""
WEIGHTS = (3, 1)
MANY_PORTS = 200
MANY = f"""
import socket
for number in range({MANY_PORTS}):
    port = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    port.bind(("", 20000 + number))
    port.sendto(b"x", ("198.18.0.1", 9))
"""
ASK = """
import socket, sys
port = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
port.settimeout(1)
port.sendto(b"?", (sys.argv[1], 7007))
print(port.recv(100).decode())
"""


def _asked(vpn: Vpn, address: str) -> str:
    return vpn.run("hq1", "python3", "-c", ASK, address).text.strip()


def _apply(vpn: Vpn, text: str) -> process.Result:
    path = f"/run/{vpn.lab.network}.yaml"
    vpn.write("par1", path, text)
    return vpn.dmvpn("par1", "apply", path)


# ---------------------------------------------------------------- lines


def _new_line(vpn: Vpn) -> None:
    """What a DHCP client does on a line that was away: another address."""
    _plug_in(vpn, NEW_ADDRESS, "link set eth0 up", f"address add {NEW_ADDRESS}/30 dev eth0")


def _plug_in(vpn: Vpn, address: str, *client: str) -> None:
    """A cable from the spoke to the ISP, which delivers this address by it; `client` are words of ip(8) that follow."""
    ours, isps = (str(vpn.node(name).handles.net) for name in ("par1", "internet"))
    pair = ("type", "veth", "peer", "name", LINK, "netns", isps)
    process.run(("ip", "link", "add", "spare", "netns", ours, *pair), timeout_s=20)
    for words in (
        ("addr", "add", "198.51.100.1/32", "dev", LINK),
        ("link", "set", LINK, "up"),
        ("route", "replace", f"{address}/32", "dev", LINK),
    ):
        assert vpn.run("internet", "ip", *words).status == 0, words
    batch = "\n".join(("link set spare name eth0", *client, ""))
    vpn.node("par1").run(("ip", "-batch", "-"), input=batch.encode())
