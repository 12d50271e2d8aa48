"""What a container has that a machine has not: a first process that reaps nobody, as in `docker run IMAGE sleep`."""

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NETWORK = ROOT / "examples" / "minimal.yaml"

# The first process only waits for its one child, whose orphans nobody reaps.
FIRST = """
import os, subprocess, sys
sys.exit(subprocess.run(sys.argv[1:]).returncode)
"""
INSIDE = """
set -e
mkdir -p /run/dmvpn-lab
mount -t tmpfs tmpfs /run/dmvpn-lab
dmvpn lab up "$1" >/dev/null
dmvpn lab exec par1 true
dmvpn lab down
"""


@pytest.mark.lab
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root for labs")
def test_a_lab_ends_where_the_first_process_reaps_nobody(tmp_path: Path) -> None:
    python = str(ROOT / ".venv/bin/python")
    alone = ("unshare", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child", "--propagation", "private")
    done = subprocess.run(
        [*alone, python, "-c", FIRST, "bash", "-c", INSIDE, "inside", str(NETWORK)],
        env={**os.environ, "PATH": f"{ROOT}/.venv/bin:{os.environ['PATH']}", "NO_COLOR": "1"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "lab acme is down\n", "")
