"""Pages of the documentation: their code blocks, and running the commands in them as a reader would.

    ```sh                  every line is a command
    ```console             lines after `$ ` are commands, the others what they print; `…` stands for anything
    ```yaml, json, ...     no commands

An HTML comment above a block says what a reader knows anyway:

    <!-- run: lab -->              needs root and namespaces; this page's blocks run in a session that can start labs
    <!-- run: on par1 -->          typed on that router of the lab that is up
    <!-- run: repeat -->           tried again until it ends well, for at most half a minute
    <!-- run: status 2 -->         the last command ends with that status
    <!-- run: needs pipx -->       skipped, by name, where that program is missing
    <!-- run: network -->          fetches packages: not in the fast tests
    <!-- run: make -->             `make demo` and its like, which are run on their own: tried with make --dry-run
    <!-- file: network.yaml -->    the block is written to that file
"""

import re
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = (ROOT / "README.md", ROOT / "ARCHITECTURE.md", *sorted((ROOT / "docs").glob("*.md")))
COMMANDS = {"sh", "console"}
LANGUAGES = COMMANDS | {"yaml", "json", "python", "text", "mermaid", "ini"}

_FENCE = re.compile(r"^(`{3,})(\S*)\s*$")
_COMMENT = re.compile(r"^<!-- (run|file): (.+) -->$")


@dataclass(frozen=True, slots=True)
class Command:
    """One command, as typed, and the lines that the page says it prints (None: the page does not say)."""

    typed: str
    prints: tuple[str, ...] | None


@dataclass(frozen=True, slots=True)
class Block:
    page: Path
    line: int  # of its fence, from 1
    language: str
    text: str
    run: frozenset[str] = frozenset()
    file: str = ""

    @property
    def where(self) -> str:
        return f"{self.page.name}:{self.line}"

    @property
    def node(self) -> str:
        """The router of the lab that it is typed on; empty: here."""
        return next((word.removeprefix("on ") for word in self.run if word.startswith("on ")), "")

    @property
    def status(self) -> int:
        return next((int(word.removeprefix("status ")) for word in self.run if word.startswith("status ")), 0)

    @property
    def needs(self) -> str:
        return next((word.removeprefix("needs ") for word in self.run if word.startswith("needs ")), "")

    @property
    def wants_lab(self) -> bool:
        return "lab" in self.run or bool(self.node)

    def commands(self) -> list[Command]:
        if self.language == "sh":
            return [Command(self.text, None)]
        if self.language != "console":
            return []
        lines = self.text.splitlines()
        assert lines[0].startswith("$ "), f"{self.where}: a console begins with `$ `"
        starts = [number for number, line in enumerate(lines) if line.startswith("$ ")]
        return [
            Command(lines[begin].removeprefix("$ "), tuple(lines[begin + 1 : end]))
            for begin, end in pairwise([*starts, len(lines)])
        ]


@dataclass(slots=True)
class _Open:
    fence: str
    language: str
    line: int
    lines: list[str] = field(default_factory=list)


def blocks(page: Path) -> list[Block]:
    """Every fenced block of the page. Raises AssertionError for a comment of ours that nobody would read."""
    found: list[Block] = []
    told: dict[str, str] = {}
    inside: _Open | None = None
    for number, line in enumerate(page.read_text().splitlines(), 1):
        if inside is not None:
            if line != inside.fence:
                inside.lines.append(line)
                continue
            words = frozenset(word.strip() for word in told.get("run", "").split(",") if word)
            text = "\n".join(inside.lines)
            found.append(Block(page, inside.line, inside.language, text, words, told.get("file", "")))
            told, inside = {}, None
        elif fence := _FENCE.match(line):
            inside = _Open(fence[1], fence[2], number)
        elif comment := _COMMENT.match(line):
            told[comment[1]] = comment[2]
        elif line.strip():
            assert not told, f"{page.name}:{number}: a comment about a block has none right below it"
    assert inside is None, f"{page.name}: a block has no end"
    return found


def differs(said: str, expected: tuple[str, ...]) -> str:
    """Empty if the output is as the page shows it, else the first line of the page that is not there.

    A line `…` stands for any number of lines, `…` in a line for any characters; trailing blanks do not count.
    """
    lines = [line.rstrip() for line in said.rstrip("\n").split("\n")] if said.strip() else []
    return _differs(lines, [line.rstrip() for line in expected])


def _differs(lines: list[str], expected: list[str]) -> str:
    if not expected:
        return f"more than the page shows: {lines[0]}" if lines else ""
    if expected[0] == "…":
        rest = [_differs(lines[skip:], expected[1:]) for skip in range(len(lines) + 1)]
        return "" if "" in rest else rest[0]
    pattern = ".*".join(re.escape(part) for part in expected[0].split("…"))
    if not lines or not re.fullmatch(pattern, lines[0]):
        return f"not shown: {expected[0]}" + (f" (but: {lines[0]})" if lines else "")
    return _differs(lines[1:], expected[1:])
