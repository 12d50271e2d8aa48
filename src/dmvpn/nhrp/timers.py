"""Deadlines of one engine: what is to be done when, in virtual or real seconds."""

import heapq
from collections.abc import Callable, Hashable
from itertools import count


class Timers:
    """Named timers, one deadline each. Arming a name again moves it; equal deadlines fire in the order of arming."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Hashable]] = []
        self._armed: dict[Hashable, tuple[float, int, Callable[[], None]]] = {}
        self._serial = count()

    def arm(self, name: Hashable, at: float, then: Callable[[], None]) -> None:
        serial = next(self._serial)
        self._armed[name] = (at, serial, then)
        heapq.heappush(self._heap, (at, serial, name))
        # Moved timers leave dead rows behind; without this a probe every second would grow the heap for ever.
        if len(self._heap) > 64 + 4 * len(self._armed):
            self._heap = [(at, serial, name) for name, (at, serial, _) in self._armed.items()]
            heapq.heapify(self._heap)

    def disarm(self, name: Hashable) -> None:
        self._armed.pop(name, None)

    def deadline(self, name: Hashable) -> float | None:
        armed = self._armed.get(name)
        return None if armed is None else armed[0]

    def next_deadline(self) -> float | None:
        self._skip_dead()
        return self._heap[0][0] if self._heap else None

    def run_due(self, now: float) -> None:
        """Call what is due, earliest first. A timer armed meanwhile for no later than `now` fires too."""
        while True:
            self._skip_dead()
            if not self._heap or self._heap[0][0] > now:
                return
            _, _, name = heapq.heappop(self._heap)
            _, _, then = self._armed.pop(name)
            then()

    def _skip_dead(self) -> None:
        while self._heap:
            _, serial, name = self._heap[0]
            armed = self._armed.get(name)
            if armed is not None and armed[1] == serial:
                return
            heapq.heappop(self._heap)
