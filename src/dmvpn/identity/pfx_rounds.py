"""How much work a PFX file asks for before it opens: the rounds of every key derivation in it. RFC 7292 4, RFC 8018 A.

Whoever wrote the file chose them, and a library does them all before it can say that the passphrase is wrong. Old
tools write BER: lengths may be indefinite (X.690 8.1.3.6) and strings in pieces (8.7). What is inside the encrypted
parts is not seen.
"""

from collections.abc import Iterator
from dataclasses import dataclass

OCTET_STRING, INTEGER, SEQUENCE = 0x04, 0x02, 0x30
CONSTRUCTED = 0x20
ELEMENTS_LIMIT = 20_000
DEPTH_LIMIT = 32


class Unreadable(Exception):
    """No BER, or more of it than any PFX file has."""


@dataclass(frozen=True, slots=True)
class Element:
    """`inner` is what is in it, if its tag says that there is something; else `value` counts."""

    tag: int
    value: bytes
    inner: tuple["Element", ...] = ()


def total(octets: bytes) -> int:
    """The sum of all rounds. Raises Unreadable."""
    return sum(_rounds(_Reader(octets).all(), 0))


def _rounds(elements: tuple[Element, ...], depth: int) -> Iterator[int]:
    if depth > DEPTH_LIMIT:
        raise Unreadable
    for element in elements:
        if element.tag == SEQUENCE:
            # A salt, and then how often: MacData, the parameters of PBES1 and PBKDF2, and N of scrypt.
            for salt, number in zip(element.inner, element.inner[1:], strict=False):
                if _is_string(salt) and number.tag == INTEGER:
                    yield max(0, int.from_bytes(number.value, "big", signed=True))
        yield from _rounds(element.inner if not _is_string(element) else _within(element), depth + 1)


def _is_string(element: Element) -> bool:
    return element.tag & ~CONSTRUCTED == OCTET_STRING


def _within(string: Element) -> tuple[Element, ...]:
    """What a string holds, if that is BER again: the safes are."""
    octets = string.value or b"".join(one.value for one in string.inner)
    try:
        return _Reader(octets).all() if octets[:1] == bytes((SEQUENCE,)) else ()
    except Unreadable:
        return ()


class _Reader:
    def __init__(self, octets: bytes) -> None:
        self._octets = octets
        self._at = 0
        self._left = ELEMENTS_LIMIT

    def all(self) -> tuple[Element, ...]:
        return self._until(len(self._octets), 0)

    def _until(self, end: int, depth: int) -> tuple[Element, ...]:
        found = []
        while self._at < end:
            found.append(self._element(end, depth))
        return tuple(found)

    def _element(self, end: int, depth: int) -> Element:
        self._left -= 1
        if self._left < 0 or depth > DEPTH_LIMIT:
            raise Unreadable
        tag, length = self._octet(end), self._octet(end)
        if tag & 0x1F == 0x1F:
            raise Unreadable
        if length == 0x80 and tag & CONSTRUCTED:
            return Element(tag, b"", self._indefinite(end, depth))
        if length & 0x80:
            count = length & 0x7F
            if not 0 < count <= 4:
                raise Unreadable
            length = int.from_bytes(bytes(self._octet(end) for _ in range(count)), "big")
        if length > end - self._at:
            raise Unreadable
        if tag & CONSTRUCTED:
            return Element(tag, b"", self._until(self._at + length, depth + 1))
        self._at += length
        return Element(tag, self._octets[self._at - length : self._at])

    def _indefinite(self, end: int, depth: int) -> tuple[Element, ...]:
        found = []
        while self._octets[self._at : self._at + 2] != b"\0\0":
            found.append(self._element(end, depth + 1))
        self._at += 2
        return tuple(found)

    def _octet(self, end: int) -> int:
        if self._at >= end:
            raise Unreadable
        self._at += 1
        return self._octets[self._at - 1]
