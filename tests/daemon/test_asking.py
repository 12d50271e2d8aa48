"""Asking dmvpnd: whatever is on the other end of the socket, the asker gets an answer or one line."""

import json
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from dmvpn.daemon.control import ask
from dmvpn.errors import Fault

LIMIT_S = 10.0
CRASHES = "a traceback instead of a fault"


class OneAnswer:
    """Listens at `path` and gives the same octets to whoever asks, once."""

    def __init__(self, path: Path, octets: bytes, *, hold: bool) -> None:
        self.asked = b""
        self._octets = octets
        self._hold = hold
        self._done = threading.Event()
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        connection, _ = self._listener.accept()
        with connection:
            self.asked = connection.recv(65536)
            connection.sendall(self._octets)
            if self._hold:
                self._done.wait(LIMIT_S)

    def close(self) -> None:
        self._done.set()
        self._thread.join(LIMIT_S)
        self._listener.close()


@pytest.fixture
def answering(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[tuple[Path, OneAnswer]]:
    octets, hold = getattr(request, "param", (b"", False))
    one = OneAnswer(tmp_path / "s", octets, hold=hold)
    yield tmp_path / "s", one
    one.close()


def gives(octets: bytes, *, hold: bool = False) -> tuple[bytes, bool]:
    return octets, hold


@pytest.mark.parametrize("answering", [gives(b'{"ok": true, "answer": [1, 2]}\n')], indirect=True, ids=["an answer"])
def test_the_answer_alone_is_handed_on(answering: tuple[Path, OneAnswer]) -> None:
    path, one = answering
    assert ask(path, {"ask": "status"}) == [1, 2]
    assert json.loads(one.asked) == {"ask": "status"}


@pytest.mark.parametrize(
    "answering",
    [gives(json.dumps({"ok": True, "answer": "x" * 1_000_000}).encode() + b"\n")],
    indirect=True,
    ids=["a megabyte"],
)
def test_a_long_answer_is_read_whole(answering: tuple[Path, OneAnswer]) -> None:
    assert len(ask(answering[0], {"ask": "status"})) == 1_000_000


@pytest.mark.parametrize(
    ("answering", "says"),
    [
        pytest.param(gives(b""), "dmvpnd: closed the connection without an answer", id="it closes"),
        pytest.param(
            gives(b'{"ok": false, "error": {"where": "here", "what": "is so", "fix": "do that"}}\n'),
            "here: is so; do that",
            id="it refuses, in words",
        ),
        pytest.param(gives(b'{"ok": false}\n'), "dmvpnd: refused", id="it refuses without a word"),
        pytest.param(gives(b"", hold=True), "within 0.2 s", id="it is silent"),
        pytest.param(gives(b'{"ok": true, ', hold=True), "within 0.2 s", id="it stops in the middle"),
        pytest.param(gives(b'{"ok": tr'), "", id="it dies"),
        pytest.param(gives(b"hello\n"), "", id="no JSON"),
        pytest.param(gives(b"[]\n"), "", id="a list"),
        pytest.param(gives(b'{"ok": true}\n'), "", id="no answer in it"),
    ],
    indirect=["answering"],
)
def test_anything_else_is_a_fault(answering: tuple[Path, OneAnswer], says: str) -> None:
    with pytest.raises(Fault) as caught:
        ask(answering[0], {"ask": "status"}, timeout_s=0.2)
    assert says in str(caught.value)


def test_nobody_there_says_what_to_start(tmp_path: Path) -> None:
    with pytest.raises(Fault, match=r"dmvpnd: not running .*; start it with `dmvpn run`"):
        ask(tmp_path / "s", {"ask": "status"})


def test_a_dead_daemons_socket_says_what_to_start(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "s"))
    with pytest.raises(Fault, match="not running"):
        ask(tmp_path / "s", {"ask": "status"})


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become nobody")
def test_who_may_not_ask_is_told_how(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(tmp_path / "s"))
        other.listen()
        (tmp_path / "s").chmod(0o600)
        tmp_path.parent.chmod(0o711)
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            said = "answered"
            try:
                os.setegid(65534)
                os.seteuid(65534)
                ask(tmp_path / "s", {"ask": "status"}, timeout_s=0.2)
            except Fault as fault:
                said = str(fault)
            finally:
                os.write(writer, said.encode())
                os._exit(0)
        os.close(writer)
        with os.fdopen(reader) as pipe:
            said = pipe.read()
        os.waitpid(child, 0)
    assert said.endswith("permission denied; run as root, or join group dmvpn for reading")


def test_a_path_that_no_socket_can_have_is_a_fault(tmp_path: Path) -> None:
    with pytest.raises(Fault):
        ask(tmp_path / ("long" * 40), {"ask": "status"})
