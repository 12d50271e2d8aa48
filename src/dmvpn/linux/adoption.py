"""`python -m dmvpn.linux.adoption apply|release|check FILE`: services of the host's own that make room.

They are systemd's. Each is stopped and masked, so that neither a boot nor another unit starts it. What it was is
recorded before; when its name goes from the file, or ours stop, it is that again. Its own files are not touched. When
the machine goes down it stays masked: at the next boot it must not start beside ours.
"""

import json
import os
import re
import sys
from collections.abc import Collection
from dataclasses import asdict, dataclass
from pathlib import Path

from dmvpn.errors import Fault
from dmvpn.linux import files, namespaces, process, systemd, verbs

RECORD = "adopted.json"  # in each network's state directory
LIMIT_OCTETS = 1 << 16
JOB_S = 100.0  # a stop that hangs is ended by systemd after 90
ASK_S = 20.0
OURS = "dmvpn-"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@-]*")
_RUNS = frozenset({"active", "reloading", "activating"})


@dataclass(frozen=True, slots=True)
class Was:
    """A service before it was adopted."""

    active: bool
    masked: bool


@dataclass(frozen=True, slots=True)
class Wanted:
    """Services by name, without `.service`; `record` is where what they were is kept."""

    record: Path
    services: tuple[str, ...]

    @classmethod
    def load(cls, path: Path) -> "Wanted":
        """Raises Fault for what `render` does not write."""
        try:
            value = json.loads(files.read_text(path, limit_octets=LIMIT_OCTETS))
            return cls(Path(str(value["record"])), tuple(map(str, value["services"])))
        except (ValueError, KeyError, TypeError) as error:
            raise Fault(str(path), f"is not what `dmvpn apply` writes: {error!r}") from error


def service_of(pid: int) -> str:
    """The system service that a process is part of, by name; empty for one of ours, and where systemd keeps none."""
    if not systemd.BOOTED.is_dir():
        return ""
    try:
        groups = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    except OSError:
        return ""
    for part in (part for line in groups for part in line.split(":", 2)[-1].split("/")):
        name = part.removesuffix(".service")
        if name != part and _NAME.fullmatch(name) and not name.startswith((OURS, "user@")):
            return name
    return ""


def refuse_unmaskable(name: str) -> None:
    """Raises Fault for a service whose unit file lies where the mask would: it is somebody's own work."""
    path = systemd.UNITS / f"{name}.service"
    if path.exists() and path.resolve() != Path("/dev/null"):
        fix = f"stop and disable it yourself, and leave {name} out of adopt"
        raise Fault(f"adopt: {name}", f"{path} is this machine's own, or a name for another unit: no mask fits", fix)


def recorded(record: Path) -> dict[str, Was]:
    """What is adopted, and what it was. Raises Fault."""
    if not record.exists():
        return {}
    try:
        value = json.loads(files.read_text(record, limit_octets=LIMIT_OCTETS))
        return {str(name): Was(bool(was["active"]), bool(was["masked"])) for name, was in value.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        fix = "remove it; what it names stays masked until `systemctl unmask`"
        raise Fault(str(record), "cannot be read", fix) from error


def apply(wanted: Wanted) -> None:
    """Have all of them stopped and masked; what the file names no more comes back. Raises Fault."""
    with files.alone(wanted.record.parent.parent):  # networks of one machine come up at the same time
        kept = recorded(wanted.record)
        _give_back(wanted.record, kept, [name for name in kept if name not in wanted.services])
        for name in wanted.services:
            if name not in kept:
                kept[name] = _found(name)
                _keep(wanted.record, kept)  # before it is done: dying here must not lose what it was
            process.run(("systemctl", "mask", "--quiet", "--now", _unit(name)), timeout_s=JOB_S, package="systemd")


def release(wanted: Wanted) -> None:
    """All of them as they were before. Raises Fault."""
    if _goes_down():
        return
    with files.alone(wanted.record.parent.parent):  # networks of one machine come up at the same time
        kept = recorded(wanted.record)
        _give_back(wanted.record, kept, tuple(reversed(kept)))


def _give_back(record: Path, kept: dict[str, Was], names: Collection[str]) -> None:
    for name in names:
        was = kept[name]
        if not _hand_on(record, name, was):
            if not was.masked:
                process.run(("systemctl", "unmask", "--quiet", _unit(name)), timeout_s=ASK_S, package="systemd")
            if was.active:  # not waited for: it may want what stops right now
                start = ("systemctl", "start", "--no-block", _unit(name))
                process.run(start, timeout_s=ASK_S, package="systemd")
        del kept[name]
        _keep(record, kept)


def _hand_on(record: Path, name: str, was: Was) -> bool:
    """Another network of this machine wants it out of the way too: from now on that one knows what it was."""
    for other in sorted(record.parent.parent.glob(f"*/{record.name}")):
        theirs = recorded(other)
        if other != record and name in theirs:
            _keep(other, {**theirs, name: was})
            return True
    return False


def _keep(record: Path, kept: dict[str, Was]) -> None:
    if kept:
        files.write(record, json.dumps({name: asdict(was) for name, was in kept.items()}, indent=1) + "\n", mode=0o600)
    else:
        files.remove(record)


def _found(name: str) -> Was:
    asked = ("systemctl", "show", "--property=ActiveState,UnitFileState", _unit(name))
    shown = process.run(asked, timeout_s=ASK_S, package="systemd").text
    facts = dict(line.partition("=")[::2] for line in shown.splitlines())
    return Was(facts.get("ActiveState") in _RUNS, facts.get("UnitFileState") == "masked")


def _goes_down() -> bool:
    asked = ("systemctl", "is-system-running")
    return process.run(asked, timeout_s=ASK_S, package="systemd", accept=range(256)).text.strip() == "stopping"


def _unit(name: str) -> str:
    return f"{name}.service"


def main(argv: list[str]) -> int:
    if os.environ.get(namespaces.LAB_VARIABLE):
        return 0  # the services are those of the machine that the lab runs on
    known = {
        "apply": lambda path: apply(Wanted.load(path)),
        "release": lambda path: release(Wanted.load(path)),
        "check": Wanted.load,
    }
    return verbs.run("dmvpn.linux.adoption", known, argv)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
