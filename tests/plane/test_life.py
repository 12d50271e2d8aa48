"""The process: what it needs, what it survives, what it leaves behind."""

import json
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from gre_routers import DEVICE, Router, join, wait_for

pytestmark = pytest.mark.kernel

Pair = tuple[Router, Router]


def test_nothing_is_sent_while_charons_device_is_away_and_all_is_well_when_it_is_back(running: Pair) -> None:
    left, right = running
    assert left.pings(right.overlay)
    left.ip("link delete ipsec0")
    wait_for(lambda: left.state()["socket"] == "waiting", "the loop to notice")
    # The way out that a packet would take now: a device with a route to the peer.
    left.ip("link add wan type veth peer name far")
    left.ip("link set wan up")
    left.ip("link set far up")
    left.ip(f"route replace 100.64.0.0/24 dev wan src {left.transport}")
    before = int(left.run("cat", "/sys/class/net/wan/statistics/tx_packets"))
    assert not left.pings(right.overlay)
    assert left.drops()["no-security"] >= 1
    assert int(left.run("cat", "/sys/class/net/wan/statistics/tx_packets")) == before
    left.ip("link delete wan")
    join(left, right)
    for router in running:
        wait_for(lambda router=router: router.state()["socket"] == "bound", "the new device")
    wait_for(lambda: left.pings(right.overlay), "the first ping after charon's restart")


def test_it_waits_for_a_device_and_an_address_that_come_later(pair: Pair) -> None:
    left, _ = pair
    left.ip(f"address delete {left.transport}/32 dev lo")
    left.ip("link set ipsec0 name later0")
    left.start(bound=False)
    assert left.state()["socket"] == "waiting"
    left.ip("link set later0 name ipsec0")
    left.ip(f"address add {left.transport}/32 dev lo")
    wait_for(lambda: left.state()["socket"] == "bound", "device and address")


def test_a_killed_loop_leaves_the_tap_as_it_was(running: Pair) -> None:
    left, right = running
    assert left.pings(right.overlay)
    first = left.state()["generation"]
    before = left.ip(f"-o address show dev {DEVICE}"), left.ip(f"neigh show dev {DEVICE}")
    left.kill(signal.SIGKILL)
    left.start()
    assert (left.ip(f"-o address show dev {DEVICE}"), left.ip(f"neigh show dev {DEVICE}")) == before
    state = left.state()
    assert state["generation"] != first
    assert state["tunnels"][DEVICE]["allowed"] == {}
    assert not left.pings(right.overlay)
    left.allow(right)
    assert left.pings(right.overlay)


def test_sigterm_is_a_clean_end(running: Pair) -> None:
    left, _ = running
    assert left.kill() == 0
    assert not left.control.exists()
    assert DEVICE in left.ip("-o link show")
    assert "Traceback" not in left.log.read_text()


def test_a_tap_that_was_removed_is_taken_up_when_it_is_back(running: Pair) -> None:
    left, right = running
    left.ip(f"link delete {DEVICE}")
    wait_for(lambda: left.state()["tunnels"][DEVICE]["device"] == "gone", "the loop to notice")
    left.ip(f"tuntap add {DEVICE} mode tap")
    left.ip(f"link set {DEVICE} address {left.mac} mtu 1372 up")
    left.ip(f"address add {left.overlay}/24 dev {DEVICE}")
    left.knows(right)
    wait_for(lambda: left.state()["tunnels"][DEVICE]["device"] == "attached", "the loop to attach again")
    assert left.pings(right.overlay)


def test_it_keeps_two_capabilities_and_can_gain_none(running: Pair) -> None:
    left, _ = running
    assert left.process is not None
    status = dict(
        line.split(":\t", 1)
        for line in Path(f"/proc/{left.process.pid}/status").read_text().splitlines()
        if ":\t" in line
    )
    wanted = f"{1 << 12 | 1 << 13:016x}"
    assert {status[name] for name in ("CapEff", "CapPrm", "CapBnd")} == {wanted}
    assert (status["CapInh"], status["CapAmb"], status["NoNewPrivs"]) == ("0" * 16, "0" * 16, "1")


def test_the_control_socket_is_its_owners_only(running: Pair) -> None:
    assert stat.S_IMODE(running[0].control.stat().st_mode) == 0o600


def attempt(router: Router, *before: str) -> tuple[int, str]:
    """Start it in the expectation that it refuses."""
    inside = ("ip", "netns", "exec", router.namespace, *before)
    command = (*inside, sys.executable, "-m", "dmvpn.plane.main", str(router.file))
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    return done.returncode, done.stderr


def test_a_missing_tap_is_named(pair: Pair) -> None:
    left, _ = pair
    left.ip(f"link delete {DEVICE}")
    assert attempt(left) == (
        1,
        f"dmvpn-gre: device {DEVICE}: does not exist; run `dmvpn apply`, which creates it\n",
    )
    assert DEVICE not in left.ip("-o link show")


def test_a_device_of_another_kind_is_named(pair: Pair) -> None:
    left, _ = pair
    left.ip(f"link delete {DEVICE}")
    left.ip(f"link add {DEVICE} type veth peer name other")
    code, said = attempt(left)
    assert (code, said.count("\n")) == (1, 1)
    assert f"device {DEVICE}: is not a TAP" in said


@pytest.mark.parametrize(
    ("dropped", "named"),
    [("-net_raw", "CAP_NET_RAW: is missing"), ("-net_admin", "CAP_NET_ADMIN: is missing")],
)
def test_a_missing_capability_is_named(pair: Pair, dropped: str, named: str) -> None:
    code, said = attempt(pair[0], "setpriv", "--bounding-set", dropped)
    assert (code, said.count("\n")) == (1, 1)
    assert named in said


def test_a_second_loop_is_refused_and_the_first_goes_on(running: Pair, tmp_path: Path) -> None:
    left, right = running
    code, said = attempt(left)
    assert (code, said.count("\n")) == (1, 1)
    assert "another process is attached to it" in said
    tree = json.loads(left.file.read_text())
    left.ip("tuntap add other mode tap")
    tree["tunnels"][0]["device"] = "other"
    left.file.write_text(json.dumps(tree))
    code, said = attempt(left)
    assert (code, said) == (
        1,
        f"dmvpn-gre: control socket {left.control}: another dmvpn-gre answers on it; stop that one first\n",
    )
    assert left.pings(right.overlay)


def test_without_a_file_it_says_how_it_is_called() -> None:
    done = subprocess.run((sys.executable, "-m", "dmvpn.plane.main"), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (2, "dmvpn-gre: usage: dmvpn-gre FILE; FILE is the network's gre.json\n")
