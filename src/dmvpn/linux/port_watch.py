"""Devices by name that come, or come back: a card that was pulled and put back is bare. rtnetlink(7)."""

import socket
from collections.abc import Collection

from dmvpn.linux.netlink import Events

_RTNLGRP_LINK = 1


class PortWatch:
    """For loop.add_reader(): fileno() and a read that never blocks."""

    def __init__(self, names: Collection[str]) -> None:
        self._events = Events((_RTNLGRP_LINK,))
        self._indexes = {name: _index(name) for name in names}

    def fileno(self) -> int:
        return self._events.fileno()

    def close(self) -> None:
        self._events.close()

    def came(self) -> dict[str, int]:
        """Those that are there and were not, or are others now, with their indexes."""
        self._events.read()  # that something happened; what counts is what is there by now
        now = {name: _index(name) for name in self._indexes}
        found = {name: index for name, index in now.items() if index not in (0, self._indexes[name])}
        self._indexes |= found  # one that has gone keeps its number: renamed and back it is no other
        return found


def _index(name: str) -> int:
    try:
        return socket.if_nametoindex(name)
    except OSError:
        return 0
