"""`python -m dmvpn.linux.ready PATH SECONDS`: end when the path exists. For keepers that know no such waiting.

systemd says in MAINPID whose path it is (systemd.exec(5)): once that one is gone there is nothing to wait for.
"""

import os
import sys
import time
from pathlib import Path

from dmvpn.linux.pace import patience

POLL_S = 0.02


def main(arguments: list[str]) -> int:
    """The exit status: 0 it is there, 1 it did not come in time."""
    path, limit_s = Path(arguments[0]), float(arguments[1])
    deadline = time.monotonic() + patience(limit_s)
    process = Path("/proc", os.environ.get("MAINPID", "self"))
    while not path.exists():
        if not process.exists():
            return 1
        if time.monotonic() > deadline:
            sys.stderr.write(f"{path} did not appear within {limit_s:g} s\n")
            return 1
        time.sleep(POLL_S)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
