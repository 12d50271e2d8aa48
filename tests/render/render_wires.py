"""Namespaces of one test, programs in them, and waiting for what they bring about."""

import contextlib
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

WAIT_S = 20.0


def wait_for(condition: Callable[[], bool], what: str, limit_s: float = WAIT_S) -> None:
    """Until `condition` holds; fails the test with `what` after `limit_s`."""
    deadline = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"not within {limit_s:g} s: {what}")
        time.sleep(0.05)


class Namespaces:
    """Network namespaces of one test and the processes in them, all gone with it."""

    def __init__(self, tag: str) -> None:
        self.tag = tag
        self.names: list[str] = []
        self.children: list[subprocess.Popen[bytes]] = []

    def add(self, name: str) -> str:
        full = f"{self.tag}-{name}"
        run("ip", "netns", "add", full)
        self.names.append(full)
        run("ip", "-n", full, "link", "set", "lo", "up")
        return full

    def start(self, netns: str, *argv: str, log: Path) -> subprocess.Popen[bytes]:
        with log.open("ab") as output:
            child = subprocess.Popen(
                ("ip", "netns", "exec", netns, *argv), stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )
        self.children.append(child)
        return child

    def close(self) -> None:
        for child in self.children:
            with contextlib.suppress(ProcessLookupError):
                child.send_signal(signal.SIGKILL)
            child.wait()
        for name in self.names:
            run("ip", "netns", "del", name)


def run(*argv: str) -> str:
    done = subprocess.run(argv, check=False, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, f"{' '.join(argv)}: {done.stderr or done.stdout}"
    return done.stdout
