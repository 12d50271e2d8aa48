"""Many datagrams in one system call: recvmmsg(2) and sendmmsg(2) with buffers made once.

CPython has neither call. Both batches keep their headers, buffers and addresses for as long as they live, so a call
costs one ctypes call however many datagrams move. Layouts: recvmmsg(2), msghdr in <bits/socket.h>, cmsg(3), ip(7),
packet(7).
"""

import ctypes
import errno
import socket
from array import array
from typing import Final

# Not a multiple of 4096: the heads of all slots would fall into the same lines of the first-level cache.
SLOT_OCTETS: Final = 9280
SLOTS: Final = 64
_LINK_OCTETS: Final = 20  # makes sockaddr_ll 32 octets; the longest address has 16


class _Iovec(ctypes.Structure):
    _fields_ = (("iov_base", ctypes.c_void_p), ("iov_len", ctypes.c_size_t))


class _Msghdr(ctypes.Structure):
    _fields_ = (
        ("msg_name", ctypes.c_void_p),
        ("msg_namelen", ctypes.c_uint32),
        ("msg_iov", ctypes.c_void_p),
        ("msg_iovlen", ctypes.c_size_t),
        ("msg_control", ctypes.c_void_p),
        ("msg_controllen", ctypes.c_size_t),
        ("msg_flags", ctypes.c_int),
    )


class _Mmsghdr(ctypes.Structure):
    _fields_ = (("msg_hdr", _Msghdr), ("msg_len", ctypes.c_uint32))


class _IntegerControl(ctypes.Structure):
    """One control message with an int: cmsghdr, the int, and the padding of CMSG_SPACE."""

    _fields_ = (
        ("cmsg_len", ctypes.c_size_t),
        ("cmsg_level", ctypes.c_int),
        ("cmsg_type", ctypes.c_int),
        ("value", ctypes.c_int),
        ("padding", ctypes.c_int),
    )


class _Control(ctypes.Structure):
    _fields_ = (("ttl", _IntegerControl), ("tos", _IntegerControl))


class _SockaddrIn(ctypes.Structure):
    _fields_ = (
        ("sin_family", ctypes.c_uint16),
        ("sin_port", ctypes.c_uint16),
        ("sin_addr", ctypes.c_uint32),
        ("sin_zero", ctypes.c_uint64),
    )


class _SockaddrLl(ctypes.Structure):
    """sockaddr_ll with room for the longest link-layer address there is, an IPv6 one on ip6gre."""

    _fields_ = (
        ("sll_family", ctypes.c_uint16),
        ("sll_protocol", ctypes.c_uint16),
        ("sll_ifindex", ctypes.c_int32),
        ("sll_hatype", ctypes.c_uint16),
        ("sll_pkttype", ctypes.c_uint8),
        ("sll_halen", ctypes.c_uint8),
        ("sll_addr", ctypes.c_ubyte * _LINK_OCTETS),
    )


_libc = ctypes.CDLL(None, use_errno=True)
_recvmmsg = _libc.recvmmsg
_recvmmsg.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int, ctypes.c_void_p)
_sendmmsg = _libc.sendmmsg
_sendmmsg.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int)


class _Batch:
    """What both directions share: one buffer cut into slots, one header and one iovec for each."""

    def __init__(self, slots: int) -> None:
        self._buffer = (ctypes.c_ubyte * (slots * SLOT_OCTETS))()
        self._base = ctypes.addressof(self._buffer)
        self._iovecs = (_Iovec * slots)()
        self._headers = (_Mmsghdr * slots)()
        self._headers_at = ctypes.addressof(self._headers)
        view = memoryview(self._buffer).cast("B")
        #: One writable view for each slot.
        self.slots: Final = tuple(view[at : at + SLOT_OCTETS] for at in range(0, slots * SLOT_OCTETS, SLOT_OCTETS))
        for index in range(slots):
            self._iovecs[index].iov_base = self._base + index * SLOT_OCTETS
            self._iovecs[index].iov_len = SLOT_OCTETS
            header = self._headers[index].msg_hdr
            header.msg_iov = ctypes.addressof(self._iovecs) + index * ctypes.sizeof(_Iovec)
            header.msg_iovlen = 1


class ReceiveBatch(_Batch):
    """Datagrams as they arrive. A length of SLOT_OCTETS means that the datagram did not fit and was cut."""

    def __init__(self, slots: int = SLOTS) -> None:
        super().__init__(slots)
        words = memoryview(self._headers).cast("B").cast("I")
        self._lengths = words[_Mmsghdr.msg_len.offset // 4 :: ctypes.sizeof(_Mmsghdr) // 4]

    def receive(self, descriptor: int) -> list[int]:
        """Lengths of the datagrams that were waiting, in the order of `slots`; empty if there were none.

        Raises OSError.
        """
        count = _recvmmsg(descriptor, self._headers_at, len(self.slots), socket.MSG_DONTWAIT, None)
        if count < 0:
            number = ctypes.get_errno()
            if number in (errno.EAGAIN, errno.EINTR):
                return []
            raise OSError(number, errno.errorcode.get(number, "unknown"))
        lengths: list[int] = self._lengths[:count].tolist()
        return lengths


class LinkReceiveBatch(ReceiveBatch):
    """Datagrams of a packet socket, each with who sent it."""

    def __init__(self, slots: int = SLOTS) -> None:
        super().__init__(slots)
        self._names = (_SockaddrLl * slots)()
        for index in range(slots):
            header = self._headers[index].msg_hdr
            header.msg_name = ctypes.addressof(self._names) + index * ctypes.sizeof(_SockaddrLl)
        self._name_octets = memoryview(self._names).cast("B")
        words = memoryview(self._headers).cast("B").cast("I")
        self._name_lengths = words[_Msghdr.msg_namelen.offset // 4 :: ctypes.sizeof(_Mmsghdr) // 4]
        self._whole = memoryview(array("I", [ctypes.sizeof(_SockaddrLl)] * slots))

    def receive(self, descriptor: int) -> list[int]:
        self._name_lengths[:] = self._whole  # the kernel wrote over it the last time
        return super().receive(descriptor)

    def sender(self, index: int) -> tuple[int, bytes]:
        """The packet type (PACKET_HOST and so on) and the link-layer address of the datagram in this slot."""
        at = index * ctypes.sizeof(_SockaddrLl)
        name = bytes(self._name_octets[at : at + ctypes.sizeof(_SockaddrLl)])
        begin = _SockaddrLl.sll_addr.offset
        return name[_SockaddrLl.sll_pkttype.offset], name[begin : begin + name[_SockaddrLl.sll_halen.offset]]


class LinkSendBatch(_Batch):
    """Datagrams of one EtherType on their way out of one device, each to its own link-layer address."""

    def __init__(self, index: int, ethertype: int, slots: int = SLOTS) -> None:
        """`index` is the device's."""
        super().__init__(slots)
        self._names = (_SockaddrLl * slots)()
        for slot in range(slots):
            name, header = self._names[slot], self._headers[slot].msg_hdr
            name.sll_family, name.sll_ifindex = socket.AF_PACKET, index
            name.sll_protocol = socket.htons(ethertype)
            header.msg_name = ctypes.addressof(self._names) + slot * ctypes.sizeof(_SockaddrLl)
            header.msg_namelen = ctypes.sizeof(_SockaddrLl)
        self._name_octets = memoryview(self._names).cast("B")
        sizes = memoryview(self._iovecs).cast("B").cast("L")
        self._lengths = sizes[1 :: ctypes.sizeof(_Iovec) // ctypes.sizeof(ctypes.c_ulong)]

    def put(self, slot: int, octets: bytes, link: bytes) -> None:
        """`octets` at most SLOT_OCTETS."""
        self.slots[slot][: len(octets)] = octets
        self._lengths[slot] = len(octets)
        at = slot * ctypes.sizeof(_SockaddrLl) + _SockaddrLl.sll_halen.offset
        self._name_octets[at] = len(link)
        self._name_octets[at + 1 : at + 1 + len(link)] = link

    def octets(self, slot: int) -> int:
        """The length of what was put there."""
        return self._lengths[slot]

    def send(self, descriptor: int, first: int, end: int) -> int:
        """As SendBatch.send."""
        return _send(descriptor, self._headers_at, first, end)


class SendBatch(_Batch):
    """Datagrams on their way out, each with its own destination and TOS; the TTL and the start are the batch's.

    `start` is the octet of a slot at which the datagram begins. The three views are indexed by slot: `addresses` takes
    the IPv4 address as the word that `address_word` makes, `lengths` the octets from `start` on, `tos` the whole octet.
    """

    def __init__(self, *, ttl: int, start: int, slots: int = SLOTS) -> None:
        super().__init__(slots)
        self._names = (_SockaddrIn * slots)()
        self._controls = (_Control * slots)()
        for index in range(slots):
            self._names[index].sin_family = socket.AF_INET
            self._fill_control(self._controls[index], ttl)
            self._iovecs[index].iov_base = self._base + index * SLOT_OCTETS + start
            header = self._headers[index].msg_hdr
            header.msg_name = ctypes.addressof(self._names) + index * ctypes.sizeof(_SockaddrIn)
            header.msg_namelen = ctypes.sizeof(_SockaddrIn)
            header.msg_control = ctypes.addressof(self._controls) + index * ctypes.sizeof(_Control)
            header.msg_controllen = ctypes.sizeof(_Control)
        self.addresses = memoryview(self._names).cast("B").cast("I")[1 :: ctypes.sizeof(_SockaddrIn) // 4]
        sizes = memoryview(self._iovecs).cast("B").cast("L")
        self.lengths = sizes[1 :: ctypes.sizeof(_Iovec) // ctypes.sizeof(ctypes.c_ulong)]
        words = memoryview(self._controls).cast("B").cast("i")
        tos_at = _Control.tos.offset + _IntegerControl.value.offset
        self.tos = words[tos_at // 4 :: ctypes.sizeof(_Control) // 4]

    @staticmethod
    def _fill_control(control: _Control, ttl: int) -> None:
        for message, kind in ((control.ttl, socket.IP_TTL), (control.tos, socket.IP_TOS)):
            message.cmsg_len = _IntegerControl.padding.offset
            message.cmsg_level = socket.IPPROTO_IP
            message.cmsg_type = kind
        control.ttl.value = ttl

    def send(self, descriptor: int, first: int, end: int) -> int:
        """Send slots `first` to `end` - 1. How many went, at least one; or minus the error number of slot `first`."""
        return _send(descriptor, self._headers_at, first, end)


def _send(descriptor: int, headers_at: int, first: int, end: int) -> int:
    header = headers_at + first * ctypes.sizeof(_Mmsghdr)
    count: int = _sendmmsg(descriptor, header, end - first, socket.MSG_DONTWAIT)
    return count if count > 0 else -ctypes.get_errno()


def address_word(octets: bytes) -> int:
    """An IPv4 address in network order as the native word that lies in memory the same way."""
    return memoryview(octets).cast("I")[0]
