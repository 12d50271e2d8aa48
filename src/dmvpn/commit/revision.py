"""A revision: what the renderers gave, with a number. This module is its JSON; store.py has the directories."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Any

from dmvpn.errors import Fault
from dmvpn.render.result import Change, Check, File, Needs, Rendered, Unit

VERSION = 2

Reader = Callable[[PurePosixPath], str | None]


@dataclass(frozen=True, slots=True)
class Message:
    """Who changes what for which reason; `when` is Unix time, read by the caller."""

    who: str
    why: str
    when: float


@dataclass(frozen=True, slots=True)
class Revision:
    """One line of the history. `digest` is SHA-256 over paths, modes and contents of its files.

    `undone` says why it was taken back after it had been in force; empty if it was not.
    """

    number: int
    message: Message
    digest: str
    undone: str = ""


@dataclass(frozen=True, slots=True)
class Stored:
    """A revision as it lies on disk. `drifted` are files whose octets are not what was written: edited by hand.

    `parts` have the files as they are now, without those that are gone; `written` as they were written.
    """

    revision: Revision
    parts: tuple[Rendered, ...]
    drifted: tuple[PurePosixPath, ...]
    written: tuple[Rendered, ...]

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
    """All of it, the files' contents too: what somebody edits in the tree can then be shown, and be undone."""
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
                "files": [{"path": str(f.path), "mode": f.mode, "text": f.text} for f in part.files],
                "checks": [{"argv": c.argv, "package": c.package, "timeout_s": c.timeout_s} for c in part.checks],
                "units": [_unit_to_json(unit) for unit in part.units],
            }
            for part in parts
        ],
    }
    return json.dumps(document, indent=1) + "\n"


def from_json(text: str, read: Reader) -> Stored:
    """The reverse. `read` gives a file of the tree as it is now, or None; then it is left out of the parts, as drift.

    Raises Fault for anything that to_json() did not write.
    """
    try:
        document = json.loads(text)
        if document["version"] != VERSION:
            raise Fault("revision", f"format {document['version']}; this program reads format {VERSION}")
        written = tuple(_part_from_json(value) for value in document["engines"])
        message = Message(str(document["who"]), str(document["why"]), float(document["when"]))
        revision = Revision(int(document["number"]), message, str(document["digest"]))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise Fault("revision", f"cannot be read: {error!r}") from error
    found = {path: read(path) for path in files_of(written)}
    drifted = tuple(path for path, file in files_of(written).items() if found[path] != file.text)
    return Stored(revision, tuple(_as_found(part, found) for part in written), drifted, written)


def _as_found(part: Rendered, found: dict[PurePosixPath, str | None]) -> Rendered:
    there = ((file, found[file.path]) for file in part.files)
    return replace(part, files=tuple(replace(file, text=text) for file, text in there if text is not None))


def _part_from_json(value: dict[str, Any]) -> Rendered:
    return Rendered(
        engine=str(value["engine"]),
        files=tuple(File(PurePosixPath(f["path"]), str(f["text"]), int(f["mode"])) for f in value["files"]),
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
        "binds": [[str(source), str(place)] for source, place in unit.binds],
        "reads": [str(path) for path in unit.reads],
        "on_change": unit.on_change,
        "start_timeout_s": unit.start_timeout_s,
        "needs": _needs_to_json(unit.needs),
    }


def _needs_to_json(needs: Needs) -> dict[str, Any]:
    return {
        "capabilities": needs.capabilities,
        "families": needs.families,
        "writes": [str(path) for path in needs.writes],
        "spares": [str(path) for path in needs.spares],
        "devices": [str(path) for path in needs.devices],
        "namespaces": needs.namespaces,
        "calls": needs.calls,
        "tunes": needs.tunes,
        "changes_profile": needs.changes_profile,
        "machine": needs.machine,
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
        binds=tuple((PurePosixPath(source), PurePosixPath(place)) for source, place in _binds(value)),
        reads=tuple(PurePosixPath(path) for path in value["reads"]),
        on_change=Change(value["on_change"]),
        start_timeout_s=float(value["start_timeout_s"]),
        needs=_needs_from_json(value["needs"]) if "needs" in value else Needs(),
    )


def _binds(value: dict[str, Any]) -> list[list[str]]:
    """Revisions written by 0.1.0's first builds know a private /run only."""
    if "binds" in value:
        return list(value["binds"])
    return [[value["run_dir"], "/run"]] if value["run_dir"] else []


def _needs_from_json(value: dict[str, Any]) -> Needs:
    return Needs(
        capabilities=_words(value["capabilities"]),
        families=_words(value["families"]),
        writes=tuple(PurePosixPath(path) for path in value["writes"]),
        spares=tuple(PurePosixPath(path) for path in value.get("spares", ())),
        devices=tuple(PurePosixPath(path) for path in value["devices"]),
        namespaces=_words(value["namespaces"]),
        calls=_words(value["calls"]),
        tunes=bool(value["tunes"]),
        changes_profile=bool(value["changes_profile"]),
        machine=bool(value["machine"]),
    )


def _words(value: list[Any]) -> tuple[str, ...]:
    return tuple(str(word) for word in value)


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
