"""Decoding NHRP from hex or a capture with our own decoder."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dmvpn.errors import WrongInput
from dmvpn.linux import files
from dmvpn.nhrp import captures, frames, packet, text
from dmvpn.nhrp.cursor import Malformed


@dataclass(frozen=True, slots=True)
class Decoded:
    """One NHRP packet of the input. `fault` is empty when it decodes; else `lines` and `data` are."""

    frame: int
    time: str
    outer: str
    lines: tuple[str, ...]
    data: dict[str, object]
    fault: str


def decode(source: str) -> Iterator[Decoded]:
    """Every NHRP packet in `source`: a file (hex, pcap, pcapng) or hex digits. Raises WrongInput if it is neither."""
    path = Path(source)
    if _is_file(path):
        name, octets = source, files.read(path, limit_octets=captures.FILE_LIMIT_OCTETS)
    else:
        name, octets = "argument", source.encode()
        if not set(source) <= set("0123456789abcdefABCDEF: \t\n"):
            raise WrongInput(source, "no such file, and not hex digits", "give a capture, a file of hex, or the digits")
    for frame in captures.frames(name, octets):
        found = frames.nhrp_in_frame(frame)
        if found is not None:
            yield _decoded(frame, found)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # hex digits may be too long for a file name
        return False


def _decoded(frame: frames.Frame, found: frames.Found) -> Decoded:
    when = ""
    if frame.time_s is not None:
        whole = time.strftime("%H:%M:%S", time.gmtime(frame.time_s))
        when = f"{whole}.{int(frame.time_s % 1 * 1e6):06}"
    outer = f"{found.outer_source or '?'} > {found.outer_destination or '?'}"
    if found.gre_key is not None:
        outer += f", GRE key {found.gre_key}"
    try:
        decoded = packet.decode(found.octets)
    except Malformed as fault:
        return Decoded(frame.number, when, outer, (), {}, str(fault))
    return Decoded(frame.number, when, outer, tuple(text.describe(decoded)), text.as_json(decoded), "")
