"""A scenario as it is told on the terminal: one line a step, rewritten while it lasts where a person looks."""

import shutil
import sys
from typing import Any

from dmvpn.cli.text import say
from dmvpn.operations.labs import Event, Outcome, Progress, StepBegan, StepEnded, StepGoesOn, StoryBegan, StoryEnded

MARKS = {Outcome.PASSED: "ok  ", Outcome.WARNED: "warn", Outcome.FAILED: "FAIL", Outcome.SKIPPED: "skip"}
STYLES = {Outcome.PASSED: None, Outcome.WARNED: "yellow", Outcome.FAILED: "red", Outcome.SKIPPED: "dim"}
CLEAR_LINE = "\r\x1b[2K"


class Story:
    """Hears a scenario's events, tells them, and keeps them for --json."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._live = not quiet and sys.stdout.isatty()
        self._seconds = 0.0
        self.record: list[dict[str, Any]] = []
        self._title = ""
        self._table: list[str] = []  # rows, cells parted by |; the first is its head
        self._last: list[str] = []

    def hear(self, event: Event | Progress) -> None:
        match event:
            case StoryBegan():
                self._title, self._last = event.name, list(event.opening)
                self._table = [event.columns] if event.columns else []
                for line in event.opening:
                    self._say(line)
            case Progress():
                self._line(f"  ok    {event.what}", event.seconds, None)
            case StepBegan():
                self._passing(f"  ..  {event.number:2}/{event.of} {event.name}")
            case StepGoesOn():
                self._passing(f"  ..    {event.seconds:5.1f}s {event.what}")
            case StepEnded():
                self._ended(event)
            case StoryEnded():
                self._over(event)

    def _ended(self, event: StepEnded) -> None:
        self.record.append(
            {
                "step": event.name,
                "outcome": event.outcome.value,
                "seconds": round(event.seconds, 3),
                "figures": event.figures,
                "told": event.told,
                "row": event.row,
                "why": event.why,
            }
        )
        if event.row:
            self._table.append(event.row)
        if event.outcome is Outcome.SKIPPED:
            return
        self._line(f"  {MARKS[event.outcome]}  {event.name}", event.seconds, STYLES[event.outcome])
        if event.told:
            self._say(f"          {event.told}")
        for line in event.why:
            self._say(f"          {line}", STYLES[event.outcome])

    def _over(self, event: StoryEnded) -> None:
        if self._quiet:
            return
        words = [f"{event.passed} steps passed"]
        words += [f"{event.warned} with a warning"] if event.warned else []
        words += [f"{event.failed} failed"] if event.failed else []
        words += [f"{event.skipped} not reached"] if event.skipped else []
        self._say(
            f"{event.name}: {event.outcome.value} in {event.seconds:.0f} s: {', '.join(words)}", _style(event.outcome)
        )
        for line in event.closing:
            self._say(line.replace("  dmvpn ", f"  {_invoked()} "))

    def page(self, command: str) -> str:
        """The run as a Markdown page: what it is about, its table, and every step with what came of it."""
        lines = [f"# {self._title}", "", f"Written by `{command}`. Figures are of the machine that ran it.", ""]
        lines += [line for line in self._last if line]
        lines += [""]
        for number, row in enumerate(self._table):
            lines.append(f"| {row} |")
            if number == 0:
                lines.append("|" + "---|" * (row.count("|") + 1))
        lines += ["", "| step | | what was seen | seconds |", "|---|---|---|---|"]
        for step in self.record:
            told = str(step["told"] or "; ".join(step["why"])).replace("|", "/")
            lines.append(f"| {step['step']} | {step['outcome']} | {told} | {step['seconds']:.1f} |")
        return "\n".join([*lines, ""])

    def _line(self, text: str, seconds: float, style: str | None) -> None:
        self._say(f"{text}  ({seconds:.1f} s)", style)

    def _say(self, text: str, style: str | None = None) -> None:
        if self._quiet:
            return
        if self._live:
            sys.stdout.write(CLEAR_LINE)
        say(text, style=style)

    def _passing(self, text: str) -> None:
        """Something that the next line replaces: only where a person looks."""
        if self._live:
            sys.stdout.write(CLEAR_LINE + text[:100])
            sys.stdout.flush()


def _invoked() -> str:
    """How the reader calls this very program: in a checkout it is not on the path."""
    return "dmvpn" if shutil.which("dmvpn") else sys.argv[0]


def _style(outcome: Outcome) -> str | None:
    return "green" if outcome is Outcome.PASSED else STYLES[outcome]
