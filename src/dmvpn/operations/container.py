"""`dmvpn run` as a container's main process: starts the services, shows their words, reaps, and ends them when told."""

import os
import signal
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from dmvpn.errors import Fault
from dmvpn.linux.services import Supervised
from dmvpn.operations import change, keeping
from dmvpn.operations.here import Here

LOOK_S = 1.0
SHOWN_OCTETS = 64 * 1024  # of one log at once: what somebody floods is in the file

_ENDING = (signal.SIGTERM, signal.SIGINT)


class _Told(BaseException):
    """Told to end while the services were still starting."""


def is_init() -> bool:
    """Whether there is nobody who would keep us: then nothing may be left to run by itself."""
    return os.getpid() == 1


def keep(here: Here, say: Callable[[str], None]) -> None:
    """Returns when SIGTERM or SIGINT has stopped everything. Raises Fault if nothing was applied or all died."""
    services = keeping.of(here)
    if not isinstance(services, Supervised):
        raise Fault(here.network, f"its services are kept by {keeping.remembered(here)}", "leave --foreground out")
    for number in _ENDING:
        signal.signal(number, _told)  # PID 1 has no default for it
    try:
        revision, undone = change.start(here)
        # From here on they are waited for; the supervisor, started above, must not inherit that.
        signal.pthread_sigmask(signal.SIG_BLOCK, (*_ENDING, signal.SIGCHLD))
    except _Told:
        change.stop(here)
        return
    if revision is None:
        raise Fault(here.network, "nothing was ever applied", "run `dmvpn apply FILE` first")
    say(f"{here.network}: revision {revision} runs" + (f"; {undone}" if undone else ""))
    _notify("READY=1")
    logs = _Logs(Path(here.layout.run) / "log")
    while True:
        told = signal.sigtimedwait((*_ENDING, signal.SIGCHLD), LOOK_S)
        _reap()
        for line in logs.new():
            say(line)
        if told is not None and told.si_signo in _ENDING:
            break
        if not services.status():
            raise Fault(here.network, "its supervisor is gone, and all services with it", "see the log above")
    _notify("STOPPING=1")
    _end(here, logs, say)


def _end(here: Here, logs: "_Logs", say: Callable[[str], None]) -> None:
    undone = change.stop(here)
    for line in logs.new():
        say(line)
    if undone is not None:
        say(undone.words)
    say(f"{here.network}: stopped")


def _told(*_: object) -> NoReturn:
    raise _Told


def _reap() -> None:
    """Orphans of the whole container become PID 1's."""
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _notify(word: str) -> None:
    """sd_notify(3), which podman and systemd understand; whoever did not ask hears nothing."""
    path = os.environ.get("NOTIFY_SOCKET", "")
    if not path:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as door, suppress(OSError):
        door.sendto(word.encode(), "\0" + path[1:] if path.startswith("@") else path)


class _Logs:
    """What the services said since the last look."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._read: dict[Path, int] = {path: path.stat().st_size for path in self._files()}

    def _files(self) -> list[Path]:
        return sorted(self._directory.glob("*.log"))

    def new(self) -> list[str]:
        lines: list[str] = []
        for path in self._files():
            with suppress(OSError), path.open("rb") as file:
                size = os.fstat(file.fileno()).st_size
                begin = self._read.get(path, 0)
                if size < begin:  # bounded meanwhile: truncated
                    begin = 0
                file.seek(max(begin, size - SHOWN_OCTETS))
                octets = file.read(SHOWN_OCTETS)
                self._read[path] = file.tell()
                lines += [f"{path.stem}: {line}" for line in octets.decode(errors="replace").splitlines()]
        return lines
