"""A fresh network namespace for a test: the test process itself moves in, and back when the test is over."""

import fcntl
import os
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dmvpn.linux import namespaces

TUNSETIFF = 0x400454CA
IFF_TAP = 0x2
IFF_NO_PI = 0x1000


def run_ip(*arguments: str) -> str:
    done = subprocess.run(("ip", *arguments), check=True, capture_output=True, text=True, timeout=20)
    return done.stdout


@pytest.fixture
def ip() -> Callable[..., str]:
    """ip(8) in the namespace the test is in: arguments in, its output back."""
    return run_ip


@pytest.fixture
def open_tap() -> Callable[[str], int]:
    """The other end of a TAP, as dmvpn-gre has it: a name in, a descriptor of whole frames back."""

    def attach(name: str) -> int:
        queue = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
        fcntl.ioctl(queue, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TAP | IFF_NO_PI))
        # The kernel notices the carrier a little later; until then it drops what is sent.
        deadline = time.monotonic() + 10
        while "state DOWN" in run_ip("link", "show", name):
            assert time.monotonic() < deadline, f"{name} got no carrier"
            time.sleep(0.01)
        return queue

    return attach


@pytest.fixture
def netns() -> Iterator[None]:
    """The test runs in a network namespace of its own with lo up."""
    if os.geteuid() != 0:
        pytest.skip("network namespaces need root")
    home = Path("/proc/self/ns/net")
    handle = os.open(home, os.O_RDONLY | os.O_CLOEXEC)
    try:
        namespaces.unshare(namespaces.CLONE_NEWNET)
        run_ip("link", "set", "lo", "up")
        yield
    finally:
        namespaces.join(Path(f"/proc/self/fd/{handle}"))
        os.close(handle)


@pytest.fixture
def tap(netns: None) -> str:
    """A TAP "tap0" that asks us for its neighbours, up, with 10.255.1.11/32; its own MAC spells 100.64.0.11."""
    if not Path("/dev/net/tun").exists():
        pytest.skip("no /dev/net/tun")
    run_ip("tuntap", "add", "tap0", "mode", "tap")
    run_ip("link", "set", "tap0", "address", "02:00:64:40:00:0b", "up")
    for table in ("ipv4", "ipv6"):
        settings = Path(f"/proc/sys/net/{table}/neigh/tap0")
        (settings / "app_solicit").write_text("1")
        (settings / "mcast_solicit").write_text("0")
        (settings / "ucast_solicit").write_text("0")
    run_ip("addr", "add", "10.255.1.11/32", "dev", "tap0")
    run_ip("route", "add", "10.255.1.0/24", "dev", "tap0", "scope", "link")
    return "tap0"
