"""IP packets to one member of an mGRE device each, over packet(7): what the kernel would send to a multicast group."""

import errno
import socket
import struct
from collections.abc import Iterable
from typing import Final

from dmvpn.errors import Fault
from dmvpn.linux.neighbours import LinkForm, link_address
from dmvpn.linux.netlink import Address, device_index

_ETHERTYPES: Final = {4: 0x0800, 6: 0x86DD}
_UDP: Final = 17
_IPV4_HEAD_OCTETS: Final = 20
_IPV6_HEAD_OCTETS: Final = 40
_UDP_HEAD_OCTETS: Final = 8
_UDP_CHECKSUM_OFFSET: Final = 6
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
        octets, taken = with_whole_checksum(packet), 0
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


def with_whole_checksum(packet: bytes) -> bytes:
    """UDP with a checksum that is right or, over IPv4, none: when logged it is not computed yet, as a device would do
    that at sending.

    RFC 768 allows none, RFC 8200 8.1 asks for one. Anything else (OSPF, IGMP) computes its own.
    """
    version = packet[0] >> 4 if packet else 0
    if version == 4 and len(packet) >= _IPV4_HEAD_OCTETS and packet[9] == _UDP:
        head = (packet[0] & 0xF) * 4
        if int.from_bytes(packet[6:8], "big") & _LAST_FRAGMENT_MASK or len(packet) < head + _UDP_HEAD_OCTETS:
            return packet
        return _with_checksum(packet, head, 0)
    if version == 6 and len(packet) >= _IPV6_HEAD_OCTETS + _UDP_HEAD_OCTETS and packet[6] == _UDP:
        return _with_checksum(packet, _IPV6_HEAD_OCTETS, _udp_checksum(packet))
    return packet


def _with_checksum(packet: bytes, head: int, checksum: int) -> bytes:
    at = head + _UDP_CHECKSUM_OFFSET
    return packet[:at] + checksum.to_bytes(2, "big") + packet[at + 2 :]


def _udp_checksum(packet: bytes) -> int:
    """Of UDP right behind an IPv6 header: RFC 8200 8.1 with RFC 768's sum; 0 goes as all ones."""
    body = _with_checksum(packet, _IPV6_HEAD_OCTETS, 0)[_IPV6_HEAD_OCTETS:]
    addresses = packet[8:_IPV6_HEAD_OCTETS]
    summed = addresses + len(body).to_bytes(4, "big") + _UDP.to_bytes(4, "big") + body + bytes(len(body) % 2)
    total = sum(struct.unpack(f"!{len(summed) // 2}H", summed))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF or 0xFFFF
