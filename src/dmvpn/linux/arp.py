"""Whether anybody answers for an IPv4 address on a link: one ARP question. RFC 826, packet(7)."""

import select
import socket
import struct
import time
from ipaddress import IPv4Address

from dmvpn.errors import Fault

_ETH_P_ARP = 0x0806
_ARP = struct.Struct("!HHBBH6s4s6s4s")  # hardware, protocol, lengths, operation, sender, target
_ETHERNET, _IPV4 = 1, 0x0800
_ASK, _ANSWER = 1, 2
_EVERYBODY = b"\xff" * 6
_READ_OCTETS = 256


def answers(device: str, own: IPv4Address, wanted: IPv4Address, *, timeout_s: float) -> bool:
    """Ask twice at most, half the time for each. Needs CAP_NET_RAW; raises Fault without it or without the device."""
    try:
        with socket.socket(
            socket.AF_PACKET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC, socket.htons(_ETH_P_ARP)
        ) as asking:
            asking.bind((device, _ETH_P_ARP))
            mac = asking.getsockname()[4]
            if len(mac) != 6:
                raise Fault(device, "is no Ethernet device: there is no ARP on it")
            question = _ARP.pack(_ETHERNET, _IPV4, 6, 4, _ASK, mac, own.packed, bytes(6), wanted.packed)
            for _ in range(2):
                asking.sendto(question, (device, _ETH_P_ARP, 0, _ETHERNET, _EVERYBODY))
                if _heard(asking, wanted, timeout_s / 2):
                    return True
    except PermissionError as error:
        raise Fault("ARP", "needs CAP_NET_RAW", "run as root") from error
    except OSError as error:
        raise Fault(device, (error.strerror or str(error)).lower()) from error
    return False


def _heard(asking: socket.socket, wanted: IPv4Address, timeout_s: float) -> bool:
    until = time.monotonic() + timeout_s
    while (left := until - time.monotonic()) > 0 and select.select((asking,), (), (), left)[0]:
        octets = asking.recv(_READ_OCTETS)
        if len(octets) < _ARP.size:
            continue
        _hardware, _protocol, _, _, operation, _mac, sender, _, _ = _ARP.unpack_from(octets)
        if operation == _ANSWER and sender == wanted.packed:
            return True
    return False
