"""`python -m dmvpn.daemon.gateway SOCKET FILE LOST`: whether this router may have the site's gateway.

It asks dmvpnd once a second and keeps a number in the file that keepalived watches: 0 while a tunnel works and routes
came by it, LOST (a negative number) otherwise. Back from that only after some seconds in which both stayed: a router
that has just started, or whose tunnel flaps, takes the gateway from nobody.

A dmvpnd that does not answer, or does not know yet, says nothing about tunnels, which outlive it; but not for ever. So
does the file outlive this process: a new one goes on with what stands there.
"""

import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dmvpn.daemon.control import ask
from dmvpn.errors import Fault
from dmvpn.linux import files

LOOK_S = 1.0
ANSWER_LIMIT_S = 5.0
STEADY_S = 3.0
SILENCE_S = 60.0
GOOD = "0"


@dataclass(slots=True)
class Standing:
    """What the router may offer, from what is seen of it. Times are of a monotonic clock, in seconds."""

    good: bool = False
    since: float | None = None  # since when it works, without a pause
    heard: float | None = None  # when dmvpnd last said anything

    def see(self, now: float, *, works: bool | None) -> bool:
        """Whether it may have the gateway. None: dmvpnd did not say."""
        if works is None:
            self.since = None
            self.good = self.good and self.heard is not None and now - self.heard < SILENCE_S
            return self.good
        self.heard = now
        if not works:
            self.since, self.good = None, False
            return False
        self.since = now if self.since is None else self.since
        self.good = self.good or now - self.since >= STEADY_S
        return self.good


def begin(file: Path, now: float) -> Standing:
    """What the process before this one has left. keepalived writes the file too, when it starts: LOST."""
    good = _read(file) == GOOD
    return Standing(good=good, heard=now if good else None)


def meaning(answer: Any) -> bool | None:
    """What dmvpnd's answer to `working` says."""
    try:
        tunnel, routes = answer["tunnel"], answer["routes"]
    except (TypeError, KeyError):
        return None
    return None if tunnel is None else bool(tunnel) and bool(routes)


def _works(socket: Path) -> bool | None:
    try:
        return meaning(ask(socket, {"ask": "working"}, timeout_s=ANSWER_LIMIT_S))
    except Fault:
        return None


def _read(file: Path) -> str:
    try:
        return files.read_text(file, limit_octets=64).strip()
    except Fault:
        return ""


def _keep(file: Path, number: str) -> None:
    if _read(file) != number:
        # In place: keepalived watches this very file.
        file.write_text(f"{number}\n")


def main(arguments: list[str]) -> int:
    """Runs until it is ended."""
    socket, file, lost = Path(arguments[0]), Path(arguments[1]), str(int(arguments[2]))
    standing = begin(file, time.monotonic())
    while True:
        good = standing.see(time.monotonic(), works=_works(socket))
        try:
            _keep(file, GOOD if good else lost)
        except OSError as error:
            sys.stderr.write(f"{file}: {error.strerror}\n")
        time.sleep(LOOK_S)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
