"""`python -m dmvpn.linux.hook PROGRAM`: becomes a program of the operator's, without any capability.

It keeps root's name, since giving that up takes a capability that its parent does not have; and the parent's sandbox.
"""

import json
import os
import stat
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from dmvpn.errors import Fault
from dmvpn.linux import privileges, process

ENVIRONMENT = {"PATH": ":".join(process.SEARCH_PATH), "LANG": "C.UTF-8"}
PREFIX = "DMVPN_"
_EXECUTABLE = stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH
_WRITABLE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH


def run(
    program: str, event: Mapping[str, object], *, timeout_s: float, started: Callable[[int], None] | None = None
) -> None:
    """Run it to its end. Each member of `event` is DMVPN_NAME in its environment; all of it is JSON on its input.
    `started` is told its process group.

    Raises Fault: what check() finds, it fails or takes too long.
    """
    environment = {f"{PREFIX}{name.upper()}": _text(value) for name, value in event.items()}
    argv = ("python3", "-m", "dmvpn.linux.hook", program)
    octets = json.dumps(event).encode() + b"\n"
    process.run(argv, timeout_s=timeout_s, input=octets, env=environment, started=started)


def _text(value: object) -> str:
    if isinstance(value, list | tuple):
        return " ".join(map(str, value))
    return "" if value is None else str(value)


def check(program: str) -> None:
    """Raises Fault: it is missing, cannot be run, or somebody else may write it or put another one in its place."""
    try:
        found = Path(program).stat()
    except OSError as error:
        raise Fault(program, error.strerror or str(error), "put it there, executable, or remove hook:") from error
    if not stat.S_ISREG(found.st_mode):
        raise Fault(program, "is no file", "name a program")
    if not found.st_mode & _EXECUTABLE:
        raise Fault(program, "is not executable", f"chmod +x {program}")
    if found.st_mode & _WRITABLE_BY_OTHERS or found.st_uid not in (0, os.geteuid()):
        raise Fault(program, "somebody else may write it", f"chown root {program}; chmod go-w {program}")
    for above in dict.fromkeys((*Path(program).parents, *Path(program).resolve().parents)):
        there = above.stat()
        # In a sticky directory, as /tmp is, nobody renames or removes what is another's.
        open_to_all = there.st_mode & _WRITABLE_BY_OTHERS and not there.st_mode & stat.S_ISVTX
        if open_to_all or there.st_uid not in (0, os.geteuid()):
            what = f"somebody else may write {above}, and put another program there"
            raise Fault(program, what, f"chown root {above}; chmod go-w {above}")


def become(program: str) -> None:
    """Does not return. Raises Fault."""
    check(program)
    privileges.keep_only(())
    given = {name: value for name, value in os.environ.items() if name.startswith(PREFIX)}
    try:
        os.execve(program, (program,), {**ENVIRONMENT, **given})
    except OSError as error:
        raise Fault(
            program, f"cannot be run: {(error.strerror or str(error)).lower()}", "see its first line"
        ) from error


if __name__ == "__main__":
    try:
        become(sys.argv[1])
    except Fault as fault:
        sys.stderr.write(f"{fault}\n")
        raise SystemExit(fault.exit_code) from fault
