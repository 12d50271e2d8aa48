"""Programs of the operator's that changes of uplinks run: one after the other, each with its time, none waited for."""

import asyncio
import logging
import os
import signal
from collections.abc import Mapping
from contextlib import suppress

from dmvpn.errors import Fault
from dmvpn.linux import hook

log = logging.getLogger("dmvpnd.hooks")

TIME_LIMIT_S = 30.0
WAITING_LIMIT = 32  # of a link that flaps all day the latest


class Hooks:
    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._waiting: list[tuple[str, str, Mapping[str, object]]] = []
        self._task: asyncio.Task[None] | None = None
        self._group: int | None = None  # of the process that runs
        self._closed = False

    def run(self, uplink: str, program: str, event: Mapping[str, object]) -> None:
        """Later, and in order: the last word of a hook is about the last state."""
        self._waiting.append((uplink, program, event))
        if len(self._waiting) > WAITING_LIMIT:
            self._make_room()
        if self._task is None or self._task.done():
            self._task = self._loop.create_task(self._work())

    def _make_room(self) -> None:
        """The oldest goes that is not its uplink's last one."""
        names = [uplink for uplink, _program, _event in self._waiting]
        old = next((place for place, name in enumerate(names) if name in names[place + 1 :]), None)
        if old is not None:
            del self._waiting[old]

    def close(self) -> None:
        """One that runs ends too: it would hold up the end of dmvpnd, and so the next one, for as long as it likes."""
        self._closed = True
        if self._task is not None:
            self._task.cancel()
        self._end()

    def _end(self) -> None:
        if self._group is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._group, signal.SIGKILL)

    def _started(self, group: int) -> None:
        """In the thread that runs it."""
        self._group = group
        if self._closed:
            self._end()

    async def _work(self) -> None:
        while self._waiting:
            _uplink, program, event = self._waiting.pop(0)
            try:
                await asyncio.to_thread(self._run, program, event)
            except Fault as fault:
                log.warning("hook %s: %s", program, fault)

    def _run(self, program: str, event: Mapping[str, object]) -> None:
        try:
            hook.run(program, event, timeout_s=TIME_LIMIT_S, started=self._started)
        finally:
            self._group = None
