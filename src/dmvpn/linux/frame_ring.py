"""Whole frames in batches between packet sockets, never touched by Python. packet(7), recvmmsg(2), sendmmsg(2).

A ring of slots in one piece of memory; the kernel's own message headers lie beside it, prepared once. A frame is
received into a slot and sent from the same slot later, so a batch costs two system calls and a few operations, whatever
its size.
"""

import ctypes
import errno
import fcntl
import mmap
import os
import socket
import struct
from array import array
from collections.abc import Iterable
from typing import Final

from dmvpn.errors import Fault

ETH_P_ALL: Final = 0x0003
SOL_PACKET: Final = 263
PACKET_STATISTICS: Final = 6
PACKET_QDISC_BYPASS: Final = 20
PACKET_IGNORE_OUTGOING: Final = 23
SO_RCVBUFFORCE: Final = 33
SO_SNDBUFFORCE: Final = 32
_SOCKET_BUFFER_OCTETS: Final = 8 << 20
_SIOCETHTOOL: Final = 0x8946
# linux/ethtool.h: ETHTOOL_STXCSUM, SSG, STSO, SGSO, SGRO. What a device would leave to hardware that is not there.
_OFFLOADS: Final = (0x17, 0x19, 0x1F, 0x24, 0x2C)

_WORDS_PER_MESSAGE: Final = 8  # struct mmsghdr on a 64-bit machine, in words of 8 octets
_IOVEC_POINTER_WORD: Final = 2
_IOVEC_COUNT_WORD: Final = 3
_LENGTH_WORD: Final = 7
_MESSAGE_OCTETS: Final = 64
FRAME_OVERHEAD_OCTETS: Final = 18  # Ethernet header and one VLAN tag

_libc = ctypes.CDLL(None, use_errno=True)
_MMSG_ARGUMENTS: Final = (ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int)
_libc.recvmmsg.argtypes = (*_MMSG_ARGUMENTS, ctypes.c_void_p)
_libc.sendmmsg.argtypes = _MMSG_ARGUMENTS


class FrameRing:
    """`slots` frames of at most `frame_octets`; the caller keeps account of which slots are in use."""

    def __init__(self, slots: int, frame_octets: int) -> None:
        if ctypes.sizeof(ctypes.c_void_p) != 8:
            raise Fault("relay", "needs a 64-bit machine", "use a kernel with netem")
        self.slots = slots
        size = -(-frame_octets // 64) * 64
        self._memory = mmap.mmap(-1, slots * size)
        base = ctypes.addressof(ctypes.c_char.from_buffer(self._memory))
        self._keep: list[object] = []
        self._receive_at, received, _ = self._messages(base, size)
        self._send_at, _, self._send_vectors = self._messages(base, size)
        self.lengths = received[_LENGTH_WORD::_WORDS_PER_MESSAGE]

    def _messages(self, base: int, size: int) -> tuple[int, memoryview, memoryview]:
        headers = (ctypes.c_uint64 * (self.slots * _WORDS_PER_MESSAGE))()
        vectors = (ctypes.c_uint64 * (self.slots * 2))()
        self._keep += [headers, vectors]
        at_vectors = ctypes.addressof(vectors)
        header_words, vector_words = (memoryview(block).cast("B").cast("Q") for block in (headers, vectors))
        vector_words[0::2] = _words(range(base, base + self.slots * size, size))
        vector_words[1::2] = _words([size] * self.slots)
        header_words[_IOVEC_POINTER_WORD::_WORDS_PER_MESSAGE] = _words(
            range(at_vectors, at_vectors + 16 * self.slots, 16)
        )
        header_words[_IOVEC_COUNT_WORD::_WORDS_PER_MESSAGE] = _words([1] * self.slots)
        return ctypes.addressof(headers), header_words, vector_words

    def receive(self, descriptor: int, first: int, most: int) -> int:
        """Fills slots from `first` on with what waits at the socket; how many frames. Never blocks."""
        count = _libc.recvmmsg(descriptor, self._receive_at + first * _MESSAGE_OCTETS, most, socket.MSG_DONTWAIT, None)
        if count <= 0:
            return _nothing(count)
        lengths = self.lengths[first : first + count]
        self._send_vectors[2 * first + 1 : 2 * (first + count) : 2] = lengths
        return int(count)

    def send(self, descriptor: int, first: int, count: int) -> int:
        """Sends slots `first` to `first + count - 1`; how many the device took. Never blocks."""
        sent = _libc.sendmmsg(descriptor, self._send_at + first * _MESSAGE_OCTETS, count, socket.MSG_DONTWAIT)
        return int(sent) if sent > 0 else _nothing(sent)


def open_device(device: str) -> socket.socket:
    """A packet socket that gets every frame that arrives at the device, and none that we send. Raises Fault."""
    try:
        port = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 0)
        port.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
        port.setsockopt(SOL_PACKET, PACKET_QDISC_BYPASS, 1)
        port.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, _SOCKET_BUFFER_OCTETS)
        port.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, _SOCKET_BUFFER_OCTETS)
        port.bind((device, ETH_P_ALL))
    except OSError as refusal:
        raise Fault(device, f"cannot be read: {refusal.strerror}", "the relay needs CAP_NET_RAW") from refusal
    return port


def overflowed(port: socket.socket) -> int:
    """Frames the kernel dropped at this socket since the last call, because nobody read in time."""
    _, dropped = struct.unpack("II", port.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8))
    return int(dropped)


def turn_offloads_off(device: str) -> None:
    """The device then hands on frames as they would be on a wire: whole checksums, no larger than its MTU."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        for command in _OFFLOADS:
            value = ctypes.create_string_buffer(struct.pack("II", command, 0))
            request = struct.pack("16sQ", device.encode(), ctypes.addressof(value))
            try:
                fcntl.ioctl(any_socket, _SIOCETHTOOL, request)
            except OSError as refusal:
                if refusal.errno != errno.EOPNOTSUPP:
                    raise Fault(device, f"its offloads cannot be set: {refusal.strerror}") from refusal


def _words(values: Iterable[int]) -> memoryview:
    return memoryview(array("Q", values))


def _nothing(result: int) -> int:
    """No frame moved: fine when there was none or no room; the caller sees a device that is down or gone as 0."""
    if result < 0 and (number := ctypes.get_errno()) not in _EXPECTED:
        raise Fault("relay", os.strerror(number))
    return 0


_EXPECTED: Final = frozenset(
    {errno.EAGAIN, errno.EINTR, errno.ENOBUFS, errno.ENETDOWN, errno.ENXIO, errno.ENODEV, errno.EMSGSIZE}
)
