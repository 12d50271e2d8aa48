"""Netlink on a plain non-blocking or short-blocking socket. netlink(7), rtnetlink(7), linux/netlink.h.

pyroute2 drives a private event loop behind every call and refuses to do so inside a running one, so what dmvpnd calls
from its own loop is written here, as small as it can be; programs without a loop (netstate) use pyroute2.
"""

import errno
import os
import socket
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Self

from dmvpn.errors import Fault

Address = IPv4Address | IPv6Address

NETLINK_ROUTE = 0
NETLINK_XFRM = 6
NETLINK_NETFILTER = 12
NLM_F_REQUEST = 0x1
NLM_F_ACK = 0x4
NLM_F_REPLACE = 0x100
NLM_F_DUMP = 0x300
NLM_F_EXCL = 0x200
NLM_F_CREATE = 0x400
NLM_F_DUMP_INTR = 0x10
NLM_F_CAPPED = 0x100
NLM_F_ACK_TLVS = 0x200
NLMSG_ERROR = 2
NLMSG_DONE = 3

_SOL_NETLINK = 270
_NETLINK_ADD_MEMBERSHIP = 1
_NETLINK_CAP_ACK = 10
_NETLINK_EXT_ACK = 11
_NETLINK_GET_STRICT_CHK = 12
_NLMSGERR_ATTR_MSG = 1
_NLA_TYPE_MASK = 0x3FFF
_SO_RCVBUFFORCE = 33
_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
_ERROR = struct.Struct("=i")
_READ_OCTETS = 1 << 17  # the kernel fills at most 32 KiB for a dump, and a link message with many VFs goes beyond that
_REPLY_LIMIT_S = 5.0  # the kernel answers while we are in send(); this only guards against waiting for ever
_DUMP_ATTEMPTS = 4
_NOT_THERE = (errno.ESRCH, errno.ENOENT, errno.ENODEV, errno.EADDRNOTAVAIL)
_SEQUENCE_MASK = 0xFFFFFFFF


class NetlinkRefusal(Fault):
    """The kernel refused a request. `errno` is its reason, `what` its own words where it gives some."""

    def __init__(self, where: str, number: int, text: str) -> None:
        self.errno = number
        super().__init__(where, text or os.strerror(number), _FIXES.get(number, ""))


_FIXES = {
    errno.EPERM: "run as root or with CAP_NET_ADMIN",
    errno.EOPNOTSUPP: "this kernel lacks the feature",
}


@dataclass(frozen=True, slots=True)
class Message:
    """One netlink message without its header. `flags` are the header's."""

    kind: int
    flags: int
    sequence: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class Request:
    """One request of a batch. `where` says what a refusal of it names; nearly always nobody asks."""

    where: Callable[[], str]
    kind: int
    flags: int
    payload: bytes


def attribute(kind: int, value: bytes) -> bytes:
    """One attribute, padded to four octets. RFC 3549 2.3.3, linux/netlink.h struct nlattr."""
    return _ATTRIBUTE.pack(len(value) + 4, kind) + value + b"\0" * (-len(value) % 4)


def attributes(octets: bytes, offset: int = 0) -> dict[int, bytes]:
    """The attributes from `offset` on, by type without its flag bits; of a repeated type the last one counts."""
    found: dict[int, bytes] = {}
    end = len(octets)
    while offset + 4 <= end:
        length, kind = _ATTRIBUTE.unpack_from(octets, offset)
        if length < 4 or offset + length > end:
            break
        found[kind & _NLA_TYPE_MASK] = octets[offset + 4 : offset + length]
        offset += (length + 3) & ~3
    return found


def messages(datagram: bytes) -> Iterator[Message]:
    """The messages of one datagram; one cut short ends it."""
    offset = 0
    while offset + 16 <= len(datagram):
        length, kind, flags, sequence, _port = _HEADER.unpack_from(datagram, offset)
        if length < 16 or offset + length > len(datagram):
            return
        yield Message(kind, flags, sequence, datagram[offset + 16 : offset + length])
        offset += (length + 3) & ~3


def address_of(octets: bytes) -> Address | None:
    """An address by its length, None for any other length."""
    match len(octets):
        case 4:
            return IPv4Address(octets)
        case 16:
            return IPv6Address(octets)
        case _:
            return None


def family_of(address_version: int) -> int:
    return socket.AF_INET if address_version == 4 else socket.AF_INET6


def device_index(device: str) -> int:
    """The ifindex of a device of this network namespace. Raises Fault naming the device."""
    try:
        return socket.if_nametoindex(device)
    except OSError as error:
        raise Fault(device, "there is no such network device here") from error


def device_name(index: int) -> str | None:
    try:
        return socket.if_indextoname(index)
    except OSError:
        return None


class Requests:
    """Requests to one netlink family, each answered before the call returns. Not for several threads."""

    def __init__(self, sock: socket.socket | None = None) -> None:
        """`sock`: a netlink socket to borrow, set to blocking; without it one of NETLINK_ROUTE is opened."""
        if sock is None:
            sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_ROUTE)
            sock.bind((0, 0))
        self._socket = sock
        self._socket.settimeout(_REPLY_LIMIT_S)
        for option in (_NETLINK_CAP_ACK, _NETLINK_EXT_ACK, _NETLINK_GET_STRICT_CHK):
            self._socket.setsockopt(_SOL_NETLINK, option, 1)
        self._sequence = 0

    def close(self) -> None:
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def ask(self, where: str, kind: int, flags: int, payload: bytes) -> None:
        """Send one request and wait for its acknowledgement. Raises NetlinkRefusal; Fault if no answer can be had."""
        sequence = self._send(where, kind, NLM_F_REQUEST | NLM_F_ACK | flags, payload)
        while True:
            for message in self._receive(where):
                if message.sequence == sequence and message.kind == NLMSG_ERROR:
                    _raise_error(where, message)
                    return

    def take(self, where: str, kind: int, payload: bytes) -> None:
        """Ask for something to be deleted; that it is not there (any more) is no fault. Raises as `ask` does."""
        try:
            self.ask(where, kind, 0, payload)
        except NetlinkRefusal as refusal:
            if refusal.errno not in _NOT_THERE:
                raise

    def ask_all(self, where: str, requests: Sequence[Request]) -> dict[int, NetlinkRefusal]:
        """Requests in one datagram: done in their order, each whatever became of those before; refusals by place.

        As many as a datagram takes: 200 KiB. Raises Fault if no answer can be had, and then any of them may be done.
        """
        if not requests:
            return {}
        first, last = self._sequence + 1, len(requests) - 1
        # Refusals are told in any case; the last one's acknowledgement says that there are no more to come.
        rows = [
            (one.kind, NLM_F_REQUEST | one.flags | (NLM_F_ACK if place == last else 0), one.payload)
            for place, one in enumerate(requests)
        ]
        self._send_rows(where, rows)
        refused: dict[int, NetlinkRefusal] = {}
        while True:
            for message in self._receive(where):
                place = (message.sequence - first) & _SEQUENCE_MASK
                if place > last or message.kind != NLMSG_ERROR:
                    continue
                try:
                    _raise_error(requests[place].where(), message)
                except NetlinkRefusal as refusal:
                    refused[place] = refusal
                if place == last:
                    return refused

    def fetch(self, where: str, kind: int, payload: bytes) -> Message:
        """Ask for one object. Raises as `ask` does."""
        sequence = self._send(where, kind, NLM_F_REQUEST, payload)
        while True:
            for message in self._receive(where):
                if message.sequence != sequence:
                    continue
                if message.kind == NLMSG_ERROR:
                    _raise_error(where, message)
                return message

    def dump(self, where: str, kind: int, payload: bytes) -> list[Message]:
        """All objects of a kind; repeated when the kernel says that they changed under the walk. Raises as `ask`."""
        for _attempt in range(_DUMP_ATTEMPTS):
            found, interrupted = self._dump_once(where, kind, payload)
            if not interrupted:
                break
        return found

    def _dump_once(self, where: str, kind: int, payload: bytes) -> tuple[list[Message], bool]:
        sequence = self._send(where, kind, NLM_F_REQUEST | NLM_F_DUMP, payload)
        found: list[Message] = []
        interrupted = False
        while True:
            for message in self._receive(where):
                if message.sequence != sequence:
                    continue
                interrupted = interrupted or bool(message.flags & NLM_F_DUMP_INTR)
                if message.kind == NLMSG_DONE:
                    return found, interrupted
                if message.kind == NLMSG_ERROR:
                    _raise_error(where, message)
                found.append(message)

    def _send(self, where: str, kind: int, flags: int, payload: bytes) -> int:
        self._send_rows(where, ((kind, flags, payload),))
        return self._sequence

    def _send_rows(self, where: str, rows: Iterable[tuple[int, int, bytes]]) -> None:
        """Kind, flags and payload of each; payloads are whole attributes, so what follows stays aligned."""
        parts = []
        for kind, flags, payload in rows:
            self._sequence = (self._sequence + 1) & _SEQUENCE_MASK
            parts.append(_HEADER.pack(16 + len(payload), kind, flags, self._sequence, 0) + payload)
        try:
            self._socket.send(b"".join(parts))
        except OSError as error:
            raise Fault(where, f"the kernel cannot be asked: {error.strerror or error}") from error

    def _receive(self, where: str) -> Iterator[Message]:
        try:
            return messages(self._socket.recv(_READ_OCTETS))
        except TimeoutError as error:
            raise Fault(where, f"the kernel did not answer within {_REPLY_LIMIT_S:.0f} s") from error
        except OSError as error:  # ENOBUFS: its answer found no room, and does not come again
            raise Fault(where, f"the kernel's answer is lost: {error.strerror or error}") from error


class Events:
    """A subscription to multicast groups. For loop.add_reader(): fileno() and a read that never blocks."""

    def __init__(self, groups: tuple[int, ...], family: int = NETLINK_ROUTE, buffer_octets: int = 1 << 21) -> None:
        self._socket = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, family
        )
        enlarge_buffer(self._socket, buffer_octets)
        self._socket.bind((0, 0))
        for group in groups:
            self._socket.setsockopt(_SOL_NETLINK, _NETLINK_ADD_MEMBERSHIP, group)

    @property
    def socket(self) -> socket.socket:
        return self._socket

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()

    def read(self) -> tuple[list[Message], bool]:
        """What is waiting, and whether the kernel had to drop some before it (ENOBUFS). At most 64 datagrams a call."""
        found: list[Message] = []
        overflow = False
        for _datagram in range(64):  # so that a flood leaves the loop its turn; epoll is level-triggered
            try:
                datagram = self._socket.recv(_READ_OCTETS)
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                overflow = True
                continue
            found.extend(messages(datagram))
        return found, overflow


def enlarge_buffer(sock: socket.socket, octets: int) -> None:
    """A larger receive buffer, beyond net.core.rmem_max where we are allowed to."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, octets)
    except PermissionError:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, octets)


def _raise_error(where: str, message: Message) -> None:
    """NLMSG_ERROR with a number other than 0 is a refusal. With NETLINK_EXT_ACK words may follow."""
    (number,) = _ERROR.unpack_from(message.payload)
    if number == 0:
        return
    text = ""
    if message.flags & NLM_F_ACK_TLVS:
        (length,) = struct.unpack_from("=I", message.payload, 4)
        start = 20 if message.flags & NLM_F_CAPPED else 4 + ((length + 3) & ~3)
        raw = attributes(message.payload, start).get(_NLMSGERR_ATTR_MSG, b"")
        text = raw.rstrip(b"\0").decode(errors="replace").rstrip(".")
    raise NetlinkRefusal(where, -number, text)
