"""What came of a change, and how one can fail."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path, PurePosixPath

from dmvpn.commit.difference import Difference, FileChange
from dmvpn.errors import Fault
from dmvpn.linux.services import Applied
from dmvpn.render.result import Rendered


class Edits(Enum):
    """What becomes of files that somebody edited by hand in the revision in force."""

    REFUSE = "refuse"
    DISCARD = "discard"  # a copy is kept


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an apply did. `revision` is in force; `previous` was, or None. `drifted` had been edited by hand.

    `kept` is where their copies are. `confirm_s`: seconds to confirm it in; None if nobody needs to.
    """

    revision: int
    previous: int | None
    files: tuple[FileChange, ...]
    units: Applied
    drifted: tuple[PurePosixPath, ...] = ()
    kept: Path | None = None
    confirm_s: float | None = None
    warnings: tuple[str, ...] = ()

    @property
    def changed(self) -> bool:
        return self.revision != self.previous


@dataclass(frozen=True, slots=True)
class Preview:
    """What an apply would do. `lines` are a unified diff with secrets left out, `edits` one of what was edited by hand.

    `old` is what is in force, as it was written; empty if nothing is.
    """

    in_force: int | None
    difference: Difference
    lines: tuple[str, ...]
    drifted: tuple[PurePosixPath, ...]
    edits: tuple[str, ...] = ()
    old: tuple[Rendered, ...] = ()


@dataclass(frozen=True, slots=True)
class Undone:
    """Revision `after` was taken back and `before` is in force again; None: nothing is. `why` is a sentence's end."""

    before: int | None
    after: int
    why: str

    @property
    def words(self) -> str:
        back = "nothing is in force" if self.before is None else f"revision {self.before} is in force again"
        return f"revision {self.after} was rolled back, {self.why}; {back}"


class Failed(Fault):
    """An apply that did not happen. `step` is where it failed, `in_force` the revision that counts now."""

    def __init__(self, step: str, fault: Fault, in_force: int | None, hint: str = "") -> None:
        self.step = step
        self.in_force = in_force
        self.exit_code = fault.exit_code
        now = f"revision {in_force} is in force" if in_force is not None else "nothing is in force, nothing runs"
        super().__init__(step, str(fault), hint or now)


class Unverified(Fault):
    """The network did not come back as it was before the switch."""


class Edited(Fault):
    """Files of the revision in force were edited by hand; nothing was touched."""

    def __init__(self, drifted: Sequence[PurePosixPath]) -> None:
        self.drifted = tuple(drifted)
        fix = "see `dmvpn diff`; write it in the network file, and apply with --discard-edits (a copy is kept)"
        super().__init__(", ".join(map(str, drifted)), "edited by hand since it was applied", fix)
