"""The kernel's question "who is this next hop?": RTM_GETNEIGH on RTNLGRP_NEIGH, asked where app_solicit is set."""

import ctypes
import socket
import struct
import sys
from dataclasses import dataclass

from dmvpn.linux.neighbours import RTM_GETNEIGH, question_of
from dmvpn.linux.netlink import Address, Events

_RTNLGRP_NEIGH = 3
_SO_ATTACH_FILTER = 26
_BPF_LOAD_HALF_ABSOLUTE = 0x28
_BPF_JUMP_EQUAL = 0x15
_BPF_RETURN = 0x06
_NLMSG_TYPE_OFFSET = 4
_WHOLE = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class Question:
    """Packets to `protocol` wait on `device` for its NBMA address."""

    device: str
    protocol: Address


class NeighbourQuestions:
    """Yields the kernel's questions. `overflows` counts the times some were lost: the next packet asks again."""

    def __init__(self) -> None:
        self._events = Events((_RTNLGRP_NEIGH,))
        self.overflows = 0
        _only_questions(self._events.socket)

    def fileno(self) -> int:
        return self._events.fileno()

    def close(self) -> None:
        self._events.close()

    def read(self) -> tuple[Question, ...]:
        """The questions that wait, each next hop once. Never blocks."""
        found, overflow = self._events.read()
        self.overflows += overflow
        asked = {question_of(message.payload): None for message in found if message.kind == RTM_GETNEIGH}
        return tuple(Question(*question) for question in asked if question is not None)


def _only_questions(sock: socket.socket) -> None:
    """Drop all but RTM_GETNEIGH in the kernel: a hub's own thousands of bindings are announced on the same group."""
    # BPF loads in network order, the type is in the machine's order.
    wanted = socket.htons(RTM_GETNEIGH) if sys.byteorder == "little" else RTM_GETNEIGH
    code = b"".join(
        struct.pack("=HBBI", *instruction)
        for instruction in (
            (_BPF_LOAD_HALF_ABSOLUTE, 0, 0, _NLMSG_TYPE_OFFSET),
            (_BPF_JUMP_EQUAL, 0, 1, wanted),
            (_BPF_RETURN, 0, 0, _WHOLE),
            (_BPF_RETURN, 0, 0, 0),
        )
    )
    program = ctypes.create_string_buffer(code, len(code))
    # struct sock_fprog: native alignment puts the pointer on its own boundary.
    sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("@HP", len(code) // 8, ctypes.addressof(program)))
