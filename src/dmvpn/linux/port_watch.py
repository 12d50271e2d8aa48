"""Devices by name that come, or come back: a card that was pulled and put back is bare. rtnetlink(7).

So is one that somebody switched off and on, as far as the kernel is concerned: with it went the routes by it and its
IPv6 addresses.
"""

import fcntl
import socket
import struct
from collections.abc import Collection, Iterable

from dmvpn.linux.netlink import Events, Message

_RTM_NEWLINK = 16
_RTM_DELLINK = 17
_RTNLGRP_LINK = 1
_IFINFOMSG = struct.Struct("=BxHiII")
_IFF_UP = 0x1
_SIOCGIFFLAGS = 0x8913
_IFREQ = struct.Struct("=16sH22x")


class Switches:
    """By index: which links were off and are on again. `off` are those that are off, also by what others read."""

    def __init__(self) -> None:
        self.off: set[int] = set()

    def turned_on(self, messages: Iterable[Message]) -> list[int]:
        """`messages` in their order, as far as they were heard."""
        found = []
        for message in messages:
            if message.kind in (_RTM_NEWLINK, _RTM_DELLINK):
                _family, _type, index, flags, _change = _IFINFOMSG.unpack_from(message.payload)
                if message.kind == _RTM_DELLINK:
                    self.off.discard(index)
                elif not flags & _IFF_UP:
                    self.off.add(index)
                elif index in self.off:
                    self.off.discard(index)
                    found.append(index)
        return found


class PortWatch:
    """For loop.add_reader(): fileno() and a read that never blocks."""

    def __init__(self, names: Collection[str]) -> None:
        self._events = Events((_RTNLGRP_LINK,))
        self._switches = Switches()
        self._indexes = {name: _index(name) for name in names}
        self._switches.off |= {index for name, index in self._indexes.items() if index and not _is_on(name)}

    def fileno(self) -> int:
        return self._events.fileno()

    def close(self) -> None:
        self._events.close()

    def came(self) -> frozenset[str]:
        """Those that are there and were not, or are others now, or were switched off and are on again.

        Where the kernel had to drop something, all that are there: any of them may have come back meanwhile.
        """
        messages, overflow = self._events.read()
        turned_on = set(self._switches.turned_on(messages))
        now = {name: _index(name) for name in self._indexes}
        others = {name: index for name, index in now.items() if index not in (0, self._indexes[name])}
        self._indexes |= others  # one that has gone keeps its number: renamed and back it is no other
        return frozenset(others) | {name for name, index in now.items() if index and (overflow or index in turned_on)}


def _index(name: str) -> int:
    try:
        return socket.if_nametoindex(name)
    except OSError:
        return 0


def _is_on(name: str) -> bool:
    """netdevice(7)."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as asking:
        try:
            answer = fcntl.ioctl(asking, _SIOCGIFFLAGS, _IFREQ.pack(name.encode(), 0))
        except OSError:
            return False
    return bool(_IFREQ.unpack(answer)[1] & _IFF_UP)
