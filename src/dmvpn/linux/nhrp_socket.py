"""NHRP on the wire: EtherType 0x2001 on a TAP or an mGRE device, over packet(7). Many packets for each system call."""

import errno
import os
import socket
from collections.abc import Sequence
from typing import Final, NamedTuple

from dmvpn.errors import Fault
from dmvpn.linux.mmsg import SLOT_OCTETS, SLOTS, LinkReceiveBatch, LinkSendBatch
from dmvpn.linux.neighbours import LinkForm, link_address, nbma_of_link
from dmvpn.linux.netlink import Address, device_index, enlarge_buffer

ETHERTYPE_NHRP: Final = 0x2001
AT_ONCE: Final = SLOTS
_PACKET_OUTGOING: Final = 4
_PACKET_OTHERHOST: Final = 3
# The device went down or away: reported once by the kernel, and told again by RouteWatch.
_WITHOUT_DEVICE: Final = (errno.ENETDOWN, errno.ENODEV, errno.ENXIO)


class NhrpDatagram(NamedTuple):
    """`sender` is the NBMA address it came from, None when the device did not say."""

    octets: bytes
    sender: Address | None


class NotSent(Fault):
    """The kernel did not take a packet. `ever`: it may take the same packet another time."""

    def __init__(self, device: str, what: str, *, ever: bool) -> None:
        self.ever = ever
        super().__init__(device, what)


class NhrpSocket:
    """One device's NHRP."""

    def __init__(self, device: str, form: LinkForm) -> None:
        self.device = device
        self._form = form
        self._receiving = LinkReceiveBatch()
        self._sending = LinkSendBatch(device_index(device), ETHERTYPE_NHRP)
        self._socket = socket.socket(
            socket.AF_PACKET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, 0
        )
        try:
            enlarge_buffer(self._socket, 1 << 21)
            self._socket.bind((device, ETHERTYPE_NHRP))
        except OSError as error:
            self._socket.close()
            raise Fault(device, f"cannot listen for NHRP: {error.strerror}") from error

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()

    def send(self, octets: bytes, nbma: Address) -> bool:
        """Whether the kernel took it; NHRP repeats what is lost. Raises NotSent when it can never work."""
        failed = self.send_all(((octets, nbma),)).get(0)
        if failed is not None and not failed.ever:
            raise failed
        return failed is None

    def send_all(self, packets: Sequence[tuple[bytes, Address]]) -> dict[int, NotSent]:
        """Octets and where they go, in their order; what the kernel did not take, by its place."""
        failed: dict[int, NotSent] = {}
        waiting: list[int] = []
        for place, (octets, nbma) in enumerate(packets):
            try:
                self._put(len(waiting), octets, nbma)
            except NotSent as fault:
                failed[place] = fault
                continue
            waiting.append(place)
            if len(waiting) == AT_ONCE:
                self._flush(waiting, failed)
                waiting.clear()
        self._flush(waiting, failed)
        return failed

    def receive(self) -> tuple[NhrpDatagram, ...]:
        """What waits, at most AT_ONCE packets; nothing when none does. Never blocks."""
        batch = self._receiving
        try:
            lengths = batch.receive(self._socket.fileno())
        except OSError as error:
            if error.errno in _WITHOUT_DEVICE:
                return ()
            raise
        found = []
        for slot, length in enumerate(lengths):
            packet_type, link = batch.sender(slot)
            if packet_type not in (_PACKET_OUTGOING, _PACKET_OTHERHOST):
                found.append(NhrpDatagram(bytes(batch.slots[slot][:length]), nbma_of_link(link)))
        return tuple(found)

    def _put(self, slot: int, octets: bytes, nbma: Address) -> None:
        """Raises NotSent."""
        try:
            link = link_address(nbma, self._form)
        except Fault as fault:
            raise NotSent(self.device, str(fault), ever=False) from fault
        if len(octets) > SLOT_OCTETS:
            raise self._too_long(len(octets))
        self._sending.put(slot, octets, link)

    def _flush(self, places: list[int], failed: dict[int, NotSent]) -> None:
        done = 0
        while done < len(places):
            sent = self._sending.send(self._socket.fileno(), done, len(places))
            if sent < 0:  # the first of them; those behind it were not tried
                failed[places[done]] = self._refusal(-sent, self._sending.octets(done))
            done += max(sent, 1)

    def _refusal(self, number: int, octets: int) -> NotSent:
        if number == errno.EMSGSIZE:
            return self._too_long(octets)
        return NotSent(self.device, f"an NHRP packet was not taken: {os.strerror(number)}", ever=True)

    def _too_long(self, octets: int) -> NotSent:
        return NotSent(self.device, f"an NHRP packet of {octets} octets exceeds the device's MTU", ever=False)
