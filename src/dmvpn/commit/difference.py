"""What a change means: which files, which engines to check, which units to stop, start, restart or reload. Pure."""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import PurePosixPath

from dmvpn.commit.revision import files_of, units_of
from dmvpn.linux.services import runs_alike
from dmvpn.render.result import Change, File, Rendered, Unit


class Kind(StrEnum):
    ADDED = "added"
    CHANGED = "changed"
    REMOVED = "removed"


@dataclass(frozen=True, slots=True)
class FileChange:
    path: PurePosixPath
    kind: Kind


@dataclass(frozen=True, slots=True)
class Difference:
    """From one set of parts to another. Units are names: `stop` last first, the others in starting order."""

    files: tuple[FileChange, ...] = ()
    check: tuple[Rendered, ...] = ()  # engines with something new to check
    stop: tuple[str, ...] = ()
    start: tuple[str, ...] = ()
    restart: tuple[str, ...] = ()
    reload: tuple[str, ...] = ()
    rewrites: bool = False  # something else of a unit or engine changed (a time limit, a checker)

    @property
    def nothing(self) -> bool:
        return not (self.files or self.stop or self.start or self.restart or self.reload or self.rewrites)


def anew(difference: Difference, units: Sequence[Unit]) -> Difference:
    """The same where another keeper starts all of `units`, which are the new ones."""
    staying = tuple(unit.name for unit in units if unit.name not in difference.start)
    return replace(difference, restart=staying, reload=())


def compare(old: Sequence[Rendered], new: Sequence[Rendered]) -> Difference:
    """What leads from `old` to `new`. Raises Fault if `new` claims a path or unit twice."""
    files = _file_changes(files_of(old), files_of(new))
    changed = {change.path for change in files}
    before = {unit.name: unit for unit in units_of(old)}
    units = units_of(new)
    after = {unit.name for unit in units}
    wanted = {unit.name: _wants(unit, before.get(unit.name), changed) for unit in units if unit.name in before}
    return Difference(
        files=files,
        check=tuple(part for part in new if _must_check(part, old, changed)),
        stop=tuple(name for name in reversed(before) if name not in after),
        start=tuple(unit.name for unit in units if unit.name not in before),
        restart=tuple(name for name, change in wanted.items() if change is Change.RESTART),
        reload=tuple(name for name, change in wanted.items() if change is Change.RELOAD),
        rewrites=[(p.engine, p.checks, p.units) for p in old] != [(p.engine, p.checks, p.units) for p in new],
    )


def show(old: Sequence[Rendered], new: Sequence[Rendered]) -> list[str]:
    """A unified diff, line by line. Of a file that only its owner may read, it says no more than that it changed."""
    before, after = files_of(old), files_of(new)
    lines: list[str] = []
    for change in _file_changes(before, after):
        one, other = before.get(change.path), after.get(change.path)
        if any(file is not None and not file.mode & 0o077 for file in (one, other)):
            lines.append(f"{change.path}: {change.kind} (secret, not shown)")
            continue
        if one is not None and other is not None and one.mode != other.mode:
            lines.append(f"{change.path}: mode {one.mode:04o} becomes {other.mode:04o}")
        lines += difflib.unified_diff(
            _lines(one),
            _lines(other),
            f"a/{change.path}" if one else "/dev/null",
            f"b/{change.path}" if other else "/dev/null",
            lineterm="",
        )
    return lines


def _lines(file: File | None) -> list[str]:
    return file.text.splitlines() if file is not None else []


def _file_changes(old: dict[PurePosixPath, File], new: dict[PurePosixPath, File]) -> tuple[FileChange, ...]:
    changes = [FileChange(path, Kind.REMOVED) for path in old if path not in new]
    for path, file in new.items():
        if path not in old:
            changes.append(FileChange(path, Kind.ADDED))
        elif (old[path].text, old[path].mode) != (file.text, file.mode):
            changes.append(FileChange(path, Kind.CHANGED))
    return tuple(sorted(changes, key=lambda change: change.path))


def _wants(unit: Unit, before: Unit | None, changed: set[PurePosixPath]) -> Change:
    if before is not None and not runs_alike(before, unit):
        return Change.RESTART
    reads = set(unit.reads) | (set(before.reads) if before is not None else set())
    return unit.on_change if reads & changed else Change.NOTHING


def _must_check(part: Rendered, old: Sequence[Rendered], changed: set[PurePosixPath]) -> bool:
    before = next((other for other in old if other.engine == part.engine), None)
    if before is None:
        return True
    paths = {file.path for file in (*part.files, *before.files)}
    return bool(paths & changed) or before.checks != part.checks
