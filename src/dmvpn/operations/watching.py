"""Looking on while NHRP talks: from dmvpnd as it happens, or from a capture."""

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import TypeAdapter

from dmvpn.daemon.control import stream
from dmvpn.errors import Fault
from dmvpn.linux import files
from dmvpn.nhrp import captures, frames
from dmvpn.nhrp.sightings import Observer, Sighting
from dmvpn.operations.here import Here

__all__ = ["Sighting", "from_capture", "live", "pulse_folded", "stations"]

SIGHTING = TypeAdapter(Sighting)
PATHS_LIMIT = 4096
STATIONS_LIMIT = 64
ANSWER = "resolution reply"


def live(here: Here, cloud: str) -> tuple[tuple[str, ...], Iterator[Sighting]]:
    """This router and its hubs by name, and what its dmvpnd sees from now on; `cloud` empty: all of them."""
    lines = stream(Path(here.layout.reading_socket), {"ask": "watch", "cloud": cloud})
    head = next(lines, None)
    if not isinstance(head, dict):
        raise Fault("dmvpnd", "closed the connection without an answer")
    routers = (str(head.get("router", "")), *(str(name) for name in head.get("hubs", ())))
    return routers, (SIGHTING.validate_python(line) for line in lines)


def from_capture(path: Path) -> Iterator[Sighting]:
    """What a pcap or pcapng file (or hex text) has of NHRP. Raises WrongInput if it is none of these."""
    observer = Observer()
    for frame in captures.frames(str(path), files.read(path, limit_octets=captures.FILE_LIMIT_OCTETS)):
        found = frames.nhrp_in_frame(frame)
        if found is not None:
            yield observer.packet(found.octets, found.outer_source, found.outer_destination, frame.time_s)


def stations(sightings: Iterable[Sighting]) -> tuple[str, ...]:
    """Who sends or receives, in order of appearance."""
    found = dict.fromkeys(name for seen in sightings for name in (seen.source, seen.target) if name)
    return tuple(found)[:STATIONS_LIMIT]


@dataclass(slots=True)
class _Pulse:
    """The probes of one path in one direction."""

    unanswered: int = 0
    answered_once: bool = False


def pulse_folded(sightings: Iterable[Sighting]) -> Iterator[Sighting]:
    """Without the probes that go well: of each path the first and its answer, then only what is missing."""
    pulses: OrderedDict[tuple[str, str], _Pulse] = OrderedDict()
    for seen in sightings:
        if not seen.probe:
            yield seen
        elif seen.kind == ANSWER:
            pulse = _pulse(pulses, (seen.target, seen.source))
            if not pulse.answered_once or pulse.unanswered != 1 or not seen.good:
                yield seen
            pulse.unanswered, pulse.answered_once = 0, True
        else:
            known = (seen.source, seen.target) in pulses
            pulse = _pulse(pulses, (seen.source, seen.target))
            if pulse.unanswered and pulse.answered_once:
                yield replace(seen, about=f"{seen.about} ({pulse.unanswered} without an answer)", good=False)
            elif not known or pulse.unanswered:
                yield seen
            pulse.unanswered += 1


def _pulse(pulses: OrderedDict[tuple[str, str], _Pulse], path: tuple[str, str]) -> _Pulse:
    pulse = pulses.setdefault(path, _Pulse())
    pulses.move_to_end(path)
    if len(pulses) > PATHS_LIMIT:
        pulses.popitem(last=False)
    return pulse
