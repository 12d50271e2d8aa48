"""A message sequence chart that grows downwards: routers are columns, packets are arrows between them.

Pure: sightings in, styled pieces of lines out; a piece is text and a style of rich's.
"""

import textwrap
import time
from dataclasses import dataclass, field

from dmvpn.operations.watching import Sighting

Line = list[tuple[str, str]]

TIME_WIDTH = 14
SPAN_LEAST = 14  # "registered" with its spaces and an arrow head
SPAN_MOST = 22
NOTE_LEAST = 24
NOTE_GOOD = 66
DIM = "dim"
ROUND_S = 0.01  # from here on milliseconds are told whole

VERBS = {
    "resolution request": ("resolve", "resolve"),
    "resolution reply": ("resolved", "refused"),
    "registration request": ("register", "register"),
    "registration reply": ("registered", "refused"),
    "purge request": ("purge", "purge"),
    "purge reply": ("purged", "refused"),
    "traffic indication": ("redirect", "redirect"),
    "error indication": ("error", "error"),
}


@dataclass(frozen=True, slots=True)
class Glyphs:
    """What is drawn with."""

    life: str
    shaft: str
    right: str
    left: str
    dot: str


FINE = Glyphs("│", "─", "▶", "◀", "●")
PLAIN = Glyphs("|", "-", ">", "<", "*")


@dataclass(slots=True)
class Ladder:
    """Draws for a terminal of `width` characters; `own` is the router that looks on. `expected` have their columns
    from the beginning, as many as there is room for.

    A router comes to the columns with its first packet as long as there is room; others' packets are told in words.
    """

    width: int
    glyphs: Glyphs = FINE
    own: str = ""
    expected: tuple[str, ...] = ()
    utc: bool = False
    _columns: list[str] = field(default_factory=list)
    _headed: bool = False

    def __post_init__(self) -> None:
        self._columns += self.expected[: self._room()]

    def lines(self, seen: Sighting) -> list[Line]:
        """The lines that this one adds, with a new head when a router joins."""
        if seen.what == "lost":
            return self._told(seen)
        if seen.what == "happening":
            return [*self._head(joined=False), *self._noted(seen, self._life(self.own), _note(seen), _style(seen))]
        source, target = (seen.source_name or seen.source), (seen.target_name or seen.target)
        joined = [self._join(source, seen.source), self._join(target, seen.target)]
        head = self._head(joined=any(joined))
        if source not in self._columns or target not in self._columns or source == target:
            return [*head, *self._told(seen)]
        return [*head, *self._noted(seen, self._arrow(seen, source, target), _note(seen), _style(seen))]

    # ------------------------------------------------------------ columns

    def _join(self, name: str, address: str) -> bool:
        if name != address and address in self._columns:
            self._columns[self._columns.index(address)] = name  # its first packet came before its name
            return True
        if not name or name in self._columns or len(self._columns) >= self._room():
            return False
        self._columns.append(name)
        return True

    def _room(self) -> int:
        return max(2, (self.width - TIME_WIDTH - NOTE_LEAST) // SPAN_LEAST)

    def _span(self) -> int:
        free = self.width - TIME_WIDTH - NOTE_GOOD
        return max(SPAN_LEAST, min(SPAN_MOST, free // max(1, len(self._columns))))

    def _at(self, column: int) -> int:
        return TIME_WIDTH + column * self._span() + self._span() // 2

    def _note_at(self) -> int:
        return TIME_WIDTH + len(self._columns) * self._span() + 1

    def _head(self, *, joined: bool) -> list[Line]:
        if self._headed and not joined:
            return []
        self._headed = True
        zone = "UTC" if self.utc else "time"
        row = [" "] * self._note_at()
        row[: len(zone)] = zone
        span = self._span()
        for column, name in enumerate(self._columns):
            shown = name if len(name) < span else name[: span - 2] + "…"
            start = self._at(column) - len(shown) // 2
            row[start : start + len(shown)] = shown
        return [[("", "")], [("".join(row).rstrip(), "bold")]]

    # ------------------------------------------------------------ rows

    def _life(self, dot: str = "") -> list[tuple[int, str, str]]:
        """Every column's line, as position, characters and style; a dot where something happens."""
        return [
            (self._at(column), self.glyphs.dot if name == dot else self.glyphs.life, "bold" if name == dot else DIM)
            for column, name in enumerate(self._columns)
        ]

    def _arrow(self, seen: Sighting, source: str, target: str) -> list[tuple[int, str, str]]:
        start, end = (self._columns.index(name) for name in (source, target))
        left, right = sorted((self._at(start), self._at(end)))
        label, inside = f" {_verb(seen)} ", right - left - 1
        glyphs = self.glyphs
        if end > start:
            shaft = label.center(inside - 1, glyphs.shaft) + glyphs.right
        else:
            shaft = glyphs.left + label.center(inside - 1, glyphs.shaft)
        outside = [piece for piece in self._life() if not left < piece[0] < right]
        return sorted([*outside, (left + 1, shaft, _style(seen))])

    def _told(self, seen: Sighting) -> list[Line]:
        """In words, for whom there is no column."""
        words = textwrap.wrap(in_words(seen), self.width - TIME_WIDTH - 1)
        times = [self._when(seen), *[" " * TIME_WIDTH] * (len(words) - 1)]
        return [[(when, DIM), (line, _style(seen))] for when, line in zip(times, words, strict=True)]

    def _noted(self, seen: Sighting, drawn: list[tuple[int, str, str]], note: str, style: str) -> list[Line]:
        notes = textwrap.wrap(note, max(NOTE_LEAST, self.width - self._note_at() - 1)) or [""]
        lines = []
        for number, words in enumerate(notes):
            pieces = drawn if number == 0 else self._life()
            line: Line = [(self._when(seen) if number == 0 else " " * TIME_WIDTH, DIM)]
            at = TIME_WIDTH
            for position, text, look in pieces:
                line += [(" " * (position - at), ""), (text, look)]
                at = position + len(text)
            line += [(" " * max(1, self._note_at() - at), ""), (words, style)]
            lines.append(line)
        return lines

    def _when(self, seen: Sighting) -> str:
        return f"{clock(seen.at_s, utc=self.utc):<{TIME_WIDTH}}"


def clock(at_s: float | None, *, utc: bool) -> str:
    """The time of day to the millisecond; empty where it was not recorded."""
    if at_s is None:
        return ""
    whole = time.strftime("%H:%M:%S", time.gmtime(at_s) if utc else time.localtime(at_s))
    return f"{whole}.{int(at_s % 1 * 1000):03}"


def in_words(seen: Sighting) -> str:
    """One line for a pipe or a narrow terminal."""
    if seen.what == "lost":
        return f"{seen.count} lines lost: whoever reads was too slow"
    if seen.what == "happening":
        return _note(seen)
    source, target = (seen.source_name or seen.source or "?"), (seen.target_name or seen.target or "?")
    if seen.what == "malformed":
        return f"{source} -> {target}: malformed: {seen.about}"
    number = "" if seen.request_id is None else f" #{seen.request_id}"
    return f"{source} -> {target}: {seen.kind}{number}: {_note(seen)}"


def _verb(seen: Sighting) -> str:
    if seen.what == "malformed":
        return "malformed"
    if seen.probe:
        return "alive" if seen.kind.endswith("reply") else "probe"
    return VERBS.get(seen.kind, (seen.kind, seen.kind))[0 if seen.good else 1]


def _note(seen: Sighting) -> str:
    if seen.what == "happening":
        return f"{seen.kind}: {seen.about}"
    words = seen.about
    if seen.again or seen.relayed:
        words += " (again)" if seen.again else " (passed on)"
    if seen.answer_s is None:
        return words
    return f"{words}, after {seen.answer_s * 1000:.{0 if seen.answer_s >= ROUND_S else 1}f} ms"


def _style(seen: Sighting) -> str:
    if not seen.good or seen.what in ("malformed", "lost"):
        return "red"
    if seen.what == "happening":
        return "yellow"
    if seen.kind.endswith("reply"):
        return "green"
    return "magenta" if seen.kind.endswith("indication") else "cyan"
