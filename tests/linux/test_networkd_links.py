"""systemd-networkd itself: with the links that `dmvpn render --links` gives it, and told to leave ours alone."""

import json
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
from bonded import BONDED, MINIMAL, ON_VLANS, Run, addresses, wires

import dmvpn.linux.networkd
from dmvpn.linux.pace import patience
from dmvpn.network.compile import compile_plan
from dmvpn.network.loading import load
from dmvpn.render import links_networkd
from dmvpn.render.result import File

NETWORKD = Path("/lib/systemd/systemd-networkd")
LIMIT_S = 60.0
# What a cloud image brings along: everything is networkd's.
GREEDY = File(PurePosixPath("etc/systemd/network/80-everything.network"), "[Match]\nName=eth*\n\n[Network]\nDHCP=no\n")
# /sys that may be written has it wait for udev, which knows nothing of this namespace.
START = """
set -e
mount -t tmpfs tmpfs /run
mkdir -p /run/systemd/netif/links /run/systemd/netif/leases /run/systemd/netif/lldp
chown -R systemd-network:systemd-network /run/systemd/netif
mount -t sysfs -o ro sysfs /sys
mount -t tmpfs tmpfs /etc/systemd
cp -r "$1"/etc/systemd/. /etc/systemd/
exec "$2"
"""


@pytest.fixture(autouse=True)
def _needed(netns: None) -> None:
    if not NETWORKD.exists():
        pytest.skip("needs the Debian package systemd (its programs, not as PID 1)")


@contextmanager
def networkd(directory: Path, *files: File) -> Iterator[tuple[int, Path]]:
    """It runs with these files alone: its process, and the file with what it says."""
    shutil.rmtree(directory / "etc", ignore_errors=True)
    for file in files:
        path = directory / file.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(file.text)
    said = directory / "said"
    argv = ("unshare", "--mount", "sh", "-c", START, "start", str(directory), str(NETWORKD))
    with said.open("wb") as log:
        started = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        until(lambda: "Enumeration completed" in said.read_text(), said)
        yield started.pid, said
    finally:
        started.terminate()
        started.wait(LIMIT_S)


def until(true: Callable[[], object], said: Path) -> None:
    deadline = time.monotonic() + patience(LIMIT_S)
    while not true():
        assert time.monotonic() < deadline, said.read_text()
        time.sleep(0.1)


def links(text: str) -> tuple[File, ...]:
    return links_networkd.files(compile_plan(load(text, "network.yaml"), "par1"))


def link(ip: Run, device: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(ip("-d", "-j", "link", "show", device))[0]
    return found


@pytest.mark.kernel
def test_it_gives_the_ports_their_addresses_and_the_way_out(ip: Run, tmp_path: Path) -> None:
    wires(ip, "eth0", "eth1")
    with networkd(tmp_path, *links(MINIMAL)) as (_, said):
        until(lambda: addresses(ip) >= {("eth0", "198.51.100.2/30"), ("eth1", "10.1.1.1/24")}, said)
        until(lambda: json.loads(ip("-j", "route", "show", "default")), said)
        (route,) = json.loads(ip("-j", "route", "show", "default"))
        assert (route["gateway"], route["dev"], route["metric"]) == ("198.51.100.1", "eth0", 100)
        assert not [line for line in said.read_text().splitlines() if "Unknown" in line or "Invalid" in line]


@pytest.mark.vm
def test_it_makes_the_bond_and_its_vlans(ip: Run, tmp_path: Path) -> None:
    """Where the kernel has both."""
    wires(ip, "eth0", "eth1", "eth2")
    with networkd(tmp_path, *links(BONDED)) as (_, said):
        until(lambda: addresses(ip) >= ON_VLANS, said)
        bond = link(ip, "bond0")["linkinfo"]["info_data"]
        assert (bond["mode"], bond["miimon"], bond["primary"]) == ("active-backup", 200, "eth1")
        assert {link(ip, member).get("master") for member in ("eth1", "eth2")} == {"bond0"}
        vlan = link(ip, "bond0.8")
        assert (vlan["link"], vlan["linkinfo"]["info_data"]["id"], vlan["mtu"]) == ("bond0", 8, 1400)
        assert not [line for line in said.read_text().splitlines() if "Unknown" in line or "Invalid" in line]


@pytest.mark.kernel
@pytest.mark.parametrize("told", [True, False], ids=["told", "not told"])
def test_what_it_is_told_to_leave_alone_it_does_not_set(
    ip: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, told: bool
) -> None:
    wires(ip, "eth0", "eth1")
    for device, address in (("eth0", "198.51.100.2/30"), ("eth1", "10.1.1.1/24")):
        ip("link", "set", device, "up")
        ip("address", "add", address, "dev", device)
    ip("route", "add", "10.9.0.0/16", "via", "198.51.100.1", "proto", "42", "table", "4711")
    ip("rule", "add", "priority", "300", "table", "4711", "protocol", "42")
    before = (addresses(ip), ip("rule"), ip("route", "show", "table", "4711"))
    hands_off = links_networkd.hands_off(compile_plan(load(MINIMAL, "network.yaml"), "par1")) if told else ()
    with networkd(tmp_path, GREEDY, *hands_off) as (pid, said):
        there = Path("/proc", str(pid), "root", "run/systemd/netif/links")
        monkeypatch.setattr(dmvpn.linux.networkd, "LINKS", there)
        numbers = [link(ip, device)["ifindex"] for device in ("eth0", "eth1")]
        until(lambda: all((there / str(number)).exists() for number in numbers), said)
        until(lambda: {dmvpn.linux.networkd.sets(number) for number in numbers} == {not told}, said)
        if told:
            assert before == (addresses(ip), ip("rule"), ip("route", "show", "table", "4711"))
            assert "ADMIN_STATE=unmanaged" in (there / str(numbers[0])).read_text()
