"""Probes over a pair of devices, connections that are forgotten by their mark, and what a hook may do."""

import asyncio
import contextlib
import json
import os
import resource
import socket
import struct
import subprocess
from collections.abc import Callable, Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from dmvpn.errors import Fault
from dmvpn.linux import hook, process
from dmvpn.linux.conntrack import forget_marked
from dmvpn.linux.netlink import NETLINK_NETFILTER, Requests
from dmvpn.linux.probes import CALLS_LIMIT, Probes

Ip = Callable[..., str]
OWN = {4: ip_address("192.0.2.2"), 6: ip_address("2001:db8::2")}


@pytest.fixture
def line(netns: None, ip: Ip) -> Iterator[None]:
    """A host on the other end, in its own namespace: answers pings, listens on TCP 443."""
    ip("link", "add", "e0", "type", "veth", "peer", "name", "p0")
    far = subprocess.Popen(
        ("unshare", "--net", "python3", "-c", FAR), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert far.stdout is not None
    far.stdout.readline()
    ip("link", "set", "p0", "netns", str(far.pid))
    for address in ("192.0.2.2/24", "2001:db8::2/64"):
        ip("address", "add", address, "dev", "e0", *(("nodad",) if ":" in address else ()))
    ip("link", "set", "e0", "up")
    assert far.stdin is not None
    far.stdin.write("go\n")
    far.stdin.flush()
    far.stdout.readline()
    yield
    far.kill()
    far.communicate()


FAR = """
import socket, subprocess, sys
print("here", flush=True)
sys.stdin.readline()
for words in ("addr add 192.0.2.1/24 dev p0", "addr add 2001:db8::1/64 dev p0 nodad", "link set p0 up"):
    subprocess.run(("ip", *words.split()), check=True)
listening = socket.create_server(("192.0.2.1", 443))
print("listening", flush=True)
sys.stdin.readline()
"""


@pytest.mark.usefixtures("line")
def test_pings_of_both_families_and_connections_are_answered_and_what_is_refused_is_not() -> None:
    answered: list[int] = []

    async def probe() -> None:
        probes = Probes("e0", 0x10000, answered.append)
        probes.open(OWN)
        for sequence, (host, port) in enumerate(
            (("192.0.2.1", None), ("2001:db8::1", None), ("192.0.2.1", 443), ("192.0.2.1", 444), ("192.0.2.9", None))
        ):
            probes.ask(sequence, ip_address(host), port, 1.0)
        for _ in range(40):
            await asyncio.sleep(0.05)
            if len(answered) == 3:
                break
        await asyncio.sleep(0.1)
        probes.ask(5, ip_address("192.0.2.1"), None, 1.0)
        probes.open({4: OWN[4]})
        await asyncio.sleep(0.1)
        probes.close()

    asyncio.run(probe())
    assert sorted(answered) == [0, 1, 2, 5], "IPv6 going costs IPv4 no answer"


@pytest.mark.usefixtures("netns")
def test_a_probe_that_the_kernel_refuses_is_only_unanswered() -> None:
    async def probe() -> None:
        probes = Probes("nine", 0x10000, lambda _sequence: pytest.fail("nobody is there"))
        probes.open(OWN)
        probes.ask(1, ip_address("192.0.2.1"), None, 1.0)
        probes.ask(2, ip_address("192.0.2.1"), 443, 1.0)
        await asyncio.sleep(0.05)
        probes.close()

    asyncio.run(probe())


@pytest.mark.usefixtures("netns")
def test_without_a_descriptor_to_be_had_a_probe_is_only_unanswered_and_the_next_one_is_not(ip: Ip) -> None:
    answered: list[int] = []

    async def probe() -> None:
        probes = Probes("lo", 0x10000, answered.append)
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
        try:
            probes.open({4: ip_address("127.0.0.1")})
            probes.ask(1, ip_address("127.0.0.1"), None, 1.0)
            probes.ask(2, ip_address("127.0.0.1"), 443, 1.0)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        probes.ask(3, ip_address("127.0.0.1"), None, 1.0)
        await asyncio.sleep(0.1)
        probes.close()

    asyncio.run(probe())
    assert answered == [3]


@pytest.mark.usefixtures("line")
def test_connections_under_way_have_a_bound_and_the_oldest_make_room() -> None:
    async def probe() -> int:
        probes = Probes("e0", 0x10000, lambda _sequence: pytest.fail("nobody is there"))
        probes.open(OWN)
        before = len(list(Path("/proc/self/fd").iterdir()))
        for sequence in range(CALLS_LIMIT * 2):
            probes.ask(sequence, ip_address("192.0.2.9"), 443, 20.0)
        opened = len(list(Path("/proc/self/fd").iterdir())) - before
        probes.close()
        return opened

    assert asyncio.run(probe()) == CALLS_LIMIT


@pytest.mark.usefixtures("line")
def test_only_answers_to_pings_wake_us() -> None:
    """Anybody in the Internet may send us ICMP: here a port that is closed, then an answer to somebody else's ping."""

    async def heard() -> list[int]:
        probes = Probes("e0", 0x10000, lambda _sequence: pytest.fail("nothing was asked"))
        probes.open({4: OWN[4]})
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
            asking.sendto(b"x", ("192.0.2.1", 9))
            process.run(("ping", "-c", "1", "-W", "1", "192.0.2.1"), timeout_s=20)
        kinds: list[int] = []
        with contextlib.suppress(BlockingIOError):
            while True:
                kinds.append(probes._echoes[4].recv(100)[20])
        probes.close()
        return kinds

    assert asyncio.run(heard()) == [0]


def _tracked() -> int:
    sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER)
    sock.bind((0, 0))
    with Requests(sock) as requests:
        return len(requests.dump("connections", (1 << 8) | 1, struct.pack("=BBH", socket.AF_UNSPEC, 0, 0)))


@pytest.mark.usefixtures("netns")
def test_connections_are_forgotten_by_their_mark_alone() -> None:
    rules = "add table inet t; add chain inet t c { type filter hook output priority 0; }; add rule inet t c"
    process.run(("nft", f"{rules} ct mark set 0x12010034"), timeout_s=20)
    for address in ("127.0.0.1", "::1"):
        process.run(("ping", "-c", "1", "-W", "1", address), timeout_s=20)
    assert _tracked() == 2
    forget_marked(0x020000, 0xFF0000)
    assert _tracked() == 2
    forget_marked(0x010000, 0xFF0000, 6)
    assert _tracked() == 1, "the other family's stay"
    forget_marked(0x010000, 0xFF0000)
    assert _tracked() == 0
    forget_marked(0x010000, 0xFF0000)


def test_without_a_descriptor_connections_cannot_be_forgotten_and_that_is_a_fault() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        with pytest.raises(Fault, match="Too many open files"):
            forget_marked(0x010000, 0xFF0000)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


EVENT: dict[str, Any] = {"uplink": "isp1", "state": "offline", "addresses": ["192.0.2.2", "192.0.2.6"], "why": None}


def _program(tmp_path: Path, text: str, mode: int = 0o755) -> str:
    path = tmp_path / "hook"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(mode)
    return str(path)


def test_a_hook_is_told_twice_and_may_nothing(tmp_path: Path) -> None:
    told = tmp_path / "told"
    seen = f"env > {told}.env; cat > {told}; grep CapEff /proc/self/status > {told}.caps"
    os.environ["SECRET"] = "x"
    try:
        hook.run(_program(tmp_path, seen), EVENT, timeout_s=20)
    finally:
        del os.environ["SECRET"]
    assert json.loads(told.read_text()) == EVENT
    given = dict(line.split("=", 1) for line in Path(f"{told}.env").read_text().splitlines())
    assert (given["DMVPN_UPLINK"], given["DMVPN_ADDRESSES"], given["DMVPN_WHY"]) == ("isp1", "192.0.2.2 192.0.2.6", "")
    assert "SECRET" not in given
    assert int(Path(f"{told}.caps").read_text().split()[1], 16) == 0


@pytest.mark.parametrize(
    ("text", "mode", "said"),
    [
        pytest.param("exit 3", 0o755, "status 3", id="it fails"),
        pytest.param("exit 0", 0o777, "somebody else may write it", id="anybody may write it"),
        pytest.param("exit 0", 0o644, "is not executable; chmod .x", id="not executable"),
        pytest.param("exec sleep 60", 0o755, "did not end within", id="it hangs"),
    ],
)
def test_a_hook_that_cannot_be_run_says_why(tmp_path: Path, text: str, mode: int, said: str) -> None:
    with pytest.raises(Fault, match=said):
        hook.run(_program(tmp_path, text, mode), EVENT, timeout_s=1.5)


def test_a_hook_that_is_missing_says_so(tmp_path: Path) -> None:
    with pytest.raises(Fault, match="remove hook:"):
        hook.run(str(tmp_path / "none"), EVENT, timeout_s=20)


@pytest.mark.parametrize("through", ["the directory itself", "a link"])
def test_a_hook_in_a_directory_that_others_may_write_is_not_run(tmp_path: Path, through: str) -> None:
    """Whoever may write the directory may put another program there."""
    open_to_all = tmp_path / "open"
    open_to_all.mkdir()
    program = _program(open_to_all, "exit 0")
    if through == "a link":
        link = tmp_path / "link"
        link.symlink_to(program)
        program = str(link)
    hook.check(program)
    open_to_all.chmod(0o777)
    with pytest.raises(Fault, match=r"put another program there; chown root .*open; chmod go-w"):
        hook.run(program, EVENT, timeout_s=20)
    open_to_all.chmod(0o1777)
    hook.check(program)
