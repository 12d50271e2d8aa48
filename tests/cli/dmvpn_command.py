"""The command as an operator calls it: a process, its status, what it said and where."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
LIMIT_S = 60
ENVIRONMENT = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", "HOME": "/nonexistent"}


@dataclass(frozen=True, slots=True)
class Done:
    status: int
    out: str
    err: str


def dmvpn(*argv: str, cwd: Path = ROOT, environment: dict[str, str] | None = None) -> Done:
    done = subprocess.run(
        [sys.executable, "-m", "dmvpn.cli.main", *argv],
        cwd=cwd,
        env={**ENVIRONMENT, **(environment or {})},
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    return Done(done.returncode, done.stdout, done.stderr)
