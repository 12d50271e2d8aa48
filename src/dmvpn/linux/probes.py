"""Probes of an uplink: ICMP echoes and TCP connections that leave by its device, from its address, with its mark.

Nothing here waits: answers are read when the loop says so. RFC 792, RFC 4443, RFC 9293.
"""

import asyncio
import contextlib
import errno
import os
import socket
import struct
import sys
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address

from dmvpn.linux import icmp

Address = IPv4Address | IPv6Address

_SO_MARK = 36
_SO_BINDTODEVICE = 25
_BODY = b"OpenDMVPN uplink" + bytes(32)
_SOL_RAW = 255
_ICMP_FILTER = 1
_ICMP6_FILTER = 1
_READ_OCTETS = 2048
_READS = 64
CALLS_LIMIT = 128  # connections under way: many targets and a long timeout must not take all descriptors
_LINGER_NOT = struct.pack("ii", 1, 0)  # close with a reset: nothing of a probe stays


class Probes:
    """The sockets of one uplink. `on_answer` is called with the number of each probe that was answered.

    `device`, `sources` and `mark` say how they leave; `open` again after an address changed, and `close` before that if
    the device did. What the kernel refuses to send is a probe without an answer.
    """

    def __init__(self, device: str, mark: int, on_answer: Callable[[int], None]) -> None:
        self._device = device.encode() + b"\0"
        self._mark = mark
        self._on_answer = on_answer
        self._loop = asyncio.get_running_loop()
        # Process ids are alike in the namespaces of a machine, and an identifier has 16 bits only.
        self._identifier = int.from_bytes(os.urandom(2), sys.byteorder)
        self._echoes: dict[int, socket.socket] = {}
        self._calls: dict[int, tuple[socket.socket, asyncio.TimerHandle]] = {}
        self._asked: dict[int, Address] = {}
        self._sources: dict[int, Address] = {}

    def open(self, sources: dict[int, Address]) -> None:
        """From these addresses, by family; a family without one is not asked. One whose address stays goes on."""
        for version in [version for version, source in self._sources.items() if sources.get(version) != source]:
            self._close_echo(version)
        self._sources = dict(sources)
        for version, source in sources.items():
            if version not in self._echoes:
                with contextlib.suppress(OSError):
                    self._open_echo(version, source)

    def close(self) -> None:
        for version in list(self._echoes):
            self._close_echo(version)
        for sequence in list(self._calls):
            self._hang_up(sequence)
        self._asked.clear()

    def _close_echo(self, version: int) -> None:
        sock = self._echoes.pop(version, None)
        if sock is not None:
            self._loop.remove_reader(sock.fileno())
            sock.close()

    def ask(self, sequence: int, address: Address, port: int | None, timeout_s: float) -> None:
        """Send one probe; `sequence` has 16 bits."""
        if port is None:
            self._echo(sequence, address)
        else:
            self._call(sequence, address, port, timeout_s)

    # ------------------------------------------------------------ ICMP

    def _open_echo(self, version: int, source: Address) -> None:
        family, protocol = (
            (socket.AF_INET, socket.IPPROTO_ICMP) if version == 4 else (socket.AF_INET6, socket.IPPROTO_ICMPV6)
        )
        sock = socket.socket(family, socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, protocol)
        try:
            # First: without it every ping from the Internet and every neighbour solicitation would wake us. raw(7) of
            # old, RFC 3542 3.2: a bit that is set blocks.
            passing = [0xFFFFFFFF] * (1 if version == 4 else 8)
            passing[icmp.ECHO_REPLY[version] >> 5] &= ~(1 << (icmp.ECHO_REPLY[version] & 31))
            level, option = (_SOL_RAW, _ICMP_FILTER) if version == 4 else (socket.IPPROTO_ICMPV6, _ICMP6_FILTER)
            sock.setsockopt(level, option, struct.pack(f"={len(passing)}I", *passing))
            self._bind(sock, source)
        except OSError:
            sock.close()
            raise
        self._echoes[version] = sock
        self._loop.add_reader(sock.fileno(), self._heard, version, sock)

    def _bind(self, sock: socket.socket, source: Address) -> None:
        sock.setsockopt(socket.SOL_SOCKET, _SO_BINDTODEVICE, self._device)
        sock.setsockopt(socket.SOL_SOCKET, _SO_MARK, self._mark)
        sock.bind((str(source), 0))

    def _echo(self, sequence: int, address: Address) -> None:
        source = self._sources.get(address.version)
        if address.version not in self._echoes and source is not None:
            with contextlib.suppress(OSError):  # what failed when it was opened may work by now
                self._open_echo(address.version, source)
        sock = self._echoes.get(address.version)
        if sock is None:
            return
        request = icmp.echo_request(address.version, self._identifier, sequence, _BODY)
        self._asked[sequence] = address
        with contextlib.suppress(OSError):
            sock.sendto(request, (str(address), 0))

    def _heard(self, version: int, sock: socket.socket) -> None:
        for _ in range(_READS):
            try:
                octets, source = sock.recvfrom(_READ_OCTETS)
            except OSError:  # nothing more, or the device has gone
                return
            if version == 4:
                octets = icmp.without_ip(octets)
            kind, identifier, sequence = icmp.echo_in(octets) or (-1, -1, -1)
            asked = self._asked.get(sequence)
            if kind != icmp.ECHO_REPLY[version] or identifier != self._identifier or asked is None:
                continue
            if source[0].partition("%")[0] == str(asked):
                del self._asked[sequence]
                self._on_answer(sequence)

    # ------------------------------------------------------------ TCP

    def _call(self, sequence: int, address: Address, port: int, timeout_s: float) -> None:
        source = self._sources.get(address.version)
        if source is None:
            return
        self._hang_up(sequence)
        if len(self._calls) >= CALLS_LIMIT:
            self._hang_up(next(iter(self._calls)))  # the one that has waited longest
        family = socket.AF_INET if address.version == 4 else socket.AF_INET6
        try:
            sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        except OSError:
            return
        try:
            self._bind(sock, source)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
            failure = sock.connect_ex((str(address), port))
        except OSError:
            sock.close()
            return
        if failure not in (0, errno.EINPROGRESS):
            sock.close()
            return
        self._loop.add_writer(sock.fileno(), self._connected, sequence, sock)
        self._calls[sequence] = (sock, self._loop.call_later(timeout_s, self._hang_up, sequence))

    def _connected(self, sequence: int, sock: socket.socket) -> None:
        failure = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        self._hang_up(sequence)
        if failure == 0:  # a refusal may be a firewall's on this side of the ISP
            self._on_answer(sequence)

    def _hang_up(self, sequence: int) -> None:
        sock, timer = self._calls.pop(sequence, (None, None))
        if sock is not None and timer is not None:
            timer.cancel()
            self._loop.remove_writer(sock.fileno())
            sock.close()
