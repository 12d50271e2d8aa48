"""Our blocking XFRM policies, flushed by others: they come back, and status says so."""

import asyncio
import json
import os
import subprocess
from collections.abc import Callable, Coroutine, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from dmvpn.daemon.control import REMARK, RulesRow
from dmvpn.daemon.guard_troubles import policies_troubles
from dmvpn.daemon.guards import PolicyGuard
from dmvpn.linux import namespaces, netstate

pytestmark = pytest.mark.vm
LIMIT_S = 30.0  # of waiting, not of the mending
QUIET_S = 2.0
OURS = ("src", "0.0.0.0/0", "dst", "100.64.0.0/16", "proto", "gre")
THEIRS = ("src", "192.0.2.0/24", "dst", "192.0.2.0/24", "dir", "out", "action", "block")


@pytest.fixture
def network_file(tmp_path: Path) -> Iterator[Path]:
    """A network.json with two policies, applied in a network namespace of its own."""
    path = tmp_path / "network.json"
    policies = [{"direction": "out", "destination": "100.64.0.0/16"}, {"direction": "in", "gre_key": 1}]
    document = {"version": 1, "network": "acme", "state": str(tmp_path / "state.json"), "policies": policies}
    path.write_text(json.dumps(document))
    handle = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        namespaces.unshare(namespaces.CLONE_NEWNET)
        netstate.apply(path)
        yield path
    finally:
        namespaces.join(Path(f"/proc/self/fd/{handle}"))
        os.close(handle)


def policy(*words: str) -> str:
    return subprocess.run(("ip", "xfrm", "policy", *words), check=True, timeout=20, capture_output=True).stdout.decode()


def listed() -> int:
    return policy().count("proto gre")


def guarded(path: Path, test: Callable[[PolicyGuard], Coroutine[Any, Any, None]]) -> None:
    async def serve() -> None:
        guard = PolicyGuard(path)
        guard.open()
        task = asyncio.create_task(guard.run())
        try:
            await asyncio.sleep(QUIET_S)
            assert guard.view().mended == 0, "nothing was wrong at the start"
            await test(guard)
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            guard.close()

    asyncio.run(serve())


async def mended(guard: PolicyGuard) -> RulesRow:
    async with asyncio.timeout(LIMIT_S):
        while not guard.view().mended:
            await asyncio.sleep(0.05)
    return guard.view()


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(("flush",), id="flushed"),
        pytest.param(
            ("delete", "src", "0.0.0.0/0", "dst", "100.64.0.0/16", "proto", "gre", "dir", "out"), id="deleted"
        ),
    ],
)
def test_what_others_take_away_is_put_back_and_told(network_file: Path, words: tuple[str, ...]) -> None:
    async def test(guard: PolicyGuard) -> None:
        before = listed()
        policy(*words)
        assert listed() < before
        row = await mended(guard)
        assert listed() == before == 2
        (trouble,) = policies_troubles(row)
        assert trouble.severity == REMARK
        assert "the fail-closed XFRM policies were changed and put back 0 s ago" in trouble.what

    guarded(network_file, test)


def test_what_is_not_ours_and_what_we_took_away_is_no_damage(network_file: Path) -> None:
    async def test(guard: PolicyGuard) -> None:
        policy("add", *THEIRS)
        policy("delete", *THEIRS[:6])
        await asyncio.to_thread(netstate.remove, network_file)
        await asyncio.sleep(QUIET_S)
        assert guard.view().mended == 0
        assert guard.view().damaged_s is None
        assert listed() == 0

    guarded(network_file, test)
