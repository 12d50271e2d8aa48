"""Devices by name that come, or come back: a card that was pulled and put back is bare. rtnetlink(7).

So is one that somebody switched off and on, as far as the kernel is concerned: with it went the routes by it and its
IPv6 addresses.
"""

import socket
import struct
from collections.abc import Collection, Iterable

from dmvpn.linux.netlink import Events, Message

_RTM_NEWLINK = 16
_RTNLGRP_LINK = 1
_IFINFOMSG = struct.Struct("=BxHiII")
_IFF_UP = 0x1


class Switches:
    """By index: which links were off and are on again."""

    def __init__(self) -> None:
        self._off: set[int] = set()

    def turned_on(self, messages: Iterable[Message]) -> frozenset[int]:
        """`messages` in their order, as far as they were heard."""
        found = set()
        for message in messages:
            if message.kind == _RTM_NEWLINK:
                _family, _type, index, flags, _change = _IFINFOMSG.unpack_from(message.payload)
                if not flags & _IFF_UP:
                    self._off.add(index)
                elif index in self._off:
                    self._off.discard(index)
                    found.add(index)
        return frozenset(found)


class PortWatch:
    """For loop.add_reader(): fileno() and a read that never blocks."""

    def __init__(self, names: Collection[str]) -> None:
        self._events = Events((_RTNLGRP_LINK,))
        self._indexes = {name: _index(name) for name in names}
        self._switches = Switches()

    def fileno(self) -> int:
        return self._events.fileno()

    def close(self) -> None:
        self._events.close()

    def came(self) -> frozenset[str]:
        """Those that are there and were not, or are others now, or were switched off and are on again."""
        messages, _overflow = self._events.read()
        turned_on = self._switches.turned_on(messages)
        now = {name: _index(name) for name in self._indexes}
        others = {name: index for name, index in now.items() if index not in (0, self._indexes[name])}
        self._indexes |= others  # one that has gone keeps its number: renamed and back it is no other
        return frozenset(others) | {name for name, index in now.items() if index in turned_on}


def _index(name: str) -> int:
    try:
        return socket.if_nametoindex(name)
    except OSError:
        return 0
