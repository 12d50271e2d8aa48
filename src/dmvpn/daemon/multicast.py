"""Multicast on the kernel plane: an mGRE device has nobody to send it to, so each member gets a copy from here.

Meant for routing protocols (OSPF's hellos and floods): bounded, since a copy for each member costs this process time
that registrations need.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable

from dmvpn.errors import Fault
from dmvpn.linux.copies import Copies
from dmvpn.linux.netlink import Address
from dmvpn.linux.nflog import LoggedPackets

log = logging.getLogger("dmvpnd.multicast")

WHOLE_OCTETS = 0xFFFB  # NFLOG's most: 65535 with its attribute header
COPIES_EACH_S = 20_000  # of all packets together
COPIES_AT_ONCE = 20_000  # one packet to every member of the largest cloud, and OSPF's burst of them


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
        try:
            self._packets = LoggedPackets(group, WHOLE_OCTETS)
        except Fault:
            self._copies.close()
            raise

    def open(self) -> None:
        self._loop.add_reader(self._packets.fileno(), self._readable)

    def close(self) -> None:
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
            try:
                missed = len(members) - self._copies.send(packet.head, members)
            except Fault as fault:
                log.warning("%s", fault)
                missed = len(members)
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
