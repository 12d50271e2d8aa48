"""From the TAP to the underlay: the MAC says to whom; the GRE header takes the place of the Ethernet header's tail.

The common packet costs one lookup by its Ethernet header; what that does not know is examined once and remembered.
"""

import errno
from typing import Final

from dmvpn.linux.mmsg import SLOT_OCTETS, SendBatch, address_word
from dmvpn.plane.counters import Carried, Drop
from dmvpn.plane.headers import (
    CARRIED,
    ETHERNET_OCTETS,
    IPV4,
    NHRP,
    gre_header,
    inherited_tos,
    is_group,
    nbma_of,
)
from dmvpn.plane.tunnel import Tunnel
from dmvpn.plane.underlay import Underlay

_HOPS_LIMIT: Final = 4096
_LEAST_OCTETS: Final = ETHERNET_OCTETS + 20
# Class selector 6, network control (RFC 4594 2): NHRP has no TOS of its own to inherit.
_NHRP_TOS: Final = 0xC0

_REASONS: Final = {
    errno.EMSGSIZE: Drop.TOO_BIG,
    errno.EHOSTUNREACH: Drop.UNREACHABLE,
    errno.ENETUNREACH: Drop.UNREACHABLE,
    errno.ENETDOWN: Drop.UNREACHABLE,
    errno.EADDRNOTAVAIL: Drop.UNREACHABLE,
    errno.ENOBUFS: Drop.NO_BUFFERS,
    errno.ENOMEM: Drop.NO_BUFFERS,
    errno.EAGAIN: Drop.NO_BUFFERS,
    errno.EPERM: Drop.FORBIDDEN,
    errno.EACCES: Drop.FORBIDDEN,
    errno.ENODEV: Drop.NO_SECURITY,
    errno.ENXIO: Drop.NO_SECURITY,
}


class _Hop:
    """What an Ethernet header leads to. `word` is the NBMA address for the batch; `tos` None means inherit."""

    __slots__ = ("carried", "header", "ipv4", "tos", "word")

    def __init__(self, nbma: bytes, header: bytes, protocol: int, tos: int | None, carried: Carried) -> None:
        self.word = address_word(nbma)
        self.header = header
        self.ipv4 = protocol == IPV4
        self.tos = tos
        self.carried = carried


class Outbound:
    """One tunnel's way out."""

    def __init__(self, tunnel: Tunnel, underlay: Underlay) -> None:
        self.tunnel = tunnel
        self._underlay = underlay
        self._headers = {protocol: gre_header(tunnel.settings.key, protocol) for protocol in CARRIED}
        self._start = ETHERNET_OCTETS - len(self._headers[IPV4])
        self._batch = SendBatch(ttl=tunnel.settings.ttl, start=self._start)
        self._hops: dict[bytes, _Hop] = {}
        self._queued: list[_Hop] = []

    def forget_hops(self) -> None:
        self._hops.clear()

    def carry(self, now: float) -> None:
        """Read what waits in the TAP, one batch at most, and send it."""
        slots, hops, queued = self._batch.slots, self._hops, self._queued
        addresses, lengths, toses = self._batch.addresses, self._batch.lengths, self._batch.tos
        read, start, room = self.tunnel.read_frame, self._start, len(self._batch.slots)
        index = 0
        while index < room:
            slot = slots[index]
            octets = read(slot)
            if octets is None:
                break
            hop = hops.get(bytes(slot[:14]))
            if hop is None or not _LEAST_OCTETS <= octets < SLOT_OCTETS:
                self._examine(slot, octets, now)
                index = len(queued)
                continue
            slot[start:14] = hop.header
            addresses[index] = hop.word
            lengths[index] = octets - start
            tos = hop.tos
            if tos is None:
                tos = slot[15] if hop.ipv4 else (slot[14] & 0x0F) << 4 | slot[15] >> 4
            toses[index] = tos
            carried = hop.carried
            carried.tx_packets += 1
            carried.tx_octets += octets - 14
            carried.tx_at = now
            queued.append(hop)
            index += 1
        self._send()

    def _examine(self, slot: memoryview, octets: int, now: float) -> None:
        """A frame whose header is new, or whose length is odd: queue it, in as many copies as it needs, or drop it."""
        if octets >= SLOT_OCTETS:
            return self.tunnel.drop(Drop.OVERSIZED)
        if octets < ETHERNET_OCTETS:
            return self.tunnel.drop(Drop.MALFORMED)
        protocol = slot[12] << 8 | slot[13]
        if protocol not in CARRIED:
            return self.tunnel.drop(Drop.PROTOCOL)
        if octets < _LEAST_OCTETS:
            return self.tunnel.drop(Drop.MALFORMED)
        mac = bytes(slot[:6])
        if is_group(mac):
            return self._replicate(bytes(slot[:octets]), protocol, now)
        nbma = nbma_of(mac)
        if nbma is None:
            return self.tunnel.drop(Drop.NEXT_HOP)
        hop = self._hop(nbma, protocol)
        if len(self._hops) >= _HOPS_LIMIT:
            self._hops.clear()
        self._hops[bytes(slot[:ETHERNET_OCTETS])] = hop
        return self._queue(bytes(slot[:octets]), hop, protocol, now)

    def _hop(self, nbma: bytes, protocol: int) -> _Hop:
        tos = self.tunnel.settings.tos
        if tos is None and protocol == NHRP:
            tos = _NHRP_TOS
        return _Hop(nbma, self._headers[protocol], protocol, tos, self.tunnel.carried(nbma, protocol))

    def _replicate(self, frame: bytes, protocol: int, now: float) -> None:
        if not self.tunnel.flood:
            self.tunnel.drop(Drop.NO_FLOOD)
        for nbma in self.tunnel.flood:
            self._queue(frame, self._hop(nbma, protocol), protocol, now)

    def _queue(self, frame: bytes, hop: _Hop, protocol: int, now: float) -> None:
        if len(self._queued) == len(self._batch.slots):
            self._send()
        index = len(self._queued)
        slot = self._batch.slots[index]
        slot[: len(frame)] = frame
        slot[self._start : ETHERNET_OCTETS] = hop.header
        self._batch.addresses[index] = hop.word
        self._batch.lengths[index] = len(frame) - self._start
        tos = hop.tos
        self._batch.tos[index] = inherited_tos(protocol, slot[ETHERNET_OCTETS:]) if tos is None else tos
        hop.carried.tx_packets += 1
        hop.carried.tx_octets += len(frame) - ETHERNET_OCTETS
        hop.carried.tx_at = now
        self._queued.append(hop)

    def _send(self) -> None:
        """Send what is queued. A message that the kernel refuses is counted and taken out of its peer's figures."""
        end = len(self._queued)
        opened = self._underlay.socket
        if opened is None:
            self._refused(0, end, Drop.NO_SECURITY)
            end = 0
        first = 0
        while opened is not None and first < end:
            count = self._batch.send(opened.fileno(), first, end)
            if count > 0:
                first += count
                continue
            reason = _REASONS.get(-count, Drop.SEND_ERROR)
            # These three speak of the socket, not of one message: asking again for each would only burn time.
            last = end if reason in (Drop.NO_SECURITY, Drop.NO_BUFFERS) else first + 1
            self._refused(first, last, reason)
            first = last
        self._queued.clear()

    def _refused(self, first: int, end: int, reason: Drop) -> None:
        for index in range(first, end):
            carried = self._queued[index].carried
            carried.tx_packets -= 1
            carried.tx_octets -= self._batch.lengths[index] - (ETHERNET_OCTETS - self._start)
        if end > first:
            self.tunnel.drop(reason, end - first)
