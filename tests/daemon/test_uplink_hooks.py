"""Hooks of uplinks: in order, the last word of each is kept, and none outlives dmvpnd."""

import asyncio
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from dmvpn.daemon.uplink_hooks import WAITING_LIMIT, Hooks
from dmvpn.linux import hook


def test_a_link_that_flaps_pushes_no_other_one_s_last_state_out(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[str, object]] = []

    def run(program: str, event: Mapping[str, object], **_: Any) -> None:
        told.append((program, event["number"]))

    monkeypatch.setattr(hook, "run", run)

    async def flap() -> None:
        hooks = Hooks()
        hooks.run("isp2", "/two", {"number": 0})
        for number in range(WAITING_LIMIT * 3):
            hooks.run("isp1", "/one", {"number": number})
        while len(told) < WAITING_LIMIT:
            await asyncio.sleep(0.001)
        hooks.close()

    asyncio.run(flap())
    assert told[0] == ("/two", 0)
    assert told[1:] == [("/one", number) for number in range(WAITING_LIMIT * 2 + 1, WAITING_LIMIT * 3)]


def test_a_hook_that_runs_ends_with_dmvpnd(tmp_path: Path) -> None:
    program = tmp_path / "hook"
    program.write_text(f"#!/bin/sh\ntouch {tmp_path}/began\nsleep 20\n")
    program.chmod(0o755)

    async def live() -> float:
        hooks = Hooks()
        hooks.run("isp1", str(program), {})
        while not (tmp_path / "began").exists():
            await asyncio.sleep(0.01)
        hooks.close()
        return time.monotonic()

    closed_at = asyncio.run(live())
    assert time.monotonic() - closed_at < 5, "asyncio.run waits for its thread"
