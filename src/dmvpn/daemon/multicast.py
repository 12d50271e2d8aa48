"""Multicast on the kernel plane: an mGRE device has nobody to send it to, so each member gets a copy from here.

Meant for routing protocols (OSPF's hellos and floods): bounded, since a copy for each member costs this process time
that registrations need.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterable

from dmvpn.errors import Fault
from dmvpn.linux.copies import Copies
from dmvpn.linux.netlink import Address
from dmvpn.linux.nflog import LoggedPackets

log = logging.getLogger("dmvpnd.multicast")

WHOLE_OCTETS = 0xFFFB  # NFLOG's most: 65535 with its attribute header
COPIES_EACH_S = 20_000  # of all packets together
COPIES_AT_ONCE = 20_000  # one packet to every member of the largest cloud, and OSPF's burst of them
COPIES_A_TURN = 256  # of the loop, which has registrations to answer in between


class Multicast:
    """One cloud's. `members` names where copies go, `count` is told what was not sent, and why."""

    def __init__(
        self, device: str, group: int, members: Callable[[], Iterable[Address]], count: Callable[[str, int], None]
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._members = members
        self._count = count
        self._copies = Copies(device)
        self._allowance = float(COPIES_AT_ONCE)
        self._counted_at = self._loop.time()
        self._waiting: deque[tuple[bytes, tuple[Address, ...]]] = deque()  # what is left to send, and to whom
        self._next_turn: asyncio.Handle | None = None
        try:
            self._packets = LoggedPackets(group, WHOLE_OCTETS)
        except Fault:
            self._copies.close()
            raise

    def open(self) -> None:
        self._loop.add_reader(self._packets.fileno(), self._readable)

    def close(self) -> None:
        if self._next_turn is not None:
            self._next_turn.cancel()
        self._loop.remove_reader(self._packets.fileno())
        self._packets.close()
        self._copies.close()

    def _readable(self) -> None:
        packets = self._packets.read()
        members = tuple(dict.fromkeys(self._members())) if packets else ()
        for packet in packets:
            if not self._may_send(len(members)):
                self._count("multicast-limit", len(members))
                continue
            self._waiting.append((packet.head, members))
        self._send_some()
        if self._waiting:
            # Until these are sent, more of them wait in the kernel, whose buffer is bounded.
            self._loop.remove_reader(self._packets.fileno())
            self._next_turn = self._loop.call_soon(self._continue)

    def _continue(self) -> None:
        self._next_turn = None
        self._send_some()
        if self._waiting:
            self._next_turn = self._loop.call_soon(self._continue)
        else:
            self.open()

    def _send_some(self) -> None:
        left = COPIES_A_TURN
        while self._waiting and left > 0:
            octets, members = self._waiting.popleft()
            now, later = members[:left], members[left:]
            left -= len(now)
            try:
                missed = len(now) - self._copies.send(octets, now)
            except Fault as fault:
                log.warning("%s", fault)
                missed, later = len(members), ()
            if later:
                self._waiting.appendleft((octets, later))
            if missed:
                self._count("multicast-failed", missed)

    def _may_send(self, copies: int) -> bool:
        now = self._loop.time()
        earned = (now - self._counted_at) * COPIES_EACH_S
        self._allowance, self._counted_at = min(float(COPIES_AT_ONCE), self._allowance + earned), now
        if copies > self._allowance:
            return False
        self._allowance -= copies
        return True
