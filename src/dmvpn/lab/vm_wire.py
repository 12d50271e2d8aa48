"""Frames between a command on the host and the agent in the guest: any number of programs over one stream of octets.

Wire: channel (4 octets), kind (1), length (4), then so many octets. A channel is one program. Who receives DATA answers
with an ACK of as many octets when they are where they belong; who sends it has at most WINDOW octets on the way. So a
reader that stopped reading stops its own program and no other.
"""

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, Final

from dmvpn.errors import Fault

WINDOW: Final = 256 * 1024
CHUNK: Final = 16 * 1024
LARGEST: Final = 4 * 1024 * 1024
_HEAD = struct.Struct("!IBI")


class Kind(IntEnum):
    """What a frame says. The first group goes to the guest, the second to the host, the third both ways."""

    RUN = 1  # JSON: argv, cwd, env, and rows and columns for a terminal
    INPUT_END = 2
    SIGNAL = 3  # its number, as text
    SIZE = 4  # JSON: rows, columns
    HANG_UP = 5

    READY = 20  # JSON: what the guest is; on channel 0
    OUTPUT = 21
    ERRORS = 22
    EXIT = 23  # the exit status, as text
    FAULT = 24  # why it was not started

    INPUT = 40
    ACK = 41  # a number of octets, as text


DATA: Final = frozenset({Kind.INPUT, Kind.OUTPUT, Kind.ERRORS})


@dataclass(frozen=True, slots=True)
class Frame:
    channel: int
    kind: Kind
    content: bytes = b""

    def octets(self) -> bytes:
        return _HEAD.pack(self.channel, self.kind, len(self.content)) + self.content

    def json(self) -> dict[str, Any]:
        loaded = json.loads(self.content)
        assert isinstance(loaded, dict)
        return loaded

    def number(self) -> int:
        return int(self.content)


def saying(channel: int, kind: Kind, value: dict[str, Any] | int | str) -> Frame:
    """A frame with a mapping as JSON, or a number or words as text."""
    text = json.dumps(value) if isinstance(value, dict) else str(value)
    return Frame(channel, kind, text.encode())


@dataclass(slots=True)
class Reader:
    """Frames out of octets as they come."""

    held: bytearray = field(default_factory=bytearray)

    def feed(self, octets: bytes) -> Iterator[Frame]:
        """Every frame that is whole now. Raises Fault for octets that are none of ours."""
        self.held += octets
        while len(self.held) >= _HEAD.size:
            channel, kind, length = _HEAD.unpack_from(self.held)
            if length > LARGEST or kind not in Kind.__members__.values():
                raise Fault("virtual machine", "what it says cannot be understood", "this is a bug of the lab")
            if len(self.held) < _HEAD.size + length:
                return
            content = bytes(self.held[_HEAD.size : _HEAD.size + length])
            del self.held[: _HEAD.size + length]
            yield Frame(channel, Kind(kind), content)
