"""ICMP echo with the TTL of each answer: how `dmvpn ping` sees which way an answer came. RFC 792, RFC 4443."""

import os
import select
import socket
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

from dmvpn.errors import Fault
from dmvpn.linux import icmp
from dmvpn.linux.netlink import Address

_BODY = b"OpenDMVPN" + bytes(39)
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
        request = icmp.echo_request(self._destination.version, self._identifier, sequence & 0xFFFF, _BODY)
        self._sent[sequence & 0xFFFF] = time.monotonic()
        try:
            self._socket.sendto(request, (str(self._destination), 0))
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
        if source[0].partition("%")[0] != str(self._destination):
            return None
        if self._destination.version == 4:
            octets = icmp.without_ip(octets)
        kind, identifier, sequence = icmp.echo_in(octets) or (-1, -1, -1)
        wanted = icmp.ECHO_REPLY[self._destination.version], self._identifier
        if (kind, identifier) != wanted or sequence not in self._sent:
            return None
        return Echo(sequence, now - self._sent.pop(sequence), _ttl(ancillary))


def _ttl(ancillary: list[tuple[int, int, bytes]]) -> int:
    for level, kind, data in ancillary:
        if (level, kind) in ((socket.SOL_IP, socket.IP_TTL), (socket.IPPROTO_IPV6, socket.IPV6_HOPLIMIT)):
            return int.from_bytes(data[:4], sys.byteorder)
    return 0
