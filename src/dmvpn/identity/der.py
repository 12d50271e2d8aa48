"""The little of DER (ITU-T X.690) that our extensions need: an encoder, and a decoder that takes nothing but DER.

Our extension is read from certificates of peers, so the decoder is strict (definite minimal lengths, nothing left over)
and works on bounded input. What cryptography parses by itself is not parsed here.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from dmvpn.errors import Fault

INTEGER = 0x02
BIT_STRING = 0x03
OCTET_STRING = 0x04
NULL = 0x05
UTF8_STRING = 0x0C
SEQUENCE = 0x30

VALUE_LIMIT_OCTETS = 16384


class Malformed(Fault):
    """Octets that are not the DER we write."""

    def __init__(self, what: str) -> None:
        super().__init__("certificate", what)


def encode(tag: int, value: bytes) -> bytes:
    """One element: tag, length, value. X.690 8.1, lengths as in 10.1."""
    length = len(value)
    if length < 0x80:
        return bytes((tag, length)) + value
    octets = length.to_bytes((length.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(octets))) + octets + value


def sequence(*elements: bytes) -> bytes:
    return encode(SEQUENCE, b"".join(elements))


def integer(number: int) -> bytes:
    """A non-negative INTEGER. X.690 8.3."""
    return encode(INTEGER, number.to_bytes(number.bit_length() // 8 + 1, "big"))


def text(value: str) -> bytes:
    return encode(UTF8_STRING, value.encode())


def bits(value: bytes, length: int) -> bytes:
    """The first `length` bits of `value` as a BIT STRING; unused bits are zero already. X.690 8.6, 11.2."""
    octets = (length + 7) // 8
    return encode(BIT_STRING, bytes((octets * 8 - length,)) + value[:octets])


@dataclass(slots=True)
class Reader:
    """Reads elements from the front of `octets`. Every method raises Malformed."""

    octets: bytes
    at: int = 0

    def __post_init__(self) -> None:
        if len(self.octets) > VALUE_LIMIT_OCTETS:
            raise Malformed(f"extension of {len(self.octets)} octets; {VALUE_LIMIT_OCTETS} are the limit")

    @property
    def more(self) -> bool:
        return self.at < len(self.octets)

    def element(self) -> tuple[int, bytes]:
        """Any element: its tag and value."""
        tag = self._take(1)[0]
        length = self._take(1)[0]
        if length & 0x80:
            octets = self._take(length & 0x7F)
            length = int.from_bytes(octets, "big")
            if not 0 < len(octets) <= 2 or length < 0x80 or octets[0] == 0:
                raise Malformed(f"octet {self.at}: length {octets.hex() or 'indefinite'} is not DER")
        return tag, self._take(length)

    def value(self, tag: int) -> bytes:
        found, value = self.element()
        if found != tag:
            raise Malformed(f"octet {self.at}: tag {found:#04x} where {tag:#04x} belongs")
        return value

    def sequence(self) -> "Reader":
        return Reader(self.value(SEQUENCE))

    def integer(self, largest: int) -> int:
        value = self.value(INTEGER)
        number = int.from_bytes(value, "big", signed=True)
        if not value or len(value) > 9 or integer(number if number >= 0 else 0) != encode(INTEGER, value):
            raise Malformed(f"integer {value.hex() or 'without octets'} is not DER, or negative")
        if number > largest:
            raise Malformed(f"integer {number} is larger than {largest}")
        return number

    def text(self) -> str:
        value = self.value(UTF8_STRING)
        try:
            return value.decode()
        except UnicodeDecodeError as error:
            raise Malformed("text is not UTF-8") from error

    def elements(self, tag: int) -> Iterator[bytes]:
        while self.more:
            yield self.value(tag)

    def end(self) -> None:
        if self.more:
            raise Malformed(f"{len(self.octets) - self.at} octets left over")

    def _take(self, count: int) -> bytes:
        if len(self.octets) - self.at < count:
            raise Malformed(f"octet {self.at}: {count} octets needed, {len(self.octets) - self.at} left")
        self.at += count
        return self.octets[self.at - count : self.at]
