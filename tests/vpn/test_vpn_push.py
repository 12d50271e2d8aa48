"""push: one change on twelve routers over real SSH, from a host behind the hub; whoever goes back stops it."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from vpn_lab import Vpn, until

from dmvpn.lab.node import call_all
from dmvpn.linux.process import Result
from dmvpn.operations import change, delivery, here, labs
from dmvpn.operations.delivery import Delivery, Order

pytestmark = [pytest.mark.lab, pytest.mark.timeout(400)]

SPOKES = 11
NAMES = tuple(f"spo{number}" for number in range(1, SPOKES + 1))
HUB = "hub1"

HEAD = """\
version: 1
network: many
domain: example.net
prefixes: [10.0.0.0/8]
clouds:
  blue: {overlay: [10.255.1.0/24], gre-key: 1, plane: userspace, nhrp: {holding-time: 600}}
sites:
  hq:
    asn: 65000
    networks: {lan: {port: eth1, prefix: 10.1.0.0/24}}
    routers:
      hub1:
        uplinks: {wan: {port: eth0, address: [192.0.2.2/30], gateway: [192.0.2.1]}}
        tunnels: {blue: {role: hub, address: [10.255.1.1]}}
"""
SITE = """\
  site%(number)d:
    asn: %(asn)d
    networks: {lan: {port: eth1, prefix: 10.1.%(number)d.0/24}}
    routers:
      spo%(number)d:
        uplinks: {isp: {port: eth0, address: [198.51.100.%(own)d/30], gateway: [198.51.100.%(gateway)d]}}
        tunnels: {blue: {address: [10.255.1.%(tunnel)d]}}
"""
TAIL = """\
lab:
  routers: {internet: {}}
  hosts:
    admin: {network: hq.lan, address: 10.1.0.10}
"""


def network() -> str:
    sites = (
        SITE
        % {
            "number": number,
            "asn": 65000 + number,
            "own": 4 * number + 2,
            "gateway": 4 * number + 1,
            "tunnel": 10 + number,
        }
        for number in range(1, SPOKES + 1)
    )
    return HEAD + "".join(sites) + TAIL


CHANGED = network().replace("holding-time: 600", "holding-time: 900")


def _in_force(network: str) -> int | None:
    return change.history(here.find(network)).in_force


@dataclass(slots=True)
class Many:
    """The lab, with an SSH server on every router and an administrator behind the hub."""

    vpn: Vpn
    directory: Path

    def push(self, text: str, *words: str) -> tuple[int, list[dict[str, Any]]]:
        """`dmvpn push` as the administrator types it; its exit status and a row for each router."""
        result = self.typed(text, *words, "--json")
        return result.status, json.loads(result.stdout)

    def typed(self, text: str, *words: str) -> Result:
        file = self.directory / "network.yaml"
        file.write_text(text)
        argv = ("dmvpn", "push", *words, "--file", str(file), "--ssh-config", str(self.directory / "ssh_config"))
        return self.vpn.run("admin", *argv, "--soak", "1s", timeout_s=240)

    def revisions(self) -> dict[str, int]:
        found = call_all({node: partial(_in_force, self.vpn.lab.network) for node in self.vpn.lab.routers()})
        return {node.name: number for node, number in found.items() if isinstance(number, int)}


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Many]:
    directory = tmp_path_factory.mktemp("many")
    file = directory / "lab.yaml"
    file.write_text(network())
    with labs.held(file, f"vpn-many-{os.getpid()}", lambda _progress: None) as lab:
        vpn = Vpn(lab)
        vpn.settle()
        _serve_ssh(vpn, directory)
        yield Many(vpn, directory)
        vpn.assert_no_traceback()


def _serve_ssh(vpn: Vpn, directory: Path) -> None:
    """Keys, and sshd on every router: the host's own, with files of this test."""
    for name in ("host", "user"):
        subprocess.run(("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(directory / name)), check=True)
    (directory / "known_hosts").write_text(
        "".join(f"{router}.example.net {(directory / 'host.pub').read_text()}" for router in vpn.routers())
    )
    (directory / "ssh_config").write_text(
        f"Host *\n IdentityFile {directory / 'user'}\n IdentitiesOnly yes\n"
        f" UserKnownHostsFile {directory / 'known_hosts'}\n StrictHostKeyChecking yes\n"
    )
    (directory / "authorized").write_text((directory / "user.pub").read_text())
    path = f"{Path(sys.executable).parent}:/usr/sbin:/usr/bin:/sbin:/bin"
    (directory / "sshd_config").write_text(
        f"HostKey {directory / 'host'}\nAuthorizedKeysFile {directory / 'authorized'}\nStrictModes no\n"
        f"PasswordAuthentication no\nUsePAM no\nSetEnv PATH={path} DMVPN_LAB={vpn.lab.name}\nPidFile /run/sshd.pid\n"
    )
    for router in vpn.routers():
        vpn.node(router).call(partial(Path("/run/sshd").mkdir, exist_ok=True))
        done = vpn.run(router, "/usr/sbin/sshd", "-f", str(directory / "sshd_config"))
        assert done.status == 0, done.stderr


def test_the_first_push_gives_every_router_its_part_and_the_canary_goes_ahead(many: Many) -> None:
    """The lab gave them the whole file; what they get now is each one's own part. The order is that of the report."""
    before = many.revisions()
    result = many.typed(CHANGED, "--canary", "spo7", "--message", "longer memory")
    assert result.status == 0, result.stdout + result.stderr
    said = result.text.splitlines()
    confirmed = [line.split(":")[0] for line in said if ": confirmed (revision" in line]
    assert confirmed[0] == "spo7"
    assert confirmed[-1] == HUB
    assert sorted(confirmed) == sorted((*NAMES, HUB))
    assert said[-1] == "12 of 12 routers changed and confirmed"
    assert many.revisions() == {router: number + 1 for router, number in before.items()}
    last = many.vpn.json("spo3", "history")["revisions"][-1]
    assert last["message"]["why"] == "longer memory"
    assert "site4" not in many.vpn.read("spo3", "/etc/dmvpn/many/current/network.yaml")


def test_a_second_push_finds_nothing_to_do(many: Many) -> None:
    before = many.revisions()
    status, rows = many.push(CHANGED)
    assert status == 0
    assert {row["state"] for row in rows} == {"nothing to do"}
    assert many.revisions() == before


def test_a_dry_run_says_what_would_change_and_changes_nothing(many: Many) -> None:
    before = many.revisions()
    result = many.typed(CHANGED.replace("holding-time: 900", "holding-time: 300"), "spo1", "spo2", "--dry-run")
    assert result.status == 2, result.stderr
    assert "spo1: would change" in result.text
    assert "spo3" not in result.text
    assert many.revisions() == before


def test_a_canary_that_loses_the_network_goes_back_and_ends_the_run(many: Many) -> None:
    """Its uplink gets a gateway that is nobody: it goes back by itself, and no other router was touched."""
    before = many.revisions()
    canary = "uplinks: {isp: {port: eth0, address: [198.51.100.30/30], gateway: [198.51.100.29]}}"
    assert canary in CHANGED
    text = CHANGED.replace("holding-time: 900", "holding-time: 300").replace(
        canary, canary.replace("198.51.100.30/30", "198.51.100.130/30").replace("100.29]", "100.129]")
    )
    status, rows = many.push(text, "--canary", "spo7", "--confirm", "20s")
    assert status == 1
    states = {row["router"]: row["state"] for row in rows}
    assert states.pop("spo7") in {"went back", "goes back by itself"}
    assert set(states.values()) == {"not touched"}
    until(
        "the canary is as it was",
        lambda: not many.vpn.json("spo7", "history")["confirm_s"] and _same(many, before),
        within_s=90,
    )
    many.vpn.settle()


def _same(many: Many, before: dict[str, int]) -> bool:
    now = many.vpn.run("spo7", "cat", "/etc/dmvpn/many/current/network.yaml").text
    return "holding-time: 900" in now and {**many.revisions(), "spo7": 0} == {**before, "spo7": 0}


def test_a_router_that_does_not_answer_keeps_all_others_as_they_are(many: Many) -> None:
    before = many.revisions()
    pid = many.vpn.read("spo5", "/run/sshd.pid").strip()
    assert many.vpn.run("spo5", "kill", pid).status == 0
    try:
        status, rows = many.push(CHANGED.replace("holding-time: 900", "holding-time: 300"))
    finally:
        many.vpn.run("spo5", "/usr/sbin/sshd", "-f", str(many.directory / "sshd_config"))
    assert status == 1
    states = {row["router"]: row["state"] for row in rows}
    assert states.pop("spo5") == "unreachable"
    assert set(states.values()) == {"not touched"}
    assert many.revisions() == before


def test_a_router_that_was_edited_by_hand_keeps_all_others_as_they_are(many: Many) -> None:
    before = many.revisions()
    path = "/etc/dmvpn/many/current/bgpd.conf"
    kept = many.vpn.read("spo2", path)
    many.vpn.write("spo2", path, kept + "! by hand\n")
    try:
        status, rows = many.push(CHANGED.replace("holding-time: 900", "holding-time: 300"))
    finally:
        many.vpn.write("spo2", path, kept)
    assert status == 1
    row = next(row for row in rows if row["router"] == "spo2")
    assert row["state"] == "refused"
    assert "bgpd.conf edited by hand" in row["words"][0]
    assert {one["state"] for one in rows if one["router"] != "spo2"} == {"not touched"}
    assert many.revisions() == before


@pytest.mark.parametrize(
    ("words", "said"),
    [
        pytest.param(("nowhere",), "nowhere: is no router of ours in ", id="unknown router"),
        pytest.param(("spo1", "--canary", "spo2"), "spo2: is the canary, and not among the routers named", id="canary"),
        pytest.param(("--host", "spo1"), "--host spo1: is not ROUTER=HOST", id="host without a router"),
        pytest.param(("--host", "spo1=-oProxyCommand=x"), "is not ROUTER=HOST", id="host that is an option"),
    ],
)
def test_wrong_words_are_refused_before_anybody_is_asked(many: Many, words: tuple[str, ...], said: str) -> None:
    result = many.typed(CHANGED, *words)
    assert result.status == 2
    assert said in result.stderr.decode()


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        pytest.param(b"", "delivery: is not JSON", id="nothing"),
        pytest.param(b"[]", "delivery: is no JSON object", id="a list"),
        pytest.param(b'{"version": 2}', "is of version 2, and this program reads version 1", id="a newer version"),
        pytest.param(b"[" * 100_000, "delivery: is not JSON", id="deep brackets"),
        pytest.param(b"x" * ((8 << 20) + 1), "delivery: is larger than", id="too large"),
    ],
)
def test_what_is_no_delivery_is_refused_in_one_line(many: Many, sent: bytes, said: str) -> None:
    result = many.vpn.node("spo1").run(labs.inside(("dmvpn", "receive")), input=sent, accept=(2,), timeout_s=30)
    lines = result.stderr.decode().splitlines()
    assert len(lines) == 1
    assert said in lines[0]


def test_a_delivery_for_another_router_is_refused(many: Many) -> None:
    sent = delivery.encode(Delivery(Order.APPLY, "many", "spo2", network(), {}, "", 60.0))
    result = many.vpn.node("spo1").run(labs.inside(("dmvpn", "receive")), input=sent, accept=(2,), timeout_s=30)
    assert "this machine is spo1 of many" in result.stderr.decode()
