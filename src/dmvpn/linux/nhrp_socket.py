"""NHRP on the wire: EtherType 0x2001 on a TAP or an mGRE device, over packet(7)."""

import errno
import socket
from dataclasses import dataclass
from typing import cast

from dmvpn.errors import Fault
from dmvpn.linux.neighbours import LinkForm, link_address, nbma_of_link
from dmvpn.linux.netlink import Address, device_index, enlarge_buffer

ETHERTYPE_NHRP = 0x2001
_PACKET_OUTGOING = 4
_PACKET_OTHERHOST = 3
_READ_OCTETS = 65535
_LONGEST_LINK = 8  # Python's sockaddr_ll ends there; an IPv6 underlay will need libc's sendto


@dataclass(frozen=True, slots=True)
class NhrpDatagram:
    """`sender` is the NBMA address it came from, None when the device did not say."""

    octets: bytes
    sender: Address | None


class NhrpSocket:
    """One device's NHRP."""

    def __init__(self, device: str, form: LinkForm) -> None:
        self.device = device
        self._form = form
        device_index(device)
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
        """Whether the kernel took it; NHRP repeats what is lost. Raises Fault when it can never work."""
        link = link_address(nbma, self._form)
        if len(link) > _LONGEST_LINK:
            raise Fault(self.device, f"NHRP over an IPv6 underlay ({nbma}) is not supported yet")
        try:
            self._socket.sendto(octets, (self.device, ETHERTYPE_NHRP, 0, 0, link))
        except OSError as error:
            if error.errno == errno.EMSGSIZE:
                raise Fault(self.device, f"an NHRP packet of {len(octets)} octets exceeds the device's MTU") from error
            return False
        return True

    def receive(self) -> NhrpDatagram | None:
        """The next packet, or None when none waits. Never blocks. Call until None."""
        while True:
            try:
                octets, source = self._socket.recvfrom(_READ_OCTETS)
            except BlockingIOError:
                return None
            except OSError as error:
                # The device went down or away: reported once by the kernel, and told again by RouteWatch.
                if error.errno in (errno.ENETDOWN, errno.ENODEV, errno.ENXIO):
                    return None
                raise
            _device, _protocol, packet_type, _hardware, link = cast(tuple[str, int, int, int, bytes], source)
            if packet_type in (_PACKET_OUTGOING, _PACKET_OTHERHOST):
                continue
            return NhrpDatagram(octets, nbma_of_link(link))
