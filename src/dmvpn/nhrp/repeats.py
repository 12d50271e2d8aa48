"""Registrations said again: a client repeats the same octets for hours, but for the request's id and the checksum.

Such a repetition gets the same answer with its own id, without being taken apart or asked about again: that is most of
what a hub does. An answer is remembered when the server gave it, and used while all that it says and rests on is as it
was: the octets asked with, the binding, and the SA whose certificate allowed it. Any word of that SA, up or down, ends
it, and the next one is asked about as the first was.
"""

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from dmvpn.nhrp.cache import Binding, Key, key_of
from dmvpn.nhrp.packet import CHECKSUM_AT

Address = IPv4Address | IPv6Address

_BEHIND_CHECKSUM: Final = CHECKSUM_AT + 2
ID_AT: Final = 24  # RFC 2332 5.2.0.1: behind the fixed header, two lengths and the flags
_BEHIND_ID: Final = ID_AT + 4


@dataclass(frozen=True, slots=True)
class Repeat:
    """A request that was granted, and its answer, both without checksum and id."""

    binding: Binding
    holding_time_s: float
    head: bytes
    middle: bytes
    request_sum: int
    reply: tuple[bytes, bytes, bytes]
    reply_sum: int

    def answer(self, number: bytes) -> bytes:
        """The reply's octets for this id."""
        head, middle, tail = self.reply
        return head + _sum_with(self.reply_sum, number) + middle + number + tail


class Repeats:
    """At most one for each binding."""

    def __init__(self) -> None:
        self._by_tail: dict[bytes, Repeat] = {}
        self._tails: dict[Key, bytes] = {}  # by protocol address

    def find(self, octets: bytes, nbma: Address) -> Repeat | None:
        """The granted request that these octets repeat; None when they say anything new, or their checksum is wrong."""
        known = self._by_tail.get(octets[_BEHIND_ID:])
        if known is None:
            return None
        bound = known.binding.nbma
        if (
            (bound is not nbma and bound != nbma)
            or known.head != octets[:CHECKSUM_AT]
            or known.middle != octets[_BEHIND_CHECKSUM:ID_AT]
            or octets[CHECKSUM_AT:_BEHIND_CHECKSUM] != _sum_with(known.request_sum, octets[ID_AT:_BEHIND_ID])
        ):
            return None
        return known

    def remember(self, binding: Binding, holding_time_s: float, request: bytes, reply: bytes) -> None:
        """Both with a checksum that is right."""
        self.forget(binding.protocol)
        head, middle, tail = _without_id(request)
        self._tails[key_of(binding.protocol)] = tail
        self._by_tail[tail] = Repeat(
            binding, holding_time_s, head, middle, _sum_without_id(request), _without_id(reply), _sum_without_id(reply)
        )

    def forget(self, protocol: Address) -> None:
        tail = self._tails.pop(key_of(protocol), None)
        if tail is not None:
            self._by_tail.pop(tail, None)


def _without_id(octets: bytes) -> tuple[bytes, bytes, bytes]:
    return octets[:CHECKSUM_AT], octets[_BEHIND_CHECKSUM:ID_AT], octets[_BEHIND_ID:]


def _sum_without_id(octets: bytes) -> int:
    """Of all but checksum and id, from the checksum of the whole. RFC 1624: one's complement can be taken off again."""
    whole = 0xFFFF - int.from_bytes(octets[CHECKSUM_AT:_BEHIND_CHECKSUM], "big")
    # Zero has two forms in one's complement; the negative one is that of a sum over anything but zero octets.
    return (whole - int.from_bytes(octets[ID_AT:_BEHIND_ID], "big")) % 0xFFFF or 0xFFFF


def _sum_with(partial: int, number: bytes) -> bytes:
    """The checksum of the whole: RFC 1071, the sum may be taken in any order."""
    total = partial + (number[0] << 8 | number[1]) + (number[2] << 8 | number[3])
    total = (total & 0xFFFF) + (total >> 16)
    total = (total & 0xFFFF) + (total >> 16)
    return (0xFFFF - total).to_bytes(2, "big")
