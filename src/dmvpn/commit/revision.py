"""A revision: what the renderers gave, with a number. This module is its JSON; store.py has the directories."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from dmvpn.errors import Fault
from dmvpn.render.result import Change, Check, File, Rendered, Unit

VERSION = 1

Reader = Callable[[PurePosixPath], str | None]


@dataclass(frozen=True, slots=True)
class Message:
    """Who changes what for which reason; `when` is Unix time, read by the caller."""

    who: str
    why: str
    when: float


@dataclass(frozen=True, slots=True)
class Revision:
    """One line of the history. `digest` is SHA-256 over paths, modes and contents of its files."""

    number: int
    message: Message
    digest: str


@dataclass(frozen=True, slots=True)
class Stored:
    """A revision as it lies on disk. `drifted` are files whose octets are not what was written: edited by hand."""

    revision: Revision
    parts: tuple[Rendered, ...]
    drifted: tuple[PurePosixPath, ...]

    @property
    def number(self) -> int:
        return self.revision.number


def files_of(parts: Sequence[Rendered]) -> dict[PurePosixPath, File]:
    """All files by path. Raises Fault for a path that two engines claim, or that would leave the tree."""
    found: dict[PurePosixPath, File] = {}
    for part in parts:
        for file in part.files:
            if file.path.is_absolute() or ".." in file.path.parts or not file.path.parts:
                raise Fault(part.engine, f"path {file.path} is not inside the tree")
            if file.path in found:
                raise Fault(part.engine, f"path {file.path} is claimed twice")
            found[file.path] = file
    return found


def units_of(parts: Sequence[Rendered]) -> tuple[Unit, ...]:
    """All units in starting order. Raises Fault for a name used twice."""
    units = tuple(unit for part in parts for unit in part.units)
    names = [unit.name for unit in units]
    for name in names:
        if names.count(name) > 1:
            raise Fault(name, "two units have this name")
    return units


def digest_of(parts: Sequence[Rendered]) -> str:
    lines = (f"{path}\0{file.mode:o}\0{_sha256(file.text)}\n" for path, file in sorted(files_of(parts).items()))
    return _sha256("".join(lines))


def to_json(revision: Revision, parts: Sequence[Rendered]) -> str:
    """Everything but the files' contents, which lie beside it."""
    message = revision.message
    document = {
        "version": VERSION,
        "number": revision.number,
        "when": message.when,
        "who": message.who,
        "why": message.why,
        "digest": revision.digest,
        "engines": [
            {
                "engine": part.engine,
                "files": [{"path": str(f.path), "mode": f.mode, "sha256": _sha256(f.text)} for f in part.files],
                "checks": [{"argv": c.argv, "package": c.package, "timeout_s": c.timeout_s} for c in part.checks],
                "units": [_unit_to_json(unit) for unit in part.units],
            }
            for part in parts
        ],
    }
    return json.dumps(document, indent=1) + "\n"


def from_json(text: str, read: Reader) -> Stored:
    """The reverse. `read` gives a file of the tree, or None; then it is left out of the parts, as drift.

    Raises Fault for anything that to_json() did not write.
    """
    drifted: list[PurePosixPath] = []
    try:
        document = json.loads(text)
        if document["version"] != VERSION:
            raise Fault("revision", f"format {document['version']}; this program reads format {VERSION}")
        parts = tuple(_part_from_json(value, read, drifted) for value in document["engines"])
        message = Message(str(document["who"]), str(document["why"]), float(document["when"]))
        revision = Revision(int(document["number"]), message, str(document["digest"]))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise Fault("revision", f"cannot be read: {error!r}") from error
    return Stored(revision, parts, tuple(drifted))


def _part_from_json(value: dict[str, Any], read: Reader, drifted: list[PurePosixPath]) -> Rendered:
    files = []
    for entry in value["files"]:
        path = PurePosixPath(entry["path"])
        found = read(path)
        if found is None or _sha256(found) != entry["sha256"]:
            drifted.append(path)
        if found is not None:
            files.append(File(path, found, int(entry["mode"])))
    return Rendered(
        engine=str(value["engine"]),
        files=tuple(files),
        checks=tuple(Check(_words(c["argv"]), str(c["package"]), float(c["timeout_s"])) for c in value["checks"]),
        units=tuple(_unit_from_json(unit) for unit in value["units"]),
    )


def _unit_to_json(unit: Unit) -> dict[str, Any]:
    return {
        "name": unit.name,
        "argv": unit.argv,
        "package": unit.package,
        "daemon": unit.daemon,
        "reload": unit.reload,
        "stop": unit.stop,
        "environment": unit.environment,
        "ready": unit.ready and str(unit.ready),
        "run_dir": unit.run_dir and str(unit.run_dir),
        "reads": [str(path) for path in unit.reads],
        "on_change": unit.on_change,
        "start_timeout_s": unit.start_timeout_s,
    }


def _unit_from_json(value: dict[str, Any]) -> Unit:
    return Unit(
        name=str(value["name"]),
        argv=_words(value["argv"]),
        package=str(value["package"]),
        daemon=bool(value["daemon"]),
        reload=_words(value["reload"]),
        stop=_words(value["stop"]),
        environment=tuple((str(key), str(word)) for key, word in value["environment"]),
        ready=PurePosixPath(value["ready"]) if value["ready"] else None,
        run_dir=PurePosixPath(value["run_dir"]) if value["run_dir"] else None,
        reads=tuple(PurePosixPath(path) for path in value["reads"]),
        on_change=Change(value["on_change"]),
        start_timeout_s=float(value["start_timeout_s"]),
    )


def _words(value: list[Any]) -> tuple[str, ...]:
    return tuple(str(word) for word in value)


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
