"""Where the operator is: his SSH session, and the terminals that hear what happens."""

import os
import pty
import select
import subprocess
import sys
import time
from ipaddress import ip_address
from pathlib import Path

import pytest

from dmvpn.linux import ssh_session, terminals
from dmvpn.linux.ssh_session import Session

LOOPBACK = "127.0.0.1 50022 127.0.0.1 22"
ASK = "from dmvpn.linux import ssh_session; s = ssh_session.own_session(); print(s and s.device)"


@pytest.fixture(autouse=True)
def _nobodys_session(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(ssh_session.VARIABLE, raising=False)


def test_a_session_to_an_address_of_ours_is_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ssh_session.VARIABLE, LOOPBACK)
    assert ssh_session.own_session() == Session(ip_address("127.0.0.1"), ip_address("127.0.0.1"), 22, "lo", None)


@pytest.mark.parametrize(
    "words",
    [
        pytest.param("", id="empty"),
        pytest.param("127.0.0.1 1 127.0.0.1", id="cut short"),
        pytest.param("a b c d", id="no addresses"),
        pytest.param("127.0.0.1 1 127.0.0.1 ssh", id="no port"),
        pytest.param("127.0.0.1 1 192.0.2.77 22", id="to another machine, whose lab this is"),
    ],
)
def test_what_is_no_session_here(monkeypatch: pytest.MonkeyPatch, words: str) -> None:
    monkeypatch.setenv(ssh_session.VARIABLE, words)
    assert ssh_session.own_session() is None


def test_sudo_takes_the_variable_away_and_the_session_is_found_all_the_same() -> None:
    inner = ("env", "-u", ssh_session.VARIABLE, sys.executable, "-c", ASK)
    outer = ("env", f"{ssh_session.VARIABLE}={LOOPBACK}", "sh", "-c", '"$@"; true', "sh", *inner)
    said = subprocess.run(outer, capture_output=True, text=True, timeout=60, check=True).stdout
    assert said == "lo\n"


# ---------------------------------------------------------------- terminals


@pytest.mark.skipif(not Path("/dev/pts/ptmx").exists(), reason="needs devpts")
def test_whoever_has_a_terminal_here_hears_it(netns: None) -> None:
    """In a network of its own: nobody else is to hear it."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execvp("sleep", ("sleep", "60"))
    try:
        deadline = time.monotonic() + 20
        # The child makes the terminal its own after the fork.
        while not (told := terminals.tell_all("revision 7 was rolled back")) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert told == 1
        heard = b""
        while b" ***" not in heard:
            assert select.select((terminal,), (), (), 20.0)[0], heard
            heard += os.read(terminal, 4096)
        assert b"*** revision 7 was rolled back ***" in heard
    finally:
        os.kill(pid, 9)
        os.waitpid(pid, 0)
        os.close(terminal)
