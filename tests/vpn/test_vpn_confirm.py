"""Changes that lock their author out, wait to be confirmed, die half-way, or touch only what they concern."""

import json
import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from vpn_lab import NETWORKS, Figure, Vpn, until

from dmvpn.commit.outcome import Failed
from dmvpn.lab.node import Running
from dmvpn.linux import process
from dmvpn.linux.vici_client import ViciSession
from dmvpn.operations import change, labs, verification

NETWORK = "trio"
pytestmark = pytest.mark.lab

TEXT = NETWORKS["trio"].read_text()
QUIET_S = 1.0  # in which nobody who stands by shows
LAN = "networks: {lan: {port: eth1, prefix: 10.1.12.0/24}}"
SHOP = TEXT.replace(LAN, LAN[:-1] + ", shop: {port: eth2, prefix: 10.1.112.0/24}}")
LOCKED_OUT = TEXT.replace("[198.51.100.2/30], gateway: [198.51.100.1]", "[203.0.113.2/30], gateway: [203.0.113.1]")
# BFD with its neighbour, and another MTU: BGP's neighbour, the firewall's clamp and the device change.
OTHER = TEXT.replace("routing: bgp,", "routing: bgp, bfd: true,").replace(
    "gateway: [198.51.100.1]}", "gateway: [198.51.100.1], mtu: 1400}"
)


@pytest.fixture(autouse=True)
def _as_it_was(vpn: Vpn) -> Iterator[None]:
    vpn.run("par1", "ip", "link", "add", "eth2", "type", "veth", "peer", "name", "shop")
    yield
    vpn.dmvpn("par1", "rollback") if _history(vpn)["confirm_s"] is not None else None
    answer = _apply(vpn, TEXT, "--discard-edits")
    assert answer.status == 0, answer.stderr


def _apply(vpn: Vpn, text: str, *words: str) -> Any:
    path = f"/run/{vpn.lab.network}.yaml"
    vpn.write("par1", path, text)
    return vpn.dmvpn("par1", "apply", path, *words, timeout_s=120.0)


def _plan(vpn: Vpn, text: str) -> dict[str, Any]:
    path = f"/run/{vpn.lab.network}.yaml"
    vpn.write("par1", path, text)
    return dict(vpn.json("par1", "plan", path))


def _history(vpn: Vpn) -> dict[str, Any]:
    return dict(vpn.json("par1", "history"))


def _standing_by(vpn: Vpn) -> list[int]:
    return vpn.node("par1").call(_standbys)


def _kill_all_who_stand_by(vpn: Vpn) -> None:
    """Also one that is being made, whose command line is empty for a moment (execve(2))."""
    seen = time.monotonic()
    while time.monotonic() - seen < QUIET_S:
        if pids := _standing_by(vpn):
            vpn.run("par1", "kill", "-9", *map(str, pids))
            seen = time.monotonic()
        time.sleep(QUIET_S / 5)


def _standbys() -> list[int]:
    """Those that work here: a lab's routers share their process ids."""
    own = Path("/proc/self/ns/net").readlink()
    found = []
    for entry in Path("/proc").iterdir():
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
            if b"dmvpn.operations.standby" in words and (entry / "ns/net").readlink() == own:
                found.append(int(entry.name))
        except OSError:
            continue
    return sorted(found)


def _undone(vpn: Vpn) -> str:
    return str(_history(vpn)["revisions"][-1]["undone"])


def _gone_back(vpn: Vpn, before: int) -> None:
    try:
        until("the revision before", lambda: _history(vpn)["in_force"] == before, within_s=90)
    except AssertionError as error:
        raise AssertionError(f"{error}\n{vpn.logs('par1').get('standby.log')}") from error


# ---------------------------------------------------------------- confirm


def test_a_change_that_cuts_the_router_off_is_never_left_in_force(vpn: Vpn, monkeypatch: pytest.MonkeyPatch) -> None:
    before = _history(vpn)["in_force"]
    vpn.write("par1", "/run/off.yaml", LOCKED_OUT)
    monkeypatch.setattr(verification, "LIMIT_S", 5.0)  # a child of this process has it too
    with pytest.raises(Failed) as caught:
        vpn.node("par1").call(partial(_apply_here, Path("/run/off.yaml")), timeout_s=120)
    said = str(caught.value)
    assert said.startswith("verify: the network: "), said
    assert "an answer from 10.255.1.1" in said
    assert f"revision {before} is in force" in said
    assert _history(vpn)["in_force"] == before
    assert "an answer from 10.255.1.1" in _undone(vpn)
    with vpn.flow("paris-pc", "lyon-pc") as flow:
        flow.until("direct", within_s=30)


def _apply_here(path: Path) -> object:
    return change.apply(change.prepare(path, None), "off")


def test_a_session_that_would_be_cut_needs_a_way_back(vpn: Vpn) -> None:
    """He came over SSH to the uplink's address; a lab has no sshd, its mark is all there is of it."""
    path = f"/run/{vpn.lab.network}.yaml"
    vpn.write("par1", path, LOCKED_OUT)
    session = "SSH_CONNECTION=198.51.100.1 40000 198.51.100.2 22"
    answer = vpn.run("par1", "env", session, *_dmvpn("apply", path))
    assert answer.status == 2
    assert b"this change cuts your own SSH session (isp1); add --confirm 5m" in answer.stderr
    plan = vpn.run("par1", "env", session, *_dmvpn("plan", path))
    assert "this cuts your own SSH session (isp1)" in plan.text
    assert _plan(vpn, LOCKED_OUT)["cuts_ssh"] == ""


def test_going_back_asks_for_a_way_back_as_well_if_it_cuts_the_session(vpn: Vpn) -> None:
    """He came over SSH from the LAN that the last change brought."""
    assert _apply(vpn, SHOP).status == 0
    there = _history(vpn)["in_force"]
    vpn.run("par1", "ip", "link", "set", "eth2", "up")
    session = "SSH_CONNECTION=10.1.112.50 40000 10.1.112.1 22"
    refused = vpn.run("par1", "env", session, *_dmvpn("rollback"))
    assert refused.status == 2
    assert b"rollback: this change cuts your own SSH session (shop); add --confirm 5m" in refused.stderr
    assert _history(vpn)["in_force"] == there
    assert vpn.run("par1", "env", session, *_dmvpn("rollback", "--confirm", "10m"), timeout_s=120.0).status == 0
    assert _history(vpn)["in_force"] == there + 1
    # What waits is taken back whatever it cuts.
    assert vpn.run("par1", "env", session, *_dmvpn("rollback"), timeout_s=120.0).status == 0
    assert _history(vpn)["in_force"] == there


def _dmvpn(*words: str) -> tuple[str, ...]:
    return labs.inside(("dmvpn", *words))


def test_what_nobody_confirms_goes_back_and_says_so(vpn: Vpn) -> None:
    """Neither the daemon nor the supervisor is needed for that."""
    before = _history(vpn)["in_force"]
    answer = _apply(vpn, SHOP, "--confirm", "4s")
    assert answer.status == 0, answer.stderr
    assert "unless you run: dmvpn confirm" in answer.text
    vpn.run("par1", "kill", "-9", str(_supervisor(vpn)))
    _gone_back(vpn, before)
    until("its reason", lambda: "nobody confirmed it within 4 s" in _undone(vpn), within_s=60)
    until("nobody stands by any more", lambda: not _standing_by(vpn), within_s=60)
    assert "is in force again" in vpn.logs("par1")["standby.log"].splitlines()[-1]
    vpn.settle()
    status = vpn.dmvpn("par1", "status").text
    assert "was rolled back, nobody confirmed it within 4 s" in status.splitlines()[0]
    late = vpn.dmvpn("par1", "confirm")
    assert late.status == 2
    assert b"nobody confirmed it within 4 s" in late.stderr


def test_confirmed_it_stays_and_nobody_stands_by(vpn: Vpn) -> None:
    assert _apply(vpn, SHOP, "--confirm", "10m").status == 0
    until("two who stand by", lambda: len(_standing_by(vpn)) == 2, within_s=20)
    other = _apply(vpn, TEXT)
    assert other.status == 1
    assert b"waits to be confirmed" in other.stderr
    waiting = _history(vpn)
    assert waiting["confirm_s"] > 500
    assert vpn.dmvpn("par1", "confirm").status == 0
    assert _history(vpn) == {**waiting, "confirm_s": None}
    until("nobody stands by any more", lambda: not _standing_by(vpn), within_s=10)


def test_who_stands_by_is_replaced_when_killed_and_if_all_are_the_next_start_goes_back(vpn: Vpn) -> None:
    before = _history(vpn)["in_force"]
    assert _apply(vpn, SHOP, "--confirm", "10m").status == 0
    first = until("two who stand by", lambda: len(found := _standing_by(vpn)) == 2 and found, within_s=60)
    for pid in first:
        vpn.run("par1", "kill", "-9", str(pid))
        until("two again", lambda: len(_standing_by(vpn)) == 2, within_s=60)
    assert not set(first) & set(_standing_by(vpn))
    _kill_all_who_stand_by(vpn)
    vpn.run("par1", "kill", "-9", str(_supervisor(vpn)))
    _kill_all_who_stand_by(vpn)  # one may have been made between the two
    # Ten minutes pass.
    path = f"{vpn.layout.revisions}/unconfirmed.json"
    vpn.write("par1", path, vpn.read("par1", path).replace('"within_s": 600.0', '"within_s": 1.0'))
    started = vpn.dmvpn("par1", "run", timeout_s=120.0)
    assert "was rolled back, nobody confirmed it within 1 s" in started.text
    assert _history(vpn)["in_force"] == before
    vpn.settle()


def _supervisor(vpn: Vpn) -> int:
    """The first process of its own namespace is the parent of all services."""
    pid = vpn.services("par1")["charon"].pid
    stat = vpn.read("par1", f"/proc/{pid}/stat")
    return int(stat.rpartition(")")[2].split()[1])


def test_a_command_that_is_killed_is_gone_back_from_at_once(vpn: Vpn) -> None:
    before = _history(vpn)["in_force"]
    vpn.write("par1", "/run/killed.yaml", SHOP)
    running: Running = vpn.node("par1").start(_dmvpn("apply", "/run/killed.yaml"))
    journal = f"{vpn.layout.revisions}/journal.json"
    until("the switch", lambda: vpn.run("par1", "test", "-e", journal).status == 0, within_s=60)
    running.stop(signal_number=signal.SIGKILL)
    until("the way back", lambda: vpn.run("par1", "test", "-e", journal).status == 1, within_s=60)
    assert _history(vpn)["in_force"] == before
    vpn.settle()
    assert _plan(vpn, TEXT)["files"] == []


# ---------------------------------------------------------------- drift


def test_hand_edits_are_drift_and_never_silently_overwritten(vpn: Vpn) -> None:
    path = f"{vpn.layout.current}/bgpd.conf"
    vpn.write("par1", path, vpn.read("par1", path) + "! by hand\n")
    assert "edited by hand since it was applied: bgpd.conf; run: dmvpn diff" in vpn.dmvpn("par1", "status").text
    assert "+! by hand" in vpn.dmvpn("par1", "diff").text
    assert _plan(vpn, TEXT)["drifted"] == ["bgpd.conf"]
    answer = _apply(vpn, SHOP)
    assert answer.status == 1
    assert b"bgpd.conf: edited by hand since it was applied; see `dmvpn diff`" in answer.stderr
    assert vpn.read("par1", path).endswith("! by hand\n")
    done = json.loads(_apply(vpn, TEXT, "--discard-edits", "--json").stdout)
    assert vpn.read("par1", done["kept"] + "/bgpd.conf").endswith("! by hand\n")
    assert "by hand" not in vpn.read("par1", path)
    assert vpn.dmvpn("par1", "diff").text == "nothing was edited by hand\n"


# ---------------------------------------------------------------- flows


def test_an_apply_that_changes_nothing_reloads_nothing(vpn: Vpn, figure: Figure) -> None:
    before = {name: (row.pid, row.since) for name, row in vpn.services("par1").items()}
    revisions = _history(vpn)
    result, seconds = vpn.node("par1").call(partial(_timed, _dmvpn("apply", "--json")))
    done = json.loads(result.stdout)
    assert (done["files"], set(map(tuple, done["units"].values()))) == ([], {()})
    assert {name: (row.pid, row.since) for name, row in vpn.services("par1").items()} == before
    assert _history(vpn) == revisions
    figure("an apply that changes nothing", seconds)


def _timed(argv: tuple[str, ...]) -> tuple[process.Result, float]:
    began = time.monotonic()
    result = process.run(argv, timeout_s=60)
    return result, time.monotonic() - began


def test_flows_and_sas_go_through_a_changed_neighbour_and_firewall(vpn: Vpn) -> None:
    with vpn.flow("paris-pc", "lyon-pc") as flow, _conversation(vpn) as said:
        flow.until("direct", within_s=30)
        before = until("one SA with each", partial(_settled_sas, vpn), within_s=30)
        spoken = until("the conversation", said, within_s=20)
        flow.mark()
        done = json.loads(_apply(vpn, OTHER, "--json").stdout)
        reloaded = {name.removeprefix(f"dmvpn-{vpn.lab.network}-") for name in done["units"]["reloaded"]}
        assert {"bgpd", "nftables"} <= reloaded
        until("the conversation goes on", lambda: said() > spoken + 20, within_s=20)
        assert flow.lost() == []
        assert _settled_sas(vpn) == before


def _settled_sas(vpn: Vpn) -> dict[str, str]:
    """By peer, the numbers that charon gives each SA once; empty while two ends have both made one."""
    sas = vpn.node("par1").call(partial(_sas, Path(vpn.layout.vici_socket)))
    return dict(sas) if len(dict(sas)) == len(sas) else {}


def _sas(socket_path: Path) -> list[tuple[str, str]]:
    with ViciSession(socket_path) as vici:
        return [
            (sa.remote_id, f"{sa.unique_id} {[child.unique_id for child in sa.children]}") for sa in vici.list_sas()
        ]


@contextmanager
def _conversation(vpn: Vpn) -> Iterator[Any]:
    """One TCP connection between two hosts, with an exchange every few milliseconds; gives how many there were."""
    reader, writer = os.pipe()
    server = vpn.node("lyon-pc").start_function(partial(_echo, vpn.lab.hosts["lyon-pc"]))
    client = vpn.node("paris-pc").start_function(partial(_talk, vpn.lab.hosts["lyon-pc"], writer))
    os.set_blocking(reader, False)
    count = 0

    def said() -> int:
        nonlocal count
        try:
            while octets := os.read(reader, 65536):
                count += len(octets)
        except BlockingIOError:
            pass
        assert client.poll() is None, "the connection ended"
        return count

    try:
        yield said
    finally:
        client.stop(signal_number=signal.SIGKILL)
        server.stop(signal_number=signal.SIGKILL)
        os.close(reader)
        os.close(writer)


PORT = 7070


def _echo(address: str) -> int:
    with socket.create_server((address, PORT)) as listener:
        connection, _ = listener.accept()
        while octets := connection.recv(4096):
            connection.sendall(octets)
    return 0


def _talk(address: str, writer: int) -> int:
    for _ in range(100):
        try:
            connection = socket.create_connection((address, PORT), timeout=20)
            break
        except OSError:
            time.sleep(0.1)
    while True:
        connection.sendall(b"x")
        if connection.recv(1) != b"x":
            return 1
        os.write(writer, b"x")
        time.sleep(0.02)
