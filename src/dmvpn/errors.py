"""Faults: where, what is so, what to write instead. Every room may raise them; only the faces print them."""

from collections.abc import Sequence
from dataclasses import dataclass


class Fault(Exception):
    """One thing that is wrong, in the words of the person who can mend it.

    `where` is a file position, a layer or a program; `what` is what is so; `fix` is what to do, and may be empty.
    """

    exit_code = 1

    def __init__(self, where: str, what: str, fix: str = "") -> None:
        self.where = where
        self.what = what
        self.fix = fix
        super().__init__(f"{where}: {what}" + (f"; {fix}" if fix else ""))


class WrongInput(Fault):
    """The operator's input is wrong; nothing was touched."""

    exit_code = 2


@dataclass(frozen=True, slots=True)
class Problem:
    """One finding in a file. `key` is the path of mapping keys and list indexes that leads to it."""

    key: tuple[str | int, ...]
    what: str
    fix: str = ""
    warning: bool = False


@dataclass(frozen=True, slots=True)
class Finding:
    """A problem with its position: line and column start at 1; `where` is file:line:column."""

    where: str
    what: str
    fix: str
    warning: bool

    def __str__(self) -> str:
        kind = "warning: " if self.warning else ""
        return f"{self.where}: {kind}{self.what}" + (f"; {self.fix}" if self.fix else "")


class Problems(WrongInput):
    """All the problems of one input, raised once."""

    def __init__(self, findings: Sequence[Finding]) -> None:
        self.findings = tuple(findings)
        first = self.findings[0]
        super().__init__(first.where, first.what, first.fix)

    def __str__(self) -> str:
        return "\n".join(str(finding) for finding in self.findings)
