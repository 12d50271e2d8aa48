"""Bonds and VLANs in a kernel that has them: made, changed in place while a stream runs, and taken away."""

import json
import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dmvpn.errors import Fault
from dmvpn.linux import netstate
from dmvpn.linux.netstate_kernel import Kernel

pytestmark = pytest.mark.vm

Run = Callable[..., str]
Put = Callable[..., Path]
VLANS = {8: ("10.1.8.1/24", "10.1.8.2/24"), 96: ("fd00:96::1/64", "fd00:96::2/64")}
LIMIT_S = 60.0


@pytest.fixture
def far(netns: None, ip: Run) -> Iterator[str]:
    """A switch in another namespace: eth0 and eth1 end in its bridge, which has .2 in VLAN 8 and 96."""
    name = f"switch{os.getpid()}"
    ip("netns", "add", name)
    try:
        batch([f"link add eth{one} mtu 1400 type veth peer name p{one} netns {name}" for one in (0, 1)])
        there = ["link add bridge type bridge forward_delay 0", "link set bridge up"]
        there += [f"link set p{one} master bridge up" for one in (0, 1)]
        for number, (_, address) in VLANS.items():
            there += [f"link add link bridge name v{number} type vlan id {number}", f"link set v{number} up"]
            there.append(f"address add {address} dev v{number}{' nodad' if ':' in address else ''}")
        batch(there, "-n", name)
        yield name
    finally:
        ip("netns", "del", name)


def batch(lines: list[str], *options: str) -> None:
    """ip(8) once: each start of a program takes a second on an emulated kernel."""
    subprocess.run(("ip", *options, "-batch", "-"), input="\n".join(lines), text=True, check=True, timeout=LIMIT_S)


@pytest.fixture
def put(tmp_path: Path) -> Put:
    """Writes network.json: bond0 of eth0 and eth1 with settings changed, and these VLANs with their addresses."""

    def write(*vlans: int, network: str = "acme", members: tuple[str, ...] = ("eth0", "eth1"), **settings: Any) -> Path:
        bond = {
            "name": "bond0",
            "members": [{"name": member} for member in members],
            "mode": "active-backup",
            "miimon_ms": 100,
            "updelay_ms": 200,
            "lacp_rate": "slow",
            "mtu": None,
            **settings,
        }
        path = tmp_path / f"{network}.json"
        document = {
            "version": 1,
            "network": network,
            "state": str(tmp_path / "run" / network / "network.state.json"),
            "bonds": [bond],
            "vlans": [{"name": f"bond0.{one}", "port": "bond0", "id": one, "mtu": None} for one in vlans],
            "addresses": [{"device": f"bond0.{one}", "address": VLANS[one][0]} for one in vlans],
        }
        path.write_text(json.dumps(document))
        return path

    return write


def link(ip: Run, device: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(ip("-d", "-j", "link", "show", device))[0]
    return found


def data(ip: Run, device: str) -> dict[str, Any]:
    found: dict[str, Any] = link(ip, device)["linkinfo"]["info_data"]
    return found


def names(ip: Run) -> list[str]:
    """Modules leave devices of their own, such as gre0, in every namespace."""
    return sorted(row["ifname"] for row in json.loads(ip("-j", "link")))


def everything(ip: Run) -> str:
    """But for what the kernel settles by itself a moment later."""
    return re.sub(r" tentative| state \w+", "", ip("-d", "link") + ip("address"))


def reaches(vlan: int) -> None:
    """The switch answers in a VLAN: its first answer may wait for neighbour discovery and for carrier."""
    deadline = time.monotonic() + LIMIT_S
    address = VLANS[vlan][1].partition("/")[0]
    while subprocess.run(("ping", "-c", "1", "-W", "2", address), capture_output=True, check=False).returncode:
        assert time.monotonic() < deadline, f"no answer from {address}"


def wait_for(what: Callable[[], object], wanted: object) -> None:
    deadline = time.monotonic() + LIMIT_S
    while what() != wanted:
        assert time.monotonic() < deadline, f"{what()} is not {wanted}"
        time.sleep(0.05)


def test_a_bond_and_its_vlans_carry_packets_and_give_the_ports_back(far: str, ip: Run, put: Put) -> None:
    ip("link", "set", "eth1", "up")
    before = {name: (link(ip, name)["mtu"], link(ip, name)["address"]) for name in ("eth0", "eth1")}
    there = names(ip)
    ip("link", "add", "bond0", "type", "bond")  # as the module makes one when it is loaded
    path = put(8, 96)
    netstate.apply(path)
    for vlan in VLANS:
        reaches(vlan)
        assert data(ip, f"bond0.{vlan}")["id"] == vlan
    settings = data(ip, "bond0")
    assert (settings["mode"], settings["miimon"], settings["updelay"]) == ("active-backup", 100, 200)
    assert settings["primary"] == "eth0"
    assert (link(ip, "bond0")["mtu"], link(ip, "bond0.8")["mtu"], link(ip, "eth1")["mtu"]) == (1500, 1500, 1500)
    once = everything(ip)
    netstate.apply(path)
    assert everything(ip) == once
    netstate.remove(path)
    assert names(ip) == there
    assert {name: (link(ip, name)["mtu"], link(ip, name)["address"]) for name in ("eth0", "eth1")} == before
    assert [name for name in ("eth0", "eth1") if "UP" in link(ip, name)["flags"]] == ["eth1"]


def test_a_network_that_comes_and_goes_costs_the_others_nothing(far: str, ip: Run, put: Put) -> None:
    netstate.apply(put(8))
    reaches(8)
    indexes = [link(ip, name)["ifindex"] for name in ("bond0", "bond0.8")]
    with subprocess.Popen(
        ("ping", "-i", "0.02", "-c", "300", "-W", "20", "10.1.8.2"), stdout=subprocess.PIPE, text=True
    ) as stream:
        netstate.apply(put(8, 96))
        reaches(96)
        netstate.apply(put(8, miimon_ms=50))  # the other one goes, and a setting of the bond changes in place
        said, _ = stream.communicate(timeout=LIMIT_S)
    assert "300 packets transmitted, 300 received, 0% packet loss" in said
    assert [link(ip, name)["ifindex"] for name in ("bond0", "bond0.8")] == indexes
    assert data(ip, "bond0")["miimon"] == 50
    assert "bond0.96" not in ip("link")


def test_the_other_member_takes_over_and_the_first_comes_back(far: str, ip: Run, put: Put) -> None:
    netstate.apply(put(8))
    reaches(8)
    assert data(ip, "bond0")["active_slave"] == "eth0"
    ip("-n", far, "link", "set", "p0", "down")
    wait_for(lambda: data(ip, "bond0")["active_slave"], "eth1")
    reaches(8)
    ip("-n", far, "link", "set", "p0", "up")
    wait_for(lambda: data(ip, "bond0")["active_slave"], "eth0")
    reaches(8)


def test_a_bond_that_is_switched_off_stays_so_with_its_vlans(far: str, ip: Run, put: Put) -> None:
    netstate.apply(put(8))
    ip("link", "set", "bond0", "down")
    off = "somebody switched it off; it stays so"
    for vlans in ((8,), (8, 96)):
        said = netstate.restore(put(*vlans))
        assert said == (f"device bond0: {off}", *(f"device bond0.{vlan}: {off}" for vlan in vlans))
        assert "UP" not in link(ip, "bond0")["flags"]
    ip("link", "set", "bond0", "up")
    assert netstate.restore(put(8, 96)) == ()
    for vlan in (8, 96):
        reaches(vlan)
    ip("link", "set", "bond0.96", "down")
    assert netstate.restore(put(8, 96, mode="balance-tlb")) == (f"device bond0.96: {off}",)
    assert ("UP" in link(ip, "bond0")["flags"], "UP" in link(ip, "bond0.96")["flags"]) == (True, False)
    reaches(8)


def test_a_change_that_fails_halfway_leaves_nothing_off_for_either_network(
    far: str, ip: Run, put: Put, monkeypatch: pytest.MonkeyPatch
) -> None:
    netstate.apply(put(8))
    netstate.apply(put(96, network="other"))
    ask = Kernel.ask

    def refuse(kernel: Kernel, where: str, *words: Any, **values: Any) -> Any:
        if "bond_mode" in values:
            raise Fault(where, "refused")
        return ask(kernel, where, *words, **values)

    with monkeypatch.context() as changed:
        changed.setattr(Kernel, "ask", refuse)
        with pytest.raises(Fault, match="refused"):
            netstate.restore(put(8, mode="balance-tlb"))
    assert ["UP" in link(ip, name)["flags"] for name in ("bond0", "bond0.96")] == [False, False]
    assert netstate.restore(put(96, network="other")) == ()
    reaches(96)
    assert netstate.restore(put(8, mode="balance-tlb")) == ()
    ip("link", "set", "bond0.96", "down")
    assert netstate.restore(put(8)) == ()
    assert "UP" not in link(ip, "bond0.96")["flags"], "the other network's, and somebody switched it off"
    reaches(8)
    netstate.apply(put(96, network="other"))
    reaches(96)


CHANGES: tuple[tuple[dict[str, Any], dict[str, Any]], ...] = (
    ({"mode": "balance-tlb"}, {"mode": "balance-tlb", "primary": "eth0"}),
    ({"mode": "802.3ad", "lacp_rate": "fast"}, {"mode": "802.3ad", "ad_lacp_rate": "fast"}),
    ({"members": ("eth1",)}, {"mode": "active-backup", "primary": "eth1"}),
    ({"mtu": 1300}, {"mode": "active-backup", "primary": "eth0"}),
)


def test_a_bond_changes_in_place(far: str, ip: Run, put: Put) -> None:
    devices = ("bond0", "bond0.8", "bond0.96")
    netstate.apply(put(8, 96))
    indexes = [link(ip, name)["ifindex"] for name in devices]
    for settings, expected in CHANGES:
        netstate.apply(put(8, 96, **settings))
        assert {key: data(ip, "bond0").get(key) for key in expected} == expected
        assert [link(ip, name)["ifindex"] for name in devices] == indexes
        members = settings.get("members", ("eth0", "eth1"))
        assert [name for name in ("eth0", "eth1") if link(ip, name).get("master") == "bond0"] == list(members)
        assert {link(ip, name)["mtu"] for name in devices} == {settings.get("mtu", 1500)}
        for vlan, (own, _) in VLANS.items():
            assert own in ip("address", "show", f"bond0.{vlan}")
        if len(members) == 1:
            assert link(ip, "eth0")["mtu"] == 1400  # as it was
        if settings.get("mode") != "802.3ad":  # the switch speaks no LACP
            reaches(8)
            reaches(96)


def test_lacp_aggregates_with_its_partner(netns: None, ip: Run, put: Put) -> None:
    name = f"partner{os.getpid()}"
    ip("netns", "add", name)
    try:
        ip("-n", name, "link", "add", "bond0", "type", "bond", "mode", "802.3ad", "miimon", "100", "lacp_rate", "fast")
        for number in (0, 1):
            ip("link", "add", f"eth{number}", "type", "veth", "peer", "name", f"p{number}", "netns", name)
            ip("-n", name, "link", "set", f"p{number}", "master", "bond0")
        ip("-n", name, "link", "add", "link", "bond0", "name", "v8", "type", "vlan", "id", "8")
        ip("-n", name, "address", "add", VLANS[8][1], "dev", "v8")
        for device in ("bond0", "v8"):
            ip("-n", name, "link", "set", device, "up")
        netstate.apply(put(8, mode="802.3ad", lacp_rate="fast"))
        wait_for(lambda: data(ip, "bond0").get("ad_info", {}).get("num_ports"), 2)
        reaches(8)
    finally:
        ip("netns", "del", name)


def test_a_bond_of_the_machines_own_is_used_as_it_is(far: str, ip: Run, put: Put) -> None:
    ip("link", "add", "bond0", "type", "bond", "mode", "balance-rr")
    ip("link", "set", "eth0", "master", "bond0")
    ip("link", "set", "bond0", "up")
    path = put(8)
    said = netstate.apply(path)
    assert said == ("bond bond0: the machine has it already (bond); it is used as it is",)
    reaches(8)
    document = json.loads(path.read_text())
    document["vlans"][0]["mtu"] = 9000
    path.write_text(json.dumps(document))
    with pytest.raises(Fault, match=r"VLAN bond0.8: MTU 9000 is more than bond0 has \(1500\)"):
        netstate.apply(path)
    netstate.remove(path)
    assert (data(ip, "bond0")["mode"], link(ip, "eth0")["master"]) == ("balance-rr", "bond0")
