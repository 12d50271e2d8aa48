"""A continuous, numbered UDP stream between two hosts: what arrived, after how long, and over how many routers.

The sender numbers its packets; the other host echoes each with the TTL it saw. Both start with TTL 64, so 64 minus the
TTL seen is the number of routers on the way: two between the hosts of sites that talk directly, three through a hub.
What happened lies as fixed records in a file in memory that the watching process reads while it grows.
"""

import os
import select
import signal
import socket
import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from ipaddress import ip_address
from itertools import pairwise
from statistics import median
from typing import Final

from dmvpn.errors import Fault
from dmvpn.lab.node import LabNode, Running
from dmvpn.linux.pace import patience

PORT: Final = 7007
TTL: Final = 64
_IP_RECVTTL: Final = 12  # linux/in.h; Python 3.11 does not name it
LATEST_REPLY_S: Final = patience(1.0)  # a packet without a reply by then is lost
DIRECT_ROUTERS: Final = 2
_RECORD = struct.Struct("=BxxxIdII")  # kind, sequence, time, routers there, routers back
_SENT, _REPLIED = 1, 2
_QUESTION = struct.Struct("!I")
_ANSWER = struct.Struct("!IB")
_ANCILLARY_OCTETS = 64
_START_LIMIT_S = 5.0


@dataclass(slots=True)
class Packet:
    """One number of the stream. `routers_there` and `routers_back` are counted by TTL."""

    sequence: int
    sent: float
    replied: float | None = None
    routers_there: int = 0
    routers_back: int = 0

    @property
    def direct(self) -> bool:
        return self.replied is not None and max(self.routers_there, self.routers_back) <= DIRECT_ROUTERS

    @property
    def relayed(self) -> bool:
        return self.replied is not None and min(self.routers_there, self.routers_back) > DIRECT_ROUTERS

    @property
    def rtt_s(self) -> float | None:
        return None if self.replied is None else self.replied - self.sent


@dataclass(frozen=True, slots=True)
class Figures:
    """A stretch of the stream. Times in seconds since its first packet was sent; None where there was none."""

    sent: int
    received: int
    lost: tuple[int, ...]
    rtt_ms: float | None
    relayed_rtt_ms: float | None
    direct_rtt_ms: float | None
    first_reply_s: float | None
    first_direct_s: float | None
    longest_gap_s: float
    direct: int
    relayed: int

    @classmethod
    def of(cls, packets: Sequence[Packet]) -> "Figures":
        began = packets[0].sent if packets else 0.0
        replied = [packet for packet in packets if packet.replied is not None]
        direct = [packet for packet in replied if packet.direct]
        relayed = [packet for packet in replied if packet.relayed]
        # Between replied packets' sending times: how long a conversation would have heard nothing.
        times = [began, *(packet.sent for packet in replied), packets[-1].sent if packets else 0.0]
        return cls(
            sent=len(packets),
            received=len(replied),
            lost=tuple(packet.sequence for packet in packets if packet.replied is None),
            rtt_ms=_median_ms(replied),
            relayed_rtt_ms=_median_ms(relayed),
            direct_rtt_ms=_median_ms(direct),
            first_reply_s=_first(replied, began),
            first_direct_s=_first(direct, began),
            longest_gap_s=max((after - before for before, after in pairwise(times)), default=0.0),
            direct=len(direct),
            relayed=len(relayed),
        )


def _median_ms(packets: Sequence[Packet]) -> float | None:
    times = [packet.rtt_s for packet in packets if packet.rtt_s is not None]
    return median(times) * 1e3 if times else None


def _first(packets: Sequence[Packet], began: float) -> float | None:
    return packets[0].replied - began if packets and packets[0].replied is not None else None


@dataclass(slots=True)
class Stream:
    """A running stream as the process that started it sees it. `mark` begins a new stretch for `stretch`."""

    sender: Running
    echo: Running
    records: int
    interval_s: float
    packets: list[Packet] = field(default_factory=list)
    position: int = 0
    marked: int = 0

    def refresh(self) -> None:
        """Reads what was recorded since the last call."""
        octets = os.pread(self.records, 1 << 24, self.position)
        whole = len(octets) - len(octets) % _RECORD.size
        self.position += whole
        for kind, sequence, moment, there, back in _RECORD.iter_unpack(octets[:whole]):
            if kind == _SENT:
                self.packets.append(Packet(sequence, moment))
            elif self.packets[sequence].replied is None:
                packet = self.packets[sequence]
                packet.replied, packet.routers_there, packet.routers_back = moment, there, back

    def mark(self) -> None:
        """The next stretch begins with the next packet."""
        self.refresh()
        self.marked = len(self.packets)

    def stretch(self, until: int | None = None) -> list[Packet]:
        """The packets since the mark, up to number `until`; without it, all that have had time for their reply."""
        self.refresh()
        if until is not None:
            return self.packets[self.marked : until + 1]
        now = time.monotonic()
        return [packet for packet in self.packets[self.marked :] if packet.sent < now - LATEST_REPLY_S]

    def check(self) -> None:
        """Raises Fault if one of its two processes has died."""
        for process in (self.sender, self.echo):
            if (status := process.poll()) is not None:
                raise Fault(process.node, f"the stream there ended with status {status}")

    def stop(self) -> list[Packet]:
        """Ends it when the last packets have had their time; all packets."""
        self.sender.stop(signal_number=signal.SIGTERM, grace_s=LATEST_REPLY_S + 2)
        self.echo.stop()
        self.refresh()
        os.close(self.records)
        return self.packets


def start(source: LabNode, target: LabNode, address: str, *, interval_s: float, octets: int) -> Stream:
    """Starts the echo, then the sender: the first packet of the stream already has somebody to answer it."""
    ready, told = os.pipe()
    records = os.memfd_create("stream")
    echo = target.start_function(partial(_echo, address, told))
    os.close(told)
    with os.fdopen(ready, "rb") as pipe:
        heard = select.select([pipe], [], [], patience(_START_LIMIT_S))[0] and pipe.read(1)
    if not heard:
        echo.stop()
        raise Fault(target.name, f"cannot listen on {address} port {PORT}")
    sender = source.start_function(partial(_send, address, interval_s, octets, records))
    return Stream(sender, echo, records, interval_s)


def _socket_for(address: str) -> socket.socket:
    six = ip_address(address).version == 6
    port = socket.socket(socket.AF_INET6 if six else socket.AF_INET, socket.SOCK_DGRAM)
    if six:
        port.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, TTL)
        port.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVHOPLIMIT, 1)
    else:
        port.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, TTL)
        port.setsockopt(socket.IPPROTO_IP, _IP_RECVTTL, 1)
    return port


def _routers(ancillary: Sequence[tuple[int, int, bytes]]) -> int:
    kinds = ((socket.IPPROTO_IP, socket.IP_TTL), (socket.IPPROTO_IPV6, socket.IPV6_HOPLIMIT))
    seen = [struct.unpack("=i", octets[:4])[0] for level, kind, octets in ancillary if (level, kind) in kinds]
    return TTL - seen[0] if seen else 0


def _echo(address: str, told: int) -> int:
    with _socket_for(address) as port:
        port.bind((address, PORT))
        os.write(told, b"r")
        os.close(told)
        while True:
            octets, ancillary, _, sender = port.recvmsg(9000, _ANCILLARY_OCTETS)
            if len(octets) >= _ANSWER.size:
                (sequence,) = _QUESTION.unpack_from(octets)
                port.sendto(_ANSWER.pack(sequence, _routers(ancillary)) + octets[_ANSWER.size :], sender)


def _send(address: str, interval_s: float, octets: int, records: int) -> int:
    ending: list[float] = []
    signal.signal(signal.SIGTERM, lambda _number, _frame: ending.append(time.monotonic() + LATEST_REPLY_S))
    padding = bytes(max(0, octets - _QUESTION.size))
    sequence, following = 0, time.monotonic()
    with _socket_for(address) as port:
        port.connect((address, PORT))
        while not ending or time.monotonic() < ending[0]:
            now = time.monotonic()
            if not ending and now >= following:
                os.write(records, _RECORD.pack(_SENT, sequence, now, 0, 0))
                _try_to_send(port, _QUESTION.pack(sequence) + padding)
                sequence, following = sequence + 1, following + interval_s
            wait_s = 0.05 if ending else max(0.0, following - time.monotonic())
            if select.select([port], [], [], wait_s)[0]:
                _record_reply(port, records)
    return 0


def _try_to_send(port: socket.socket, octets: bytes) -> None:
    try:
        port.send(octets)
    except OSError:
        return  # no route, or an ICMP error of an earlier packet: this one counts as lost


def _record_reply(port: socket.socket, records: int) -> None:
    try:
        octets, ancillary, _, _ = port.recvmsg(9000, _ANCILLARY_OCTETS)
    except OSError:
        return  # an ICMP error, which select announces like a packet
    sequence, there = _ANSWER.unpack_from(octets)
    os.write(records, _RECORD.pack(_REPLIED, sequence, time.monotonic(), there, _routers(ancillary)))
