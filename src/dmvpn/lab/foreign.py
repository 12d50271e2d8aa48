"""A foreign router in a lab: the vendor's own daemons, started inside the node. Runs inside it.

Nobody keeps them: what ends stays ended, as a test may want it, and all of it ends with the lab.
"""

import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dmvpn.errors import Fault
from dmvpn.lab import wiring
from dmvpn.linux import files, process
from dmvpn.linux.pace import patience
from dmvpn.network.plan import ForeignPlan

LOGS = Path("/var/log/dmvpn-foreign")
START_LIMIT_S = 30.0
PAUSE_S = 0.1


@dataclass(frozen=True, slots=True)
class Program:
    """One program of the router. `ready` is a path that exists once it serves; None: it is run to its end."""

    name: str
    argv: tuple[str, ...]
    environment: Mapping[str, str]
    ready: Path | None


def set_up(
    plan: ForeignPlan,
    directory: Path,
    texts: Mapping[str, str],
    secrets: Mapping[str, bytes],
    programs: Sequence[Program],
) -> None:
    """Addresses, files and programs, in this order. Raises Fault for a program that fails or does not serve in time."""
    wiring.give_router_its_underlay(plan)
    files.make_directory(directory)
    files.make_directory(LOGS)
    for name, text in texts.items():
        files.make_directory((directory / name).parent)
        files.write(directory / name, text)
    for name, content in secrets.items():
        files.make_directory((directory / name).parent)
        files.write_secret(directory / name, content)
    for program in programs:
        if program.ready is None:
            process.run(program.argv, timeout_s=START_LIMIT_S, env=program.environment)
        else:
            _start(program, program.ready)


def _start(program: Program, ready: Path) -> None:
    log = LOGS / f"{program.name}.log"
    with log.open("wb") as output:
        child = subprocess.Popen(
            program.argv,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            cwd="/",
            env={**os.environ, **program.environment},
            # The handlers of the process that joined are not the daemon's.
            preexec_fn=lambda: signal.signal(signal.SIGTERM, signal.SIG_DFL),
        )
    deadline = time.monotonic() + patience(START_LIMIT_S)
    while not ready.exists():
        if child.poll() is not None or time.monotonic() > deadline:
            said = files.read_text(log).strip().splitlines()
            raise Fault(program.name, f"does not serve: {said[-1] if said else 'it said nothing'}")
        time.sleep(PAUSE_S)
