"""Octets from hex as people paste it: bare, with colons, or a dump with offsets (tcpdump -x, xxd, hexdump -C, od)."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from dmvpn.errors import WrongInput

# "0x0010:  4500 0054 ..  E..T" (tcpdump, xxd): the text column stands behind two spaces.
COLON_LINE: Final = re.compile(r"\s*(?:0x)?(?P<offset>[0-9a-fA-F]{4,8}):(?:\s+(?P<rest>.*))?$")
# "00000010  45 00 00 54  00 00 .. |E..T|" (hexdump -C), "0010   45 00 ..   E..T" (Wireshark, text2pcap).
SPACE_LINE: Final = re.compile(r"\s*(?P<offset>[0-9a-fA-F]{4,8}) {1,4}(?P<rest>[0-9a-fA-F]{2}(?:[ ].*)?)$")
LAST_OFFSET: Final = re.compile(r"[0-9a-fA-F]{4,8}")  # hexdump ends with the total on a line of its own
COLON_TEXT: Final = re.compile(r"\s{2,}.*")
SPACE_TEXT: Final = re.compile(r"(\||\s{3,}).*")
BARE_NOISE: Final = re.compile(r"0x|\\x|[\s:,.-]")
NOT_HEX: Final = re.compile(r"[^0-9a-fA-F ]")


@dataclass(slots=True)
class _Block:
    """The packet being collected."""

    first_line: int
    dump: bool  # lines begin with offsets
    octets: bytearray = field(default_factory=bytearray)
    half: str = ""  # a digit whose other half is on the next line


def octets_in(name: str, text: str) -> Iterator[bytes]:
    """Each packet of the text. A blank line or an offset of 0 begins a new one; `#` begins a comment.

    In a dump, lines that are no dump (tcpdump's headlines) separate packets as well. Raises WrongInput with line and
    column for what is not hex.
    """
    lines = text.splitlines()
    block: _Block | None = None
    # tcpdump's first headline comes before the first offset, so the whole text tells whether it is a dump.
    dumps = any(found and not int(found["offset"], 16) for found in map(COLON_LINE.match, lines))
    for number, line in enumerate(lines, 1):
        stripped = line.split("#", 1)[0].rstrip() if not dumps else line.rstrip()
        if not stripped.strip():
            yield from _finished(name, block)
            block = None
            continue
        dump = _dump_line(stripped, block, dumps=dumps)
        if dump is not None:
            offset, digits = dump
            dumps = True
            if block is None or not offset:
                yield from _finished(name, block)
                block = _Block(number, dump=True)
            _add_dump(name, number, block, offset, digits)
        elif dumps:
            yield from _finished(name, block)
            block = None
        else:
            block = block or _Block(number, dump=False)
            _add_bare(name, number, block, stripped)
    yield from _finished(name, block)


def _dump_line(line: str, block: _Block | None, *, dumps: bool) -> tuple[int, str] | None:
    """Offset and hex digits of a line of a dump; None for any other. A bare block stays bare."""
    if block is not None and not block.dump:
        return None
    if block is not None and LAST_OFFSET.fullmatch(line) and int(line, 16) == len(block.octets):
        return len(block.octets), ""
    if found := COLON_LINE.match(line):
        digits = COLON_TEXT.sub("", found["rest"] or "")
    elif found := SPACE_LINE.match(line):
        digits = SPACE_TEXT.sub("", found["rest"])
    else:
        return None
    offset = int(found["offset"], 16)
    if not dumps and offset:
        return None  # a dump begins at 0; this is bare hex whose first group looks like an offset
    return offset, "".join(digits.split())


def _add_dump(name: str, number: int, block: _Block, offset: int, digits: str) -> None:
    where = f"{name}:{number}:1"
    if offset != len(block.octets):
        raise WrongInput(
            where, f"offset {offset:#06x}, but {len(block.octets)} octets came before", "paste the dump whole"
        )
    if NOT_HEX.search(digits) or len(digits) % 2:
        raise WrongInput(where, "the line is not offset and pairs of hex digits")
    block.octets += bytes.fromhex(digits)


def _add_bare(name: str, number: int, block: _Block, line: str) -> None:
    spaced = BARE_NOISE.sub(lambda noise: " " * len(noise[0]), line)  # columns stay what they were
    if wrong := NOT_HEX.search(spaced):
        raise WrongInput(f"{name}:{number}:{wrong.start() + 1}", f"{wrong[0]!r} is not a hex digit")
    digits = block.half + spaced.replace(" ", "")
    whole = len(digits) // 2 * 2
    block.octets += bytes.fromhex(digits[:whole])
    block.half = digits[whole:]


def _finished(name: str, block: _Block | None) -> Iterator[bytes]:
    if block is None:
        return
    if block.half:
        raise WrongInput(f"{name}:{block.first_line}:1", "an odd number of hex digits")
    yield bytes(block.octets)
