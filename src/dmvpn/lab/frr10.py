"""FRR 10 beside the machine's own FRR: a router of a lab may have that. `lay` runs inside its node.

scripts/setup unpacks it with the C library and all else it was built against, and installs nothing. Its programs start
by the dynamic linker that came with them, so it does not matter what release the machine is.
"""

import shlex
from pathlib import Path

from dmvpn.lab.private import find
from dmvpn.linux import files, namespaces

UNPACKED = Path(__file__).parents[3] / ".frr10"  # where scripts/setup unpacks; absent outside a checkout
_RELOAD = UNPACKED / "usr/lib/frr/frr-reload.py"  # comes last
_LIBRARIES = UNPACKED / "usr/lib/x86_64-linux-gnu"
_STAGE = Path("/run/dmvpn-frr10")
_DAEMONS = Path("usr/lib/frr")
_SHELL = Path("usr/bin/vtysh")


def why_not() -> str:
    """Why no foreign router can be FRR 10 here; empty when one can."""
    return "" if _RELOAD.is_file() else f"no FRR 10 is unpacked in {UNPACKED}: run scripts/setup test"


def lay() -> None:
    """From here on the node's FRR is FRR 10, under the paths of any other."""
    files.make_directory(_STAGE)
    files.make_directory(_STAGE / _DAEMONS.name)
    for program in (UNPACKED / _DAEMONS).iterdir():
        files.write(_STAGE / _DAEMONS.name / program.name, _starter(program), mode=0o755)
    files.write(_STAGE / _SHELL.name, _starter(UNPACKED / _SHELL), mode=0o755)
    namespaces.mount(str(_STAGE / _DAEMONS.name), "/" / _DAEMONS, flags=namespaces.MS_BIND)
    namespaces.mount(str(_STAGE / _SHELL.name), Path(find(_SHELL.name)), flags=namespaces.MS_BIND)


def shell() -> tuple[str, ...]:
    """The words that start its vtysh where nothing was laid over the machine's own."""
    return _start(UNPACKED / _SHELL)


def _start(program: Path) -> tuple[str, ...]:
    """With its own libraries and no other's, ld.so(8)."""
    libraries = f"{_LIBRARIES / 'frr'}:{_LIBRARIES}"
    return str(_LIBRARIES / "ld-linux-x86-64.so.2"), "--library-path", libraries, str(program)


def _starter(program: Path) -> str:
    """A shell script that becomes the program; of a script itself."""
    with program.open("rb") as opened:
        if opened.read(2) == b"#!":
            return program.read_text()
    return f'#!/bin/sh\nexec {shlex.join(_start(program))} "$@"\n'
