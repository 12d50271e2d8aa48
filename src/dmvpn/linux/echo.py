"""ICMP echo with the TTL of each answer: how `dmvpn ping` sees which way an answer came. RFC 792, RFC 4443."""

import os
import select
import socket
import struct
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

from dmvpn.errors import Fault
from dmvpn.linux.netlink import Address

_ECHO_REQUEST_V4, _ECHO_REPLY_V4 = 8, 0
_ECHO_REQUEST_V6, _ECHO_REPLY_V6 = 128, 129
_HEADER = struct.Struct("!BBHHH")  # type, code, checksum, identifier, sequence
_IP_RECVTTL = 12
_READ_OCTETS = 4096


@dataclass(frozen=True, slots=True)
class Echo:
    """One answer. `ttl` is as received: each router on the way back took one."""

    sequence: int
    rtt_s: float
    ttl: int


class Pinger:
    """Sends echo requests to one address. Needs CAP_NET_RAW."""

    def __init__(self, destination: Address, source: Address | None = None) -> None:
        self._destination = destination
        # Process ids are small and alike in the namespaces of a lab or container: two pingers must not hear each other.
        self._identifier = int.from_bytes(os.urandom(2), sys.byteorder)
        v4 = destination.version == 4
        self._request, self._answer = (_ECHO_REQUEST_V4, _ECHO_REPLY_V4) if v4 else (_ECHO_REQUEST_V6, _ECHO_REPLY_V6)
        family, protocol = (socket.AF_INET, socket.IPPROTO_ICMP) if v4 else (socket.AF_INET6, socket.IPPROTO_ICMPV6)
        try:
            self._socket = socket.socket(family, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
        except PermissionError as error:
            raise Fault("ping", "needs CAP_NET_RAW", "run as root") from error
        if v4:
            self._socket.setsockopt(socket.SOL_IP, _IP_RECVTTL, 1)
        else:
            self._socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVHOPLIMIT, 1)
        if source is not None and source.version == destination.version:
            try:
                self._socket.bind((str(source), 0))
            except OSError as error:
                self._socket.close()
                raise Fault(f"ping from {source}", error.strerror or str(error)) from error
        self._sent: dict[int, float] = {}

    def close(self) -> None:
        self._socket.close()

    def send(self, sequence: int) -> None:
        """Raises Fault when the kernel knows no way."""
        body = b"OpenDMVPN" + bytes(39)
        head = _HEADER.pack(self._request, 0, 0, self._identifier, sequence & 0xFFFF)
        if self._destination.version == 4:
            head = _HEADER.pack(self._request, 0, _checksum(head + body), self._identifier, sequence & 0xFFFF)
        self._sent[sequence & 0xFFFF] = time.monotonic()
        try:
            self._socket.sendto(head + body, (str(self._destination), 0))
        except OSError as error:
            raise Fault(str(self._destination), error.strerror or str(error)) from error

    def answers(self, timeout_s: float) -> Iterator[Echo]:
        """Answers to what was sent, as they come, until `timeout_s` from now."""
        until = time.monotonic() + timeout_s
        while (left := until - time.monotonic()) > 0:
            if not select.select((self._socket,), (), (), left)[0]:
                return
            echo = self._read()
            if echo is not None:
                yield echo

    def _read(self) -> Echo | None:
        octets, ancillary, _flags, source = self._socket.recvmsg(_READ_OCTETS, 256)
        now = time.monotonic()
        sequence: int
        if source[0].partition("%")[0] != str(self._destination):
            return None
        if self._destination.version == 4:
            octets = octets[(octets[0] & 0xF) * 4 :]
        if len(octets) < _HEADER.size:
            return None
        kind, _code, _sum, identifier, sequence = _HEADER.unpack_from(octets)
        if kind != self._answer or identifier != self._identifier or sequence not in self._sent:
            return None
        return Echo(sequence, now - self._sent.pop(sequence), _ttl(ancillary))


def _ttl(ancillary: list[tuple[int, int, bytes]]) -> int:
    for level, kind, data in ancillary:
        if (level, kind) in ((socket.SOL_IP, socket.IP_TTL), (socket.IPPROTO_IPV6, socket.IPV6_HOPLIMIT)):
            return int.from_bytes(data[:4], sys.byteorder)
    return 0


def _checksum(octets: bytes) -> int:
    total: int = sum(struct.unpack(f"!{(len(octets) + 1) // 2}H", octets + b"\0" * (len(octets) % 2)))
    total = (total >> 16) + (total & 0xFFFF)
    return ~(total + (total >> 16)) & 0xFFFF
