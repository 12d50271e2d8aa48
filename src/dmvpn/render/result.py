"""What a renderer gives: files, how to check them before they count, and the units that read them."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import PurePosixPath


@dataclass(frozen=True, slots=True)
class File:
    """One file, relative to the revision's tree, which is reached as `<root>/current/<path>` once it counts."""

    path: PurePosixPath
    text: str
    mode: int = 0o644


@dataclass(frozen=True, slots=True)
class Check:
    """An engine's own checker: run with the staged tree; `{tree}` in an argument stands for its directory."""

    argv: tuple[str, ...]
    package: str  # the Debian package that has argv[0]
    timeout_s: float = 20.0


class Change(StrEnum):
    """What a unit needs when one of its files has changed."""

    NOTHING = "nothing"
    RELOAD = "reload"
    RESTART = "restart"


@dataclass(frozen=True, slots=True)
class Unit:
    """A process of ours, or a one-shot that sets kernel state, for linux.services to keep.

    A one-shot (`daemon` False) runs `argv` to the end at start and `reload` (or `argv` again) on a change.
    `ready` is a path that exists once the process serves. `run_dir`, when given, is bind-mounted over /run in a mount
    namespace of the process's own (charon's pid file path is compiled in). Units start in the order of the tuple.
    An argv[0] of python3, dmvpnd or dmvpn-gre means the running interpreter's, which a pure room cannot know.
    """

    name: str
    argv: tuple[str, ...]
    package: str
    daemon: bool = True
    reload: tuple[str, ...] = ()
    stop: tuple[str, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()
    ready: PurePosixPath | None = None
    run_dir: PurePosixPath | None = None
    reads: tuple[PurePosixPath, ...] = ()  # files of the tree; a change in one of them means `on_change`
    on_change: Change = Change.RESTART
    start_timeout_s: float = 20.0


@dataclass(frozen=True, slots=True)
class Rendered:
    """The part of one engine."""

    engine: str
    files: tuple[File, ...]
    checks: tuple[Check, ...] = ()
    units: tuple[Unit, ...] = ()
