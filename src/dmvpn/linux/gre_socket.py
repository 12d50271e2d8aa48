"""NHRP in GRE from an address that no tunnel device has: a raw socket, in clear. raw(7), RFC 2784 and 2890."""

import socket
import struct
from ipaddress import IPv4Address

from dmvpn.errors import Fault
from dmvpn.linux.netlink import enlarge_buffer

_GRE = struct.Struct(">HH")
_NHRP = 0x2001
_KEYED = 0x2000
_READ_OCTETS = 65535
_IHL_MASK = 0x0F


class GreSocket:
    """`receive` gives NHRP PDUs that came to this address in GRE with this key."""

    def __init__(self, own: IPv4Address, key: int | None) -> None:
        self._head = _GRE.pack(0 if key is None else _KEYED, _NHRP)
        self._head += b"" if key is None else key.to_bytes(4, "big")
        flags = socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        self._socket = socket.socket(socket.AF_INET, flags, socket.IPPROTO_GRE)
        try:
            enlarge_buffer(self._socket, 1 << 20)
            self._socket.bind((str(own), 0))
        except OSError as error:
            self._socket.close()
            raise Fault(str(own), f"no address of this machine: {error.strerror}") from error

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()

    def send(self, octets: bytes, nbma: IPv4Address) -> bool:
        """Whether the kernel took it."""
        try:
            self._socket.sendto(self._head + octets, (str(nbma), 0))
        except OSError:
            return False
        return True

    def receive(self) -> bytes | None:
        """The next PDU; None when none waits. Never blocks."""
        while True:
            try:
                octets = self._socket.recv(_READ_OCTETS)
            except BlockingIOError:
                return None
            inner = octets[(octets[0] & _IHL_MASK) * 4 :]
            if inner.startswith(self._head):
                return inner[len(self._head) :]
