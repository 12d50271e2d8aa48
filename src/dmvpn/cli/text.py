"""The terminal: the only place that prints. Colour only where a person looks; NO_COLOR and pipes are respected."""

import getpass
import json
import sys
import time
from collections.abc import Iterable, Sequence
from typing import Any, Self

from rich.console import Console
from rich.status import Status
from rich.table import Table
from rich.text import Text

from dmvpn.daemon.wire import to_wire
from dmvpn.errors import WrongInput

STATE_STYLES = {"direct": "green", "up": "green", "via hub": "cyan", "connecting": "yellow", "down": "red"}


def console() -> Console:
    """Standard output. Outside a terminal lines are not wrapped: they are for another program."""
    out = Console(highlight=False, soft_wrap=True, emoji=False)
    return out


def harmless(text: str) -> str:
    """Without control characters: what a peer or a file says must not steer the reader's terminal."""
    return "".join(char if char in "\n\t" or (char >= " " and not "\x7f" <= char <= "\x9f") else "?" for char in text)


def say(line: str = "", *, style: str | None = None) -> None:
    """One line for the reader, markup taken literally."""
    console().print(harmless(line), style=style, markup=False)


def complain(line: str) -> None:
    """One line on standard error."""
    Console(stderr=True, highlight=False, soft_wrap=True, emoji=False).print(harmless(line), markup=False)


def ask(question: str, default: str) -> str:
    """A line from the terminal; an empty one is the default."""
    return input(harmless(f"{question} [{default}]: ")).strip() or default


def ask_secret(question: str) -> str:
    """A line from the terminal that does not show it."""
    return getpass.getpass(harmless(question))


def confirmed(question: str) -> bool:
    """Ask whoever sits at the terminal. Raises WrongInput where nobody does."""
    if not sys.stdin.isatty():
        raise WrongInput("standard input", "is no terminal, so nobody can be asked", "say --yes")
    console().print(f"{harmless(question)} [y/N] ", end="", markup=False)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def say_json(value: Any) -> None:
    """A value of dataclasses and plain things as indented JSON."""
    sys.stdout.write(json.dumps(to_wire(value), indent=2) + "\n")


def say_json_line(value: Any) -> None:
    """One value on one line, at once: for a program that reads along."""
    sys.stdout.write(json.dumps(to_wire(value)) + "\n")
    sys.stdout.flush()


def say_pieces(pieces: Iterable[tuple[str, str]]) -> None:
    """One line of pieces, each text and style; never wrapped."""
    line = Text(no_wrap=True)
    for text, style in pieces:
        line.append(harmless(text), style)
    console().print(line)


class Waiting:
    """On a terminal, what the command is at while nothing comes; gone when something does. On standard error."""

    AFTER_S = 2.0

    def __init__(self) -> None:
        self._status: Status | None = None
        self._console = Console(stderr=True, highlight=False, emoji=False)
        self._since = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.pause()

    def about(self, what: str) -> None:
        """Shown from now on, once the command has taken some seconds."""
        if not self._console.is_terminal or time.monotonic() - self._since < self.AFTER_S:
            return
        if self._status is None:
            self._status = self._console.status("")
            self._status.start()
        self._status.update(Text(harmless(what)))

    def pause(self) -> None:
        """Out of the way of a line."""
        if self._status is not None:
            self._status.stop()
            self._status = None


def draws_boxes() -> bool:
    """Whether the terminal's character set has lines and arrows."""
    return (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"


def say_table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A table without rules, so that it can be read, cut and grepped."""
    table = Table(box=None, pad_edge=False, show_edge=False, header_style="bold")
    for heading in headings:
        table.add_column(heading, no_wrap=True, overflow="fold")
    for row in rows:
        table.add_row(*(_styled(cell) for cell in row))
    out = Console(highlight=False, emoji=False)
    if not out.is_terminal:
        out = Console(highlight=False, emoji=False, width=250)
    out.print(table)


def _styled(cell: str) -> str:
    plain = harmless(cell).replace("[", "\\[")
    style = STATE_STYLES.get(cell.partition(" (")[0])
    return f"[{style}]{plain}[/{style}]" if style else plain


def duration(seconds: float | None) -> str:
    """A length of time as an operator writes it: 3d4h, 2h05m, 7m12s, 3.2s."""
    if seconds is None:
        return "-"
    if seconds < 10:
        return f"{seconds:.1f}s"
    whole = int(seconds)
    days, hours, minutes = whole // 86400, whole // 3600 % 24, whole // 60 % 60
    if days:
        return f"{days}d{hours}h"
    if hours:
        return f"{hours}h{minutes:02}m"
    return f"{minutes}m{whole % 60:02}s" if minutes else f"{whole}s"


def octets(count: int) -> str:
    """A count of octets, in powers of 1000."""
    size = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f}{unit}" if unit == "B" or size >= 100 else f"{size:.1f}{unit}"
        size /= 1000
    return f"{size:.1f}TB"
