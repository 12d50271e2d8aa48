"""IP packets to one member of an mGRE device each, over packet(7): what the kernel would send to a multicast group."""

import errno
import socket
from collections.abc import Iterable
from typing import Final

from dmvpn.errors import Fault
from dmvpn.linux.neighbours import LinkForm, link_address
from dmvpn.linux.netlink import Address, device_index

_ETHERTYPES: Final = {4: 0x0800, 6: 0x86DD}
_UDP: Final = 17
_IPV4_HEAD_OCTETS: Final = 20
_LAST_FRAGMENT_MASK: Final = 0x3FFF


class Copies:
    """Sends packets that begin with their IP header."""

    def __init__(self, device: str) -> None:
        self._device = device
        device_index(device)
        # Protocol 0: this socket never receives.
        self._socket = socket.socket(
            socket.AF_PACKET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, 0
        )

    def close(self) -> None:
        self._socket.close()

    def send(self, packet: bytes, members: Iterable[Address]) -> int:
        """A copy to each; how many the kernel took, since senders repeat what is lost. Raises Fault without device."""
        octets, taken = without_partial_checksum(packet), 0
        ethertype = _ETHERTYPES.get(packet[0] >> 4 if packet else 0)
        if ethertype is None:
            return 0
        for nbma in members:
            try:
                self._socket.sendto(octets, (self._device, ethertype, 0, 0, link_address(nbma, LinkForm.GRE)))
            except OSError as error:
                if error.errno in (errno.ENODEV, errno.ENXIO):
                    raise Fault(self._device, "there is no such network device here") from error
                continue
            taken += 1
        return taken


def without_partial_checksum(packet: bytes) -> bytes:
    """UDP over IPv4 without its checksum: when logged it is not computed yet, as a device would do that at sending.

    RFC 768 allows none. Anything else (OSPF, IGMP) computes its own.
    """
    if len(packet) < _IPV4_HEAD_OCTETS or packet[0] >> 4 != 4 or packet[9] != _UDP:
        return packet
    head = (packet[0] & 0xF) * 4
    fragment = int.from_bytes(packet[6:8], "big") & _LAST_FRAGMENT_MASK
    if fragment or len(packet) < head + 8:
        return packet
    return packet[: head + 6] + bytes(2) + packet[head + 8 :]
