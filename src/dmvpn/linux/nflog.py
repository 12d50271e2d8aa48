"""Packets that the rule set logs to a group: linux/netfilter/nfnetlink_log.h. A hub learns of hairpins so."""

import socket
import struct
from dataclasses import dataclass

from dmvpn.linux.neighbours import nbma_of_link
from dmvpn.linux.netlink import (
    NETLINK_NETFILTER,
    Address,
    Events,
    Requests,
    attribute,
    attributes,
    device_name,
)

_ULOG_PACKET = 4 << 8
_ULOG_CONFIG = 4 << 8 | 1
_CFG_COMMAND = 1
_CFG_MODE = 2
_CFG_THRESHOLD = 5
_COMMAND_BIND = 1
_COPY_PACKET = 2
_INDEV = 4
_HWADDR = 8
_PAYLOAD = 9
_NFGENMSG = struct.Struct("!BBH")  # family, version, group


@dataclass(frozen=True, slots=True)
class LoggedPacket:
    """`head` starts at the IP header and is cut to the copy range. `sender` is None when the MAC spells no address."""

    head: bytes
    hardware: bytes
    sender: Address | None
    device: str
    index: int


class LoggedPackets:
    """The packets of one group. For loop.add_reader(). `overflows` counts the times the kernel had to drop some."""

    def __init__(self, group: int, copy_octets: int = 128) -> None:
        self._events = Events((), NETLINK_NETFILTER, buffer_octets=1 << 19)
        self._group = group
        self.overflows = 0
        self.malformed = 0
        try:
            self._configure(copy_octets)
        except BaseException:
            self._events.close()
            raise

    def fileno(self) -> int:
        return self._events.fileno()

    def close(self) -> None:
        self._events.close()

    def read(self) -> tuple[LoggedPacket, ...]:
        """The packets that wait. Never blocks."""
        found, overflow = self._events.read()
        self.overflows += overflow
        packets = []
        for message in found:
            if message.kind != _ULOG_PACKET:
                continue
            packet = decode(message.payload)
            if packet is None:
                self.malformed += 1
            else:
                packets.append(packet)
        return tuple(packets)

    def _configure(self, copy_octets: int) -> None:
        # A group belongs to the socket that binds it, so the requests go over the socket that listens.
        where = f"NFLOG group {self._group}"
        requests = Requests(self._events.socket)
        header = _NFGENMSG.pack(socket.AF_UNSPEC, 0, self._group)
        mode = struct.pack("!IBB", copy_octets, _COPY_PACKET, 0)
        for body in (
            attribute(_CFG_COMMAND, bytes((_COMMAND_BIND,))),
            # Threshold 1: hand over each packet at once, an indication is late after a timeout's wait.
            attribute(_CFG_MODE, mode) + attribute(_CFG_THRESHOLD, struct.pack("!I", 1)),
        ):
            requests.ask(where, _ULOG_CONFIG, 0, header + body)
        self._events.socket.settimeout(0)  # it was set to block for the answers


def decode(payload: bytes) -> LoggedPacket | None:
    """One NFULNL_MSG_PACKET without its netlink header; None when it has no packet in it."""
    values = attributes(payload, _NFGENMSG.size)
    head = values.get(_PAYLOAD, b"")
    if not head:
        return None
    index = int.from_bytes(values.get(_INDEV, b""), "big")
    raw = values.get(_HWADDR, b"")
    length = int.from_bytes(raw[:2], "big") if len(raw) >= 4 else 0
    hardware = raw[4 : 4 + length]
    return LoggedPacket(head, hardware, nbma_of_link(hardware), device_name(index) or "", index)
