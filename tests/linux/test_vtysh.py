import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from ipaddress import ip_address
from pathlib import Path

import pytest

from dmvpn.errors import Fault
from dmvpn.linux import process, vtysh

BGPD = Path("/usr/lib/frr/bgpd")


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


CONFIGURATION = """
router bgp 65001
 bgp router-id 192.0.2.1
 neighbor 192.0.2.2 remote-as 65002
"""


@pytest.fixture
def bgpd(netns: None) -> Iterator[Path]:
    """A bgpd with a neighbour that is not there; yields the directory of its sockets."""
    if not BGPD.exists():
        pytest.skip("no bgpd (package frr)")
    # pytest's own directories cannot be entered by the user frr.
    with tempfile.TemporaryDirectory(prefix="dmvpn-test-frr-") as name:
        directory = Path(name)
        (directory / "bgpd.conf").write_text(CONFIGURATION)
        for path in (directory, directory / "bgpd.conf"):
            shutil.chown(path, "frr", "frr")
        daemon = subprocess.Popen(
            (
                BGPD, "-f", directory / "bgpd.conf", "-i", directory / "pid", "--vty_socket", directory,
                "-P", "0", "-p", "0", "-Z", "-u", "frr", "-g", "frr", "--log", "stdout",
            ),
            stdout=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            wait_for((directory / "bgpd.vty").exists)
            yield directory
        finally:
            daemon.kill()
            daemon.wait()


DAEMONS = ("bgpd", "ospfd", "ospf6d", "ripd", "ripngd")


@pytest.fixture
def serving(tmp_path: Path) -> Iterator[Path]:
    """Where daemons listen, of which nobody is asked here."""
    with ExitStack() as stack:
        for daemon in DAEMONS:
            listening = stack.enter_context(socket.socket(socket.AF_UNIX))
            listening.bind(str(tmp_path / f"{daemon}.vty"))
            listening.listen()
        yield tmp_path


def test_whom_ripd_heard_of_is_read_from_its_words(serving: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = (
        b'Routing Protocol is "rip"\n  Routing for Networks:\n    eth1\n  Routing Information Sources:\n'
        b"    Gateway          BadPackets BadRoutes  Distance Last Update\n"
        b"    10.255.3.13              0         2       120   00:01:08\n"
        b"  Distance: (default is 120)\n"
    )
    said6 = (
        b'Routing Protocol is "RIPng"\n  Routing for Networks:\n    eth1\n  Routing Information Sources:\n'
        b"    Gateway          BadPackets BadRoutes  Distance Last Update\n"
        b"    fe80::13 \n                        0          2        120      00:00:09\n"
    )

    def answer(argv: tuple[str, ...], **_how: object) -> process.Result:
        return process.Result(argv, 0, said6 if "show ipv6 ripng status" in argv else said, b"")

    monkeypatch.setattr(process, "run", answer)
    found = [(str(one.address), one.heard_s) for one in vtysh.rip_sources(serving)]
    assert found == [("10.255.3.13", 68), ("fe80::13", 9)]


@pytest.mark.kernel
def test_a_neighbour_of_a_real_bgpd_is_a_row(bgpd: Path) -> None:
    wait_for(lambda: bool(vtysh.bgp_peers(bgpd)))
    (row,) = vtysh.bgp_peers(bgpd)
    assert (row.address, row.asn, row.prefixes, row.up_s) == (ip_address("192.0.2.2"), 65002, 0, 0.0)
    assert row.state in ("Idle", "Active", "Connect")
    assert (row.family, row.dynamic) == ("ipv4Unicast", False)
    assert vtysh.show(bgpd, "show bgp ipv4 unicast summary json", daemon="bgpd")["routerId"] == "192.0.2.1"


@pytest.mark.kernel
def test_a_daemon_that_hangs_is_not_waited_for_long(bgpd: Path) -> None:
    wait_for(lambda: bool(vtysh.bgp_peers(bgpd)))
    pid = int((bgpd / "pid").read_text())
    os.kill(pid, signal.SIGSTOP)
    try:
        said = rf"^bgpd: takes no command within 0\.5 s, and runs; kill -9 {pid}, after which it is started again; then"
        for _ in range(10):  # more than it lets wait
            with pytest.raises(Fault, match=said):
                vtysh.bgp_peers(bgpd, 0.5)
        assert vtysh.ospf_neighbours(bgpd) == ()
    finally:
        os.kill(pid, signal.SIGCONT)
    wait_for(lambda: bool(vtysh.bgp_peers(bgpd)))


def answer(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "run", lambda argv, **_: process.Result(argv, 0, text.encode(), b""))


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        pytest.param("% Unknown command", "frr: show bgp summary json: % Unknown command", id="not JSON"),
        pytest.param("[]", "frr: show bgp summary json: unexpected form: ", id="another shape"),
        pytest.param(
            json.dumps({"ipv4Unicast": {"peers": {"10.0.0.1": {"state": "Active"}}}}),
            "frr: show bgp summary json: unexpected form: KeyError('remoteAs')",
            id="a key is missing",
        ),
    ],
)
def test_what_is_no_summary_is_a_fault(text: str, fault: str, serving: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answer(text, monkeypatch)
    with pytest.raises(Fault) as caught:
        vtysh.bgp_peers(serving)
    assert str(caught.value).startswith(fault)


def test_an_established_neighbour(serving: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    peer = {"remoteAs": 65001, "state": "Established", "pfxRcd": 3, "peerUptimeMsec": 61500, "dynamicPeer": True}
    answer(json.dumps({"ipv6Unicast": {"peers": {"fd00::11": peer}, "totalPeers": 1}}), monkeypatch)
    assert vtysh.bgp_peers(serving) == (
        vtysh.BgpPeer(ip_address("fd00::11"), 65001, "Established", 3, 61.5, "ipv6Unicast", dynamic=True),
    )


@pytest.mark.parametrize("text", ["", "{}", '{"ipv4Unicast": {"peers": {}}}'])
def test_without_bgp_there_are_no_peers(text: str, serving: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answer(text, monkeypatch)
    assert vtysh.bgp_peers(serving) == ()


@pytest.mark.parametrize("left_behind", [False, True], ids=["never there", "its socket left behind"])
def test_a_daemon_that_does_not_serve_has_no_neighbours(tmp_path: Path, *, left_behind: bool) -> None:
    """FRR never takes its socket away; vtysh would fail of all daemons because of one that is gone."""
    for daemon in DAEMONS if left_behind else ():
        with socket.socket(socket.AF_UNIX) as left:
            left.bind(str(tmp_path / f"{daemon}.vty"))
    assert vtysh.bgp_peers(tmp_path) == vtysh.ospf_neighbours(tmp_path) == vtysh.rip_sources(tmp_path) == ()
    assert vtysh.ospf_versions(tmp_path) == frozenset()


def test_neighbours_of_both_versions_are_rows(serving: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As FRR 10.3 says it; what a running one says is read in tests/vpn."""
    two = {"neighbors": {"100.64.1.11": [{"ifaceAddress": "10.255.1.11", "ifaceName": "blue:10.255.1.1"}]}}
    two["neighbors"]["100.64.1.11"][0]["nbrState"] = "Full/-"
    three = {"linkLocalAddress": "fe80::11", "interface": "blue", "neighborState": "Init"}
    said = {"ip": two, "ipv6": {"100.64.1.11%blue": three}}
    monkeypatch.setattr(
        process, "run", lambda argv, **_: process.Result(argv, 0, json.dumps(said[argv[-1].split()[1]]).encode(), b"")
    )
    assert [(str(one.address), one.device, one.full) for one in vtysh.ospf_neighbours(serving)] == [
        ("10.255.1.11", "blue", True),
        ("fe80::11", "blue", False),
    ]
    del three["neighborState"]
    with pytest.raises(Fault, match=r"show ipv6 ospf6 neighbor detail json: unexpected form: KeyError"):
        vtysh.ospf_neighbours(serving)
