"""epoll(7) with a callback for each descriptor."""

import select
from collections.abc import Callable

Callback = Callable[[int], None]


class Watch:
    """Calls back with the events of the descriptor."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._callbacks: dict[int, Callback] = {}

    def add(self, descriptor: int, callback: Callback, events: int = select.EPOLLIN) -> None:
        self._epoll.register(descriptor, events)
        self._callbacks[descriptor] = callback

    def change(self, descriptor: int, events: int) -> None:
        self._epoll.modify(descriptor, events)

    def remove(self, descriptor: int) -> None:
        """To be called before the descriptor is closed: its number may be somebody else's right after."""
        del self._callbacks[descriptor]
        self._epoll.unregister(descriptor)

    def wait(self, timeout_s: float) -> None:
        """Wait once and call back. A callback may remove descriptors whose events are still to come."""
        for descriptor, events in self._epoll.poll(timeout_s):
            callback = self._callbacks.get(descriptor)
            if callback is not None:
                callback(events)

    def close(self) -> None:
        self._epoll.close()
