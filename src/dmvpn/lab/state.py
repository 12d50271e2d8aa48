"""The one thing of a lab that the host sees: /run/dmvpn-lab/NAME, locked by the lab's keeper for as long as it lives.

flock(2) ends with the process that holds it, however it dies, so a lock that can be had is a dead lab's. What may lie
in the directory is a closed list; a sweep removes that and nothing else.
"""

import fcntl
import json
import os
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from dmvpn.errors import Fault, WrongInput
from dmvpn.linux import files

STATE_DIRECTORY: Final = Path("/run/dmvpn-lab")
# Every file that a lab ever keeps here; the sweep removes these and then the directory, if that left it empty.
LOCK, DESCRIPTION, QUALITY, RELAY_SOCKET = "lock", "lab.json", "links.json", "relay.sock"
MACHINE_SOCKET = "machine.sock"  # of a lab in a virtual machine, which has no other files but the first two
LISTED: Final = (DESCRIPTION, QUALITY, RELAY_SOCKET, MACHINE_SOCKET)
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Claim:
    """A directory that is ours, with the descriptor that holds its lock (inherited by the keeper)."""

    directory: Path
    lock: int

    def hand_over(self) -> None:
        """Closes our copy of the lock; the keeper's goes on holding it."""
        os.close(self.lock)

    def discard(self) -> None:
        """Removes the directory; the lock must still be ours or its holder dead."""
        with files.alone(self.directory.parent):
            _remove(self.directory)
        with suppress(OSError):
            os.close(self.lock)


def claim(name: str, base: Path = STATE_DIRECTORY) -> Claim:
    """Makes and locks the directory of a new lab. Raises WrongInput for a bad name, Fault for one that is up."""
    if _NAME.fullmatch(name) is None:
        raise WrongInput(name, "is no name for a lab", "use lower-case letters, digits and hyphens, at most 32")
    directory = base / name
    files.make_directory(base, mode=0o700)
    with files.alone(base):
        files.make_directory(directory, mode=0o700)
        descriptor = _locked(directory)
        if descriptor is None:
            raise Fault(f"lab {name}", "is up already", f"run: dmvpn lab down --name {name}")
        # Whoever swept this directory may have been cut short.
        for listed in LISTED:
            (directory / listed).unlink(missing_ok=True)
    return Claim(directory, descriptor)


def sweep(base: Path = STATE_DIRECTORY) -> tuple[str, ...]:
    """Removes what dead labs left; returns their names. A lab whose lock is held is not touched."""
    swept: list[str] = []
    if not base.is_dir():
        return ()
    with files.alone(base):  # who looks whether a lab is dead holds its lock meanwhile
        for directory in sorted(base.iterdir()):
            if not (directory / LOCK).is_file():
                with suppress(OSError):
                    directory.rmdir()  # its owner died before it had a lock; one with files in it is not ours
                continue
            descriptor = _locked(directory)
            if descriptor is None:
                continue
            _remove(directory)
            swept.append(directory.name)
            os.close(descriptor)
    return tuple(swept)


def living(base: Path = STATE_DIRECTORY) -> tuple[str, ...]:
    """The labs that are up, and described: one that is still starting is not listed."""
    sweep(base)
    return tuple(sorted(path.parent.name for path in base.glob(f"*/{DESCRIPTION}")))


def describe(directory: Path, description: dict[str, Any]) -> None:
    files.write(directory / DESCRIPTION, json.dumps(description), mode=0o600)


def description(name: str, base: Path = STATE_DIRECTORY) -> dict[str, Any]:
    """What `describe` wrote. Raises Fault if no such lab is up."""
    up = living(base)
    if name not in up:
        others = f"up are: {', '.join(up)}" if up else "no lab is up"
        raise Fault(f"lab {name}", "is not up", f"{others}; start one with: dmvpn lab up FILE")
    loaded = json.loads(files.read_text(base / name / DESCRIPTION))
    assert isinstance(loaded, dict)
    return loaded


def _locked(directory: Path) -> int | None:
    """The lock's descriptor, or None while somebody else holds it."""
    descriptor = os.open(directory / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def _remove(directory: Path) -> None:
    for listed in (*LISTED, LOCK):  # the lock last: until then nobody else takes the directory
        (directory / listed).unlink(missing_ok=True)
    with suppress(OSError):
        directory.rmdir()
