"""ifupdown-ng itself, with the file that `dmvpn render --links ifupdown-ng` gives it: links come up, and go again."""

import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from bonded import BONDED, MINIMAL, ON_VLANS, Run, addresses, wires

from dmvpn.linux.pace import patience
from dmvpn.network.compile import compile_plan
from dmvpn.network.loading import load
from dmvpn.render import links_ifupdown

ROOT = Path(__file__).parents[2]
UNPACKED = ROOT / ".openrc/usr"
LIMIT_S = 120
# Its executors look into /sys for devices, which shows those of the namespace in which it was mounted.
OWN_SYS = ("unshare", "--mount", "sh", "-c", 'mount -t sysfs sysfs /sys && exec "$@"', "sh")


@pytest.fixture(autouse=True)
def _needed(netns: None) -> None:
    if not (UNPACKED / "sbin/ifup").exists():
        pytest.skip("needs .openrc/, which scripts/setup test unpacks where there is an apt-get")


@pytest.fixture
def ifupdown(tmp_path: Path) -> Callable[..., str]:
    """`ifup` or `ifdown` of everything that the file of par1 has by itself; what it said."""

    def call(verb: str, text: str) -> str:
        (file,) = links_ifupdown.files(compile_plan(load(text, "network.yaml"), "par1"))
        interfaces, state = tmp_path / "interfaces", tmp_path / "state"
        interfaces.write_text(file.text)
        argv = (str(UNPACKED / "sbin" / verb), "--auto", "--interfaces", str(interfaces), "--state-file", str(state))
        executors = ("--executor-path", str(UNPACKED / "libexec/ifupdown-ng"))
        done = subprocess.run(
            (*OWN_SYS, *argv, *executors), capture_output=True, text=True, timeout=LIMIT_S, check=False
        )
        said = done.stdout + done.stderr
        assert done.returncode == 0, said
        return said

    return call


@pytest.mark.kernel
def test_it_gives_the_ports_their_addresses_and_the_way_out(ip: Run, ifupdown: Callable[..., str]) -> None:
    wires(ip, "eth0", "eth1")
    assert ifupdown("ifup", MINIMAL) == ""
    assert addresses(ip) == {("eth0", "198.51.100.2/30"), ("eth1", "10.1.1.1/24")}
    (route,) = json.loads(ip("-j", "route", "show", "default"))
    assert (route["gateway"], route["dev"], route["metric"]) == ("198.51.100.1", "eth0", 100)
    assert ifupdown("ifdown", MINIMAL) == ""
    assert (addresses(ip), json.loads(ip("-j", "route"))) == (set(), [])


@pytest.mark.vm
def test_it_makes_the_bond_and_its_vlans_and_takes_them_away(ip: Run, ifupdown: Callable[..., str]) -> None:
    """Where the kernel has both."""
    wires(ip, "eth0", "eth1", "eth2")
    assert "does not exist" not in ifupdown("ifup", BONDED)
    bond, lan = (json.loads(ip("-d", "-j", "link", "show", name))[0] for name in ("bond0", "bond0.8"))
    data = bond["linkinfo"]["info_data"]
    assert (data["mode"], data["miimon"], data["primary"]) == ("active-backup", 200, "eth1")
    assert {name for name in ("eth1", "eth2") if "master bond0 " in ip("link", "show", name)} == {"eth1", "eth2"}
    assert (lan["linkinfo"]["info_data"]["id"], lan["mtu"], lan["operstate"]) == (8, 1400, "UP")
    deadline = time.monotonic() + patience(10)
    while addresses(ip) != {("eth0", "198.51.100.2/30"), *ON_VLANS}:  # IPv6's is looked for elsewhere first
        assert time.monotonic() < deadline, addresses(ip)
        time.sleep(0.1)
    ifupdown("ifdown", BONDED)
    assert "bond0.8" not in ip("link")
    assert addresses(ip) == set()
