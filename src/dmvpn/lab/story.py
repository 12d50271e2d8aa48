"""What a running scenario tells whoever shows it: typed events, and how it ended."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

Figure = int | float | str | bool | None
Figures = dict[str, Figure]


class Outcome(StrEnum):
    PASSED = "passed"
    WARNED = "warned"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class StoryBegan:
    """Before the lab starts."""

    name: str
    opening: tuple[str, ...]
    columns: str = ""


@dataclass(frozen=True, slots=True)
class StepBegan:
    number: int
    of: int
    name: str


@dataclass(frozen=True, slots=True)
class StepGoesOn:
    """Something to show while a step waits: what it saw last."""

    number: int
    what: str
    seconds: float


@dataclass(frozen=True, slots=True)
class StepEnded:
    """`told` is the step's own words with the figures in them; `why` are the expectations that did not hold."""

    number: int
    name: str
    outcome: Outcome
    seconds: float
    figures: Figures
    told: str
    why: tuple[str, ...]
    row: str = ""  # of the report's table, its cells parted by |


@dataclass(frozen=True, slots=True)
class StoryEnded:
    name: str
    outcome: Outcome
    seconds: float
    passed: int
    warned: int
    failed: int
    skipped: int
    closing: tuple[str, ...]

    @property
    def exit_code(self) -> int:
        return EXIT_CODES[self.outcome]


EXIT_CODES: Final = {Outcome.PASSED: 0, Outcome.FAILED: 1, Outcome.WARNED: 3, Outcome.SKIPPED: 1}
Event = StoryBegan | StepBegan | StepGoesOn | StepEnded | StoryEnded
