"""Reading octets with bounds: every read names what it reads, so that a fault names what is missing, and where."""

import struct
from dataclasses import dataclass, field
from typing import Final

from dmvpn.errors import Fault
from dmvpn.nhrp.events import DropReason


class Malformed(Fault):
    """Octets of a peer that are not a packet. `offset` counts from the start of the packet's fixed header.

    `reason` is what the packet is counted under.
    """

    def __init__(self, reason: DropReason, offset: int, detail: str) -> None:
        self.reason = reason
        self.offset = offset
        self.detail = detail
        super().__init__(f"octet {offset}", detail)


class Layout:
    """Numbers that follow each other, most significant octet first, each with its name and its octets: 1, 2 or 4.

    They are read in one go. A name that begins with `unused` is passed over.
    """

    UNUSED: Final = "unused"

    def __init__(self, *rows: tuple[str, int]) -> None:
        self.rows: Final = rows
        letters = {1: "B", 2: "H", 4: "I"}
        kept = (f"{size}x" if name.startswith(self.UNUSED) else letters[size] for name, size in rows)
        self.struct: Final = struct.Struct("!" + "".join(kept))


@dataclass(slots=True)
class Cursor:
    """A position in octets, and the end it may not pass. `end` is that of the buffer unless given.

    All reads raise Malformed when fewer octets are left than needed.
    """

    octets: bytes
    offset: int = 0
    end: int = field(default=-1)

    def __post_init__(self) -> None:
        if self.end < 0:
            self.end = len(self.octets)

    @property
    def left(self) -> int:
        return self.end - self.offset

    def take(self, count: int, what: str) -> bytes:
        """The next `count` octets."""
        start, left = self.offset, self.end - self.offset
        if count > left:
            raise Malformed(DropReason.MALFORMED, start, f"{what}: {count} octets needed, {left} left")
        self.offset = end = start + count
        return self.octets[start:end]

    def number(self, count: int, what: str) -> int:
        """The next `count` octets as an unsigned number, most significant octet first."""
        return int.from_bytes(self.take(count, what), "big")

    def numbers(self, layout: Layout, of: str = "") -> tuple[int, ...]:
        """All numbers of the layout; `of` stands before their names in a fault."""
        start = self.offset
        if layout.struct.size > self.end - start:
            for name, size in layout.rows:
                self.take(size, f"{of}{name}")
        self.offset = start + layout.struct.size
        return layout.struct.unpack_from(self.octets, start)

    def rest(self) -> bytes:
        """All octets up to the end."""
        return self.take(self.left, "the rest")

    def part(self, count: int, what: str) -> "Cursor":
        """A cursor over the next `count` octets only; offsets stay those of the whole."""
        start = self.offset
        if count > self.end - start:
            self.take(count, what)
        self.offset = end = start + count
        return Cursor(self.octets, start, end)
