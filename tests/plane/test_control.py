"""The control socket: what it answers, what it refuses, whom it outlives. In this process, without packets."""

import io
import json
import os
import socket
import threading
from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dmvpn.errors import Fault
from dmvpn.linux.tap import Tap
from dmvpn.plane import control
from dmvpn.plane.commands import Commands
from dmvpn.plane.control import LINE_LIMIT, ControlServer
from dmvpn.plane.inbound import Inbound
from dmvpn.plane.settings import TunnelSettings
from dmvpn.plane.tunnel import Tunnel
from dmvpn.plane.underlay import Underlay
from dmvpn.plane.watch import Watch


def commands() -> Commands:
    frames = io.FileIO(os.devnull, "r+b")
    frames.close()  # no frame moves here
    tap = Tap("acme-blue", frames)
    tunnels = (Tunnel(TunnelSettings("acme-blue", 1, 64, None), tap, lambda: None),)
    return Commands(Underlay("ipsec0", IPv4Address("100.64.0.1")), tunnels, Inbound())


def answer(**request: object) -> dict:
    return json.loads(commands().answer(json.dumps(request).encode()))


BLUE = {"tunnel": "acme-blue"}


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        pytest.param({}, "op: None is none of allow, forget, flood, state, hello", id="no op"),
        pytest.param({"op": ["state"]}, "op: ['state'] is none of", id="op is a list"),
        pytest.param({"op": "allow"}, "prefixes: is not a list of texts", id="allow alone"),
        pytest.param({"op": "flood", "nbmas": [1]}, "nbmas: is not a list of texts", id="a number to flood to"),
        pytest.param({"op": "flood", "nbmas": ["x"]}, "nbmas: 'x' is not an IPv4 address", id="no address"),
        pytest.param(
            {"op": "flood", "nbmas": [], "tunnel": "red"}, "tunnel: 'red' is none of acme-blue", id="no tunnel"
        ),
        pytest.param({"op": "forget", **BLUE, "nbma": "fd00::1"}, "nbma: 'fd00::1' is not", id="IPv6 NBMA"),
        pytest.param(
            {"op": "allow", **BLUE, "nbma": "100.64.0.1", "prefixes": ["10.0.0.1/8"]},
            "prefixes: 10.0.0.1/8 has host bits set",
            id="host bits",
        ),
        pytest.param(
            {"op": "flood", **BLUE, "nbmas": ["100.64.0.1"] * 4097},
            "nbmas: 4097 addresses, at most 4096",
            id="too many",
        ),
    ],
)
def test_a_wrong_request_is_answered_with_what_is_wrong(request_: dict, error: str) -> None:
    reply = answer(**request_)
    assert reply["ok"] is False
    assert reply["error"].startswith(error)


@given(st.binary(max_size=60))
def test_no_line_makes_it_raise(line: bytes) -> None:
    assert json.loads(commands().answer(line))["ok"] is False


def test_a_line_nested_without_end_is_refused() -> None:
    assert json.loads(commands().answer(b"[" * 200_000))["ok"] is False


def test_what_was_told_is_shown() -> None:
    told = commands()
    for request in (
        {"op": "allow", **BLUE, "nbma": "100.64.0.12", "prefixes": ["10.255.1.12/32", "fd00::/64"]},
        {"op": "flood", **BLUE, "nbmas": ["100.64.0.1", "100.64.0.1"]},
    ):
        assert json.loads(told.answer(json.dumps(request).encode()))["ok"] is True
    state = json.loads(told.answer(b'{"op":"state"}'))
    assert state["socket"] == "waiting"
    assert state["tunnels"]["acme-blue"] == {
        "device": "attached",
        "allowed": {"100.64.0.12": ["10.255.1.12/32", "fd00::/64"]},
        "flood": ["100.64.0.1"],
        "peers": {},
        "drops": {},
    }


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Path]:
    """The socket of a server that runs in a thread of its own."""
    path = tmp_path / "run" / "gre.sock"
    watch = Watch()
    server = ControlServer(path, watch, commands())
    stop, stopped = socket.socketpair()
    running = True

    def end(_events: int) -> None:
        nonlocal running
        running = False

    def serve() -> None:
        while running:
            watch.wait(5)

    watch.add(stopped.fileno(), end)
    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield path
    finally:
        stop.send(b"x")
        thread.join()
        server.close()
        watch.close()
        stop.close()
        stopped.close()


def connect(path: Path) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(10)
    connection.connect(str(path))
    return connection


def flood(connection: socket.socket, octets: bytes) -> None:
    """Send until the other end or our own buffer ends it."""
    for _ in range(10_000):
        connection.sendall(octets) if connection.gettimeout() else connection.send(octets)


def test_many_lines_at_once_and_in_pieces_are_answered_in_order(served: Path) -> None:
    with connect(served) as connection, connection.makefile("rb") as replies:
        connection.sendall(b"\n" * 2000)
        assert sum(b"not JSON" in replies.readline() for _ in range(2000)) == 2000
        connection.sendall(b'{"op":')
        connection.sendall(b'"hello"}\n')
        assert json.loads(replies.readline())["ok"] is True


def test_a_client_that_takes_no_replies_holds_up_nobody(served: Path) -> None:
    with connect(served) as greedy, connect(served) as other, other.makefile("rb") as replies:
        greedy.settimeout(0)
        with pytest.raises(BlockingIOError):
            flood(greedy, b'{"op":"state"}\n' * 1000)
        other.sendall(b'{"op":"hello"}\n')
        assert json.loads(replies.readline())["ok"] is True


def test_a_line_without_end_closes_its_connection_only(served: Path) -> None:
    with connect(served) as endless, connect(served) as other, other.makefile("rb") as replies:
        with pytest.raises(ConnectionError):
            flood(endless, b"x" * LINE_LIMIT)
        other.sendall(b'{"op":"hello"}\n')
        assert json.loads(replies.readline())["ok"] is True


def test_clients_beyond_the_limit_are_turned_away(served: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "_CLIENTS_LIMIT", 1)
    with connect(served) as first, first.makefile("rb") as replies:
        first.sendall(b'{"op":"hello"}\n')
        replies.readline()
        with connect(served) as second:
            assert second.recv(1) == b""


def test_a_socket_that_somebody_answers_on_is_not_taken(served: Path) -> None:
    watch = Watch()
    with pytest.raises(Fault, match="another dmvpn-gre answers on it"):
        ControlServer(served, watch, commands())
    watch.close()


def test_a_socket_left_behind_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "gre.sock"
    with socket.socket(socket.AF_UNIX) as left_behind:
        left_behind.bind(str(path))
    watch = Watch()
    ControlServer(path, watch, commands()).close()
    watch.close()
    assert not path.exists()


def test_a_path_too_long_for_a_socket_is_a_fault(tmp_path: Path) -> None:
    watch = Watch()
    with pytest.raises(Fault, match="too long"):
        ControlServer(tmp_path / ("x" * 120), watch, commands())
    watch.close()
