"""Packets of a given size that no router may fragment, and what comes back: the way's end, a hop, a complaint, nothing.

Two kinds. A datagram to a port of IKE: an IKEv2 head of a version that nobody has, which a responder answers with
INVALID_MAJOR_VERSION (RFC 7296 2.5) and no state; it goes where the VPN's own packets go, through NAT too, and needs no
privilege. An ICMP echo, for what is inside the tunnel and for gateways. What routers say comes from the socket's error
queue, ip(7) IP_RECVERR, with the router's address.
"""

import errno
import os
import select
import socket
import struct
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from dmvpn.errors import Fault
from dmvpn.linux import icmp
from dmvpn.linux.netlink import Address, address_of

HIGHEST_TTL = 64
_IKE_HEAD = struct.Struct("!8s8sBBBBII")  # SPIs, next payload, version, exchange, flags, message id, length
_NO_VERSION = 0x30  # 3.0
_IKE_SA_INIT, _INITIATOR = 34, 0x08
_NON_ESP_MARKER = bytes(4)  # RFC 3948 2.2
_IP_OCTETS = {4: 20, 6: 40}
_UDP_OCTETS = 8
_ERROR = struct.Struct("=IBBBBII")  # sock_extended_err: errno, origin, type, code, pad, info, data
_ORIGIN_ICMP, _ORIGIN_ICMP6 = 2, 3
_IP_TTL, _IP_MTU_DISCOVER, _IP_RECVERR = 2, 10, 11
_IPV6_UNICAST_HOPS, _IPV6_MTU_DISCOVER, _IPV6_RECVERR = 16, 23, 25
_PROBE = 3  # IP_PMTUDISC_PROBE: DF, and no memory of what a path once carried
_TIME_EXCEEDED = {_ORIGIN_ICMP: 11, _ORIGIN_ICMP6: 3}
_READ_OCTETS = 65536


class Outcome(StrEnum):
    REACHED = "reached"  # the far end answered
    HOP = "hop"  # a router took it and said that its time was up
    TOO_BIG = "too big"  # a router, or our own link, says how much it carries
    REFUSED = "refused"  # somebody says that it does not go there
    SILENCE = "silence"


@dataclass(frozen=True, slots=True)
class Answer:
    """`router` is who said so, None: we ourselves, or nobody; `mtu_octets` with TOO_BIG, 0 where it is not told."""

    outcome: Outcome
    router: Address | None = None
    mtu_octets: int = 0
    reason: str = ""


SILENCE = Answer(Outcome.SILENCE)


@dataclass(frozen=True, slots=True)
class Probe:
    """`octets` is the whole packet with its IP header."""

    octets: int
    ttl: int = HIGHEST_TTL


class Prober(Protocol):
    """Something that can be sent to one destination in any size."""

    @property
    def least_octets(self) -> int: ...

    def send(self, probes: Iterable[Probe], *, timeout_s: float) -> Mapping[Probe, Answer]:
        """All of them at once; each with what came back within that time. Raises Fault if none can be sent at all."""


class _Sockets(ABC):
    """One socket for each probe in flight, so that whatever comes back is known to be about it."""

    def __init__(self, destination: Address, device: str | None, source: Address | None) -> None:
        self._destination = destination
        self._device = device
        self._source = source
        self._v4 = destination.version == 4

    def _open(self, kind: int, protocol: int, ttl: int) -> socket.socket:
        made = socket.socket(socket.AF_INET if self._v4 else socket.AF_INET6, kind | socket.SOCK_CLOEXEC, protocol)
        try:
            made.settimeout(0)
            level = socket.IPPROTO_IP if self._v4 else socket.IPPROTO_IPV6
            made.setsockopt(level, _IP_MTU_DISCOVER if self._v4 else _IPV6_MTU_DISCOVER, _PROBE)
            made.setsockopt(level, _IP_RECVERR if self._v4 else _IPV6_RECVERR, 1)
            made.setsockopt(level, _IP_TTL if self._v4 else _IPV6_UNICAST_HOPS, ttl)
            if self._device is not None:
                made.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, self._device.encode())
            if self._source is not None:
                made.bind((str(self._source), 0))
        except OSError:
            made.close()
            raise
        return made

    @abstractmethod
    def _open_and_send(self, probe: Probe) -> socket.socket | Answer:
        """The socket that its answer will come to, or what the kernel said at once."""

    @abstractmethod
    def _is_answer(self, octets: bytes, probe: Probe) -> bool:
        """Whether what came is the destination's answer to this one."""

    @abstractmethod
    def _is_about(self, octets: bytes, probe: Probe) -> bool:
        """Whether a complaint with this beginning of a packet is about this one."""

    def send(self, probes: Iterable[Probe], *, timeout_s: float) -> Mapping[Probe, Answer]:
        found: dict[Probe, Answer] = {}
        waiting: dict[socket.socket, Probe] = {}
        try:
            for probe in dict.fromkeys(probes):
                sent = self._open_and_send(probe)
                if isinstance(sent, Answer):
                    found[probe] = sent
                else:
                    waiting[sent] = probe
            self._listen(waiting, found, timeout_s)
        finally:
            for opened in waiting:
                opened.close()
        return found

    def _listen(self, waiting: dict[socket.socket, Probe], found: dict[Probe, Answer], timeout_s: float) -> None:
        until = time.monotonic() + timeout_s
        poll = select.poll()
        by_number = {opened.fileno(): opened for opened in waiting}
        for number in by_number:
            poll.register(number, select.POLLIN | select.POLLERR)
        while by_number and (left := until - time.monotonic()) > 0:
            for number, _events in poll.poll(left * 1000):
                opened = by_number[number]
                probe = waiting[opened]
                answer = self._read(opened, probe)
                if answer is not None:
                    found[probe] = answer
                    poll.unregister(number)
                    del by_number[number]
        for opened in by_number.values():
            found[waiting[opened]] = SILENCE

    def _read(self, opened: socket.socket, probe: Probe) -> Answer | None:
        try:
            octets, ancillary, _flags, _source = opened.recvmsg(_READ_OCTETS, 512, socket.MSG_ERRQUEUE)
        except BlockingIOError:
            pass
        except OSError as error:
            return Answer(Outcome.REFUSED, reason=(error.strerror or str(error)).lower())
        else:
            own = address_of(socket.inet_pton(opened.family, opened.getsockname()[0].partition("%")[0]))
            return _complaint(ancillary, own) if self._is_about(octets, probe) else None
        try:
            octets = opened.recv(_READ_OCTETS)
        except BlockingIOError:
            return None
        except OSError:  # told before by the error queue, or comes again there
            return None
        return Answer(Outcome.REACHED, self._destination) if self._is_answer(octets, probe) else None


class IkeProber(_Sockets):
    """Datagrams to a port of IKE. `marked` for the port of NAT traversal, where IKE is told from ESP by four zeros."""

    def __init__(
        self,
        destination: Address,
        port: int,
        *,
        marked: bool,
        device: str | None = None,
        source: Address | None = None,
    ) -> None:
        super().__init__(destination, device, source)
        self._port = port
        self._marker = _NON_ESP_MARKER if marked else b""
        self._spi = os.urandom(8)

    @property
    def least_octets(self) -> int:
        return _IP_OCTETS[self._destination.version] + _UDP_OCTETS + len(self._marker) + _IKE_HEAD.size

    def _open_and_send(self, probe: Probe) -> socket.socket | Answer:
        length = probe.octets - self.least_octets + _IKE_HEAD.size
        head = _IKE_HEAD.pack(self._spi, bytes(8), 0, _NO_VERSION, _IKE_SA_INIT, _INITIATOR, 0, length)
        message = self._marker + head + bytes(length - _IKE_HEAD.size)
        opened = None
        try:
            opened = self._open(socket.SOCK_DGRAM, 0, probe.ttl)
            opened.connect((str(self._destination), self._port))
            opened.send(message)
        except OSError as error:
            return _not_sent(error, opened)
        return opened

    def _is_answer(self, octets: bytes, probe: Probe) -> bool:
        """Whoever heard our SPI answers with it. RFC 7296 2.6."""
        return octets.removeprefix(self._marker)[:8] == self._spi

    def _is_about(self, octets: bytes, probe: Probe) -> bool:
        return True  # each has a port of its own


class EchoProber(_Sockets):
    """ICMP echo requests. Needs CAP_NET_RAW; raises Fault without."""

    def __init__(self, destination: Address, *, device: str | None = None, source: Address | None = None) -> None:
        super().__init__(destination, device, source)
        self._identifier = int.from_bytes(os.urandom(2))
        self._sequences: dict[Probe, int] = {}

    @property
    def least_octets(self) -> int:
        return _IP_OCTETS[self._destination.version] + icmp.HEAD_OCTETS

    def _open_and_send(self, probe: Probe) -> socket.socket | Answer:
        protocol = socket.IPPROTO_ICMP if self._v4 else socket.IPPROTO_ICMPV6
        sequence = self._sequences[probe] = (max(self._sequences.values(), default=0) + 1) & 0xFFFF
        body = bytes(probe.octets - self.least_octets)
        request = icmp.echo_request(self._destination.version, self._identifier, sequence, body)
        opened = None
        try:
            opened = self._open(socket.SOCK_RAW, protocol, probe.ttl)
            opened.connect((str(self._destination), 0))
            opened.send(request)
        except PermissionError as error:
            if opened is None:
                raise Fault("ping", "needs CAP_NET_RAW", "run as root") from error
            return _not_sent(error, opened)
        except OSError as error:
            return _not_sent(error, opened)
        return opened

    def _is_answer(self, octets: bytes, probe: Probe) -> bool:
        if self._v4:
            octets = icmp.without_ip(octets)
        return self._is(icmp.ECHO_REPLY, octets, probe)

    def _is_about(self, octets: bytes, probe: Probe) -> bool:
        """The kernel gives what comes for one address to every raw socket that is connected to it."""
        return self._is(icmp.ECHO_REQUEST, octets, probe)

    def _is(self, kinds: dict[int, int], octets: bytes, probe: Probe) -> bool:
        wanted = kinds[self._destination.version], self._identifier, self._sequences[probe]
        return icmp.echo_in(octets) == wanted


def _not_sent(error: OSError, opened: socket.socket | None) -> Answer:
    """Our own link may be too narrow, or there is no way there at all."""
    if opened is not None:
        opened.close()
    if error.errno == errno.EMSGSIZE:
        return Answer(Outcome.TOO_BIG)
    return Answer(Outcome.REFUSED, reason=(error.strerror or str(error)).lower())


def _complaint(ancillary: list[tuple[int, int, bytes]], own: Address | None) -> Answer | None:
    """One entry of the error queue, with the address of whoever complains behind it; linux/errqueue.h. That a gateway
    answers no ARP our own kernel says, from our `own` address, which is no router of the way.
    """
    for level, kind, data in ancillary:
        if (level, kind) not in ((socket.IPPROTO_IP, _IP_RECVERR), (socket.IPPROTO_IPV6, _IPV6_RECVERR)):
            continue
        number, origin, icmp_type, _code, _pad, info, _data = _ERROR.unpack_from(data)
        offender = _offender(data[_ERROR.size :])
        router = None if offender == own else offender
        if number == errno.EMSGSIZE:
            return Answer(Outcome.TOO_BIG, router, info)
        if icmp_type == _TIME_EXCEEDED.get(origin):
            return Answer(Outcome.HOP, router)
        return Answer(Outcome.REFUSED, router, reason=os.strerror(number).lower())
    return None


def _offender(octets: bytes) -> Address | None:
    """From a sockaddr_in or sockaddr_in6; of family 0 it is nobody."""
    family = int.from_bytes(octets[:2], "little") if len(octets) >= 2 else 0
    if family == socket.AF_INET:
        return address_of(octets[4:8])
    return address_of(octets[8:24]) if family == socket.AF_INET6 else None
