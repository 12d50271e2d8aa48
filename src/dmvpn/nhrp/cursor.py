"""Reading octets with bounds: every read names what it reads, so that a fault names what is missing, and where."""

from dataclasses import dataclass, field

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
        if count > self.left:
            raise Malformed(DropReason.MALFORMED, self.offset, f"{what}: {count} octets needed, {self.left} left")
        start = self.offset
        self.offset += count
        return self.octets[start : self.offset]

    def number(self, count: int, what: str) -> int:
        """The next `count` octets as an unsigned number, most significant octet first."""
        return int.from_bytes(self.take(count, what), "big")

    def rest(self) -> bytes:
        """All octets up to the end."""
        return self.take(self.left, "the rest")

    def part(self, count: int, what: str) -> "Cursor":
        """A cursor over the next `count` octets only; offsets stay those of the whole."""
        start = self.offset
        self.take(count, what)
        return Cursor(self.octets, start, self.offset)
