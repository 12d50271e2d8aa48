"""Work that nobody waits for."""

import asyncio
from collections.abc import Coroutine
from typing import Any


class Tasks:
    """Holds each until it is done: the loop keeps only a weak reference to a task."""

    def __init__(self) -> None:
        self._running: set[asyncio.Task[None]] = set()

    def begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
