"""What a policy file says, value by value, each with its place; and the findings about it, collected."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from dmvpn.errors import Finding, Problems

DEEPEST = 24
MOST_NODES = 200_000  # of one file, aliases and variables followed
MOST_FINDINGS = 200

Plain = str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class Place:
    """Where something is written: line and column start at 1."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"

    @property
    def origin(self) -> str:
        """The same without folders: what a rule in the kernel says of itself. No two policies have one name."""
        return f"{self.file.rpartition('/')[2]}:{self.line}:{self.column}"


@dataclass(frozen=True, slots=True)
class Node:
    """One value: a plain one, a list, or an object's members by name."""

    at: Place
    value: "Plain | tuple[Node, ...] | dict[str, Member]"

    @property
    def kind(self) -> str:
        """What it is, with its article, for messages."""
        match self.value:
            case None:
                return "null"
            case bool():
                return "true" if self.value else "false"
            case str():
                return "a string"
            case int() | float():
                return f"the number {self.value}"
            case tuple():
                return "a list"
            case dict():
                return "an object"


@dataclass(frozen=True, slots=True)
class Member:
    """A name of an object, where it is written, and its value."""

    at: Place
    value: Node


@dataclass(slots=True)
class Report:
    """The findings about a set of policy files: one error for each place, MOST_FINDINGS of each kind at most."""

    findings: list[Finding] = field(default_factory=list)
    wrong_at: set[str] = field(default_factory=set)
    warnings: int = 0

    def wrong(self, at: Place | str, what: str, fix: str = "") -> None:
        # What a variable brings to many rules is wrong in one place.
        if str(at) not in self.wrong_at and len(self.wrong_at) < MOST_FINDINGS:
            self.wrong_at.add(str(at))
            self.findings.append(Finding(str(at), what, fix, warning=False))

    def warn(self, at: Place | str, what: str, fix: str = "") -> None:
        finding = Finding(str(at), what, fix, warning=True)
        if finding not in self.findings and self.warnings < MOST_FINDINGS:
            self.warnings += 1
            self.findings.append(finding)

    @property
    def is_wrong(self) -> bool:
        return bool(self.wrong_at)

    def settled(self) -> tuple[Finding, ...]:
        """The warnings, once nothing is wrong; otherwise raises Problems with everything. By file and line."""
        findings = sorted(self.findings, key=_order)
        if self.is_wrong:
            raise Problems(findings)
        return tuple(findings)


def _order(finding: Finding) -> tuple[str, int, int, bool]:
    file, line, column = finding.where.rsplit(":", 2)
    return file, int(line), int(column), finding.warning


class Unreadable(Exception):
    """The text cannot be read on: what was found is in the report."""


def items(node: Node) -> tuple[Node, ...]:
    """awall takes a single value wherever a list may be."""
    return node.value if isinstance(node.value, tuple) else (node,)


def every(node: Node) -> Iterator[Node]:
    """The node and all below it; as deep as DEEPEST at most, by construction."""
    yield node
    match node.value:
        case tuple():
            for item in node.value:
                yield from every(item)
        case dict():
            for member in node.value.values():
                yield from every(member.value)


def quoted(text: str) -> str:
    """A word of a file for a message: short, on one line, with nothing that steers a terminal."""
    shown = "".join(char if char.isprintable() else "?" for char in text[:60])
    return f'"{shown}{"..." if len(text) > 60 else ""}"'
