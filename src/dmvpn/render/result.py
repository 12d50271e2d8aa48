"""What a renderer gives: files, how to check them before they count, and the units that read them."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import PurePosixPath

TUN = PurePosixPath("/dev/net/tun")


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


def ours(module: str, file: File) -> Check:
    """Whoever reads the file says whether it would take it: a revision may be of another release."""
    return Check(("python3", "-m", module, "check", f"{{tree}}/{file.path}"), package="opendmvpn")


class Change(StrEnum):
    """What a unit needs when one of its files has changed."""

    NOTHING = "nothing"
    RELOAD = "reload"
    RESTART = "restart"


@dataclass(frozen=True, slots=True)
class Needs:
    """What a process cannot do without. capabilities(7) and address families by their names without CAP_ and AF_.

    `writes` are directories beside the network's own under /run, `spares` those below them that it leaves alone;
    `devices` are nodes in /dev. `tunes`: writes /proc/sys. `namespaces`: the kinds it makes. `calls`: system calls
    beyond systemd's @system-service. `changes_profile`: its children have AppArmor profiles of their own. `machine`: it
    sets what every sandbox protects.
    """

    capabilities: tuple[str, ...] = ()
    families: tuple[str, ...] = ("UNIX",)
    writes: tuple[PurePosixPath, ...] = ()
    spares: tuple[PurePosixPath, ...] = ()
    devices: tuple[PurePosixPath, ...] = ()
    namespaces: tuple[str, ...] = ()
    calls: tuple[str, ...] = ()
    tunes: bool = False
    changes_profile: bool = False
    machine: bool = False


@dataclass(frozen=True, slots=True)
class Unit:
    """A process of ours, or a one-shot that sets kernel state, for linux.services to keep.

    A one-shot (`daemon` False) runs `argv` to the end at start and `reload` (or `argv` again) on a change.
    `ready` is a path that exists once the process serves. Each of `binds` is a source and the place where the process
    alone sees it, in a mount namespace of its own (charon's pid file path is compiled in). Units start in the order of
    the tuple. An argv[0] of python3, dmvpnd or dmvpn-gre is the running interpreter's, which a pure room cannot know.

    `needs` is what a sandbox must leave it; the keepers that have sandboxes give it no more.
    """

    name: str
    argv: tuple[str, ...]
    package: str
    daemon: bool = True
    reload: tuple[str, ...] = ()
    stop: tuple[str, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()
    ready: PurePosixPath | None = None
    binds: tuple[tuple[PurePosixPath, PurePosixPath], ...] = ()
    reads: tuple[PurePosixPath, ...] = ()  # files of the tree; a change in one of them means `on_change`
    on_change: Change = Change.RESTART
    start_timeout_s: float = 20.0
    needs: Needs = Needs()


@dataclass(frozen=True, slots=True)
class Rendered:
    """The part of one engine."""

    engine: str
    files: tuple[File, ...]
    checks: tuple[Check, ...] = ()
    units: tuple[Unit, ...] = ()
