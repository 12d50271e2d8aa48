"""What the supervisor does to its services: start, watch, restart with back-off, stop. The loop is in supervisor.py.

A job is a generator: each `yield` means "look again when a child ended or a moment has passed". One job runs at a time;
meanwhile deaths are noted and other services are restarted.
"""

import os
import signal
import time
from collections.abc import Collection, Generator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from dmvpn.errors import Fault
from dmvpn.linux.pace import patience
from dmvpn.linux.process import SEARCH_PATH, find, shown
from dmvpn.linux.services import Applied, Kept, ServiceFault, State, runs_alike
from dmvpn.linux.supervisor_child import Bind, Child, spawn

BACKOFF_FIRST_S = 0.2
BACKOFF_LAST_S = 5.0
LONG_LIFE_S = 30.0  # a process that lived this long starts its back-off anew
SETTLE_S = 0.25  # a daemon without a `ready` path must live this long
STOP_S = 10.0  # between SIGTERM and SIGKILL; charon says goodbye to its peers
LOG_LIMIT_OCTETS = 1024 * 1024
_TAIL_OCTETS = 4096

Job = Generator[None, None, None]
Stamp = tuple[int, int] | None


@dataclass(slots=True)
class Entry:
    """One service and how it is now. Times with `_at` are of the monotonic clock, `since` is Unix time."""

    service: Kept
    state: State = State.STOPPED
    child: Child | None = None
    since: float = 0.0
    restarts: int = 0
    last_exit: str = ""
    wanted: bool = False  # keep it alive; false while a job holds it
    touched: bool = False  # was begun since it was last stopped, so there may be something to undo
    started_at: float = 0.0
    backoff_s: float = BACKOFF_FIRST_S
    retry_at: float | None = None
    stale: Stamp = None  # the `ready` path as an earlier process left it
    log_from: int = 0

    def become(self, state: State) -> None:
        self.state = state
        self.since = time.time()

    @property
    def works(self) -> bool:
        return self.child is not None if self.service.daemon else self.state is State.READY


@dataclass(slots=True)
class Done:
    """Applied while it grows."""

    stopped: list[str] = field(default_factory=list)
    started: list[str] = field(default_factory=list)
    restarted: list[str] = field(default_factory=list)
    reloaded: list[str] = field(default_factory=list)

    def applied(self) -> Applied:
        return Applied(tuple(self.stopped), tuple(self.started), tuple(self.restarted), tuple(self.reloaded))


class Keeper:
    """Keeps services. `logs` is the directory of their output."""

    def __init__(self, logs: Path) -> None:
        self.logs = logs
        self.entries: dict[str, Entry] = {}
        self._exits: dict[int, int] = {}  # programs that a job waits for

    # --- jobs

    def apply(self, services: Sequence[Kept], restart: Collection[str], reload: Collection[str], done: Done) -> Job:
        """Services.apply(); `done` tells what was done, also after a ServiceFault."""
        names = {service.name for service in services}
        for name in [name for name in reversed(self.entries) if name not in names]:
            yield from self.stop(self.entries[name])
            del self.entries[name]
            done.stopped.append(name)
        for service in services:
            entry = self.entries.setdefault(service.name, Entry(service))
            if not entry.works:
                entry.service = service
                done.started.append(service.name)
                yield from self.start(entry)
            elif not runs_alike(entry.service, service):
                done.restarted.append(service.name)
                yield from self.stop(entry)
                entry.service = service
                yield from self.start(entry)
            else:
                entry.service = service
                yield from self._renew(entry, restart, reload, done)
        self.entries = {service.name: self.entries[service.name] for service in services}

    def _renew(self, entry: Entry, restart: Collection[str], reload: Collection[str], done: Done) -> Job:
        name = entry.service.name
        if name in restart:
            done.restarted.append(name)
            yield from self.restart(entry, keep=False)  # whoever changes it goes back then, and starts it
        elif name in reload:
            done.reloaded.append(name)
            yield from self.reload(entry)

    def start(self, entry: Entry) -> Job:
        """Start it and wait until it serves; a one-shot until it has ended. Raises ServiceFault."""
        if entry.works:
            return
        service = entry.service
        entry.wanted = False
        entry.retry_at = None
        entry.last_exit = ""
        entry.touched = True
        try:
            if service.daemon:
                self._spawn(entry)
                yield from self._serving(entry)
                entry.wanted = True
                entry.backoff_s = BACKOFF_FIRST_S
            else:
                entry.become(State.RUNNING)
                yield from self._run(entry, service.argv, "start")
            entry.become(State.READY)
        except Fault as fault:
            if entry.child is not None:
                yield from self._end(entry)
            entry.become(State.FAILED)
            entry.last_exit = entry.last_exit or fault.what
            raise

    def stop(self, entry: Entry) -> Job:
        """Stop it, as it says itself (`stop`) and then by signals. Its own words failing is noted, not raised."""
        entry.wanted = False
        entry.retry_at = None
        if entry.service.stop and entry.touched:
            try:
                yield from self._run(entry, entry.service.stop, "stop")
            except ServiceFault as fault:
                entry.last_exit = fault.what
        if entry.child is not None:
            yield from self._end(entry)
        entry.touched = False
        entry.become(State.STOPPED)

    def restart(self, entry: Entry, *, keep: bool = True) -> Job:
        """A daemon stops and starts; a one-shot does its work again. Raises ServiceFault.

        `keep`: a daemon that was kept alive is kept further; after the fault it is started again, with back-off.
        """
        if not entry.service.daemon and entry.works:
            yield from self.reload(entry)
            return
        was_wanted = keep and entry.wanted
        yield from self.stop(entry)
        try:
            yield from self.start(entry)
        except Fault:
            if was_wanted:
                entry.wanted = True
                self._retry(entry)
            raise

    def reload(self, entry: Entry) -> Job:
        """By its `reload`; without one a daemon gets SIGHUP and a one-shot runs again. Raises ServiceFault."""
        service = entry.service
        if not entry.works:
            raise ServiceFault(service.name, "is not running, so it cannot reload", "start it")
        if service.daemon and not service.reload:
            assert entry.child is not None
            os.kill(entry.child.pid, signal.SIGHUP)
            return
        yield from self._run(entry, service.reload or service.argv, "reload")

    def stop_all(self) -> Job:
        for entry in reversed(self.entries.values()):
            yield from self.stop(entry)

    # --- the loop's calls

    def reap(self) -> None:
        """Collect every child that ended, adopted orphans included."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            code = os.waitstatus_to_exitcode(status)
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, signal.SIGKILL)  # what it left behind
            for entry in self.entries.values():
                if entry.child is not None and entry.child.pid == pid:
                    self._died(entry, code)
                    break
            else:
                if pid in self._exits:
                    self._exits[pid] = code

    def tick(self) -> None:
        """Restart what is due; see who serves now."""
        now = time.monotonic()
        for entry in self.entries.values():
            if not entry.wanted:
                continue
            if entry.retry_at is not None and now >= entry.retry_at:
                entry.retry_at = None
                entry.restarts += 1
                try:
                    self._spawn(entry)
                except (Fault, OSError) as error:
                    entry.last_exit = str(error)
                    self._retry(entry)
            elif entry.state is State.RUNNING and entry.child is not None:
                if self._serves(entry):
                    entry.become(State.READY)
                elif now > entry.started_at + patience(entry.service.start_timeout_s):
                    os.kill(entry.child.pid, signal.SIGKILL)  # the back-off takes it from here

    def next_s(self) -> float:
        """Seconds until tick() has something to do."""
        now = time.monotonic()
        waits = [5.0]
        for entry in self.entries.values():
            if entry.retry_at is not None:
                waits.append(max(0.0, entry.retry_at - now))
            if entry.wanted and entry.state is State.RUNNING:
                waits.append(0.05)
        return min(waits)

    def bound_logs(self) -> None:
        """Keep each log under 1 MiB and one old one beside it. All writers append, so truncating loses no place."""
        for log in self.logs.glob("*.log"):
            if log.stat().st_size > LOG_LIMIT_OCTETS:
                with log.open("r+b") as file:
                    file.seek(-LOG_LIMIT_OCTETS, os.SEEK_END)
                    log.with_suffix(".log.1").write_bytes(file.read(LOG_LIMIT_OCTETS))
                    file.truncate(0)

    # --- one process

    def _died(self, entry: Entry, code: int) -> None:
        entry.child = None
        entry.last_exit = f"status {code}" if code >= 0 else f"signal {-code}"
        if entry.wanted:
            if time.monotonic() - entry.started_at >= LONG_LIFE_S:
                entry.backoff_s = BACKOFF_FIRST_S
            self._retry(entry)

    def _retry(self, entry: Entry) -> None:
        entry.become(State.FAILED)
        entry.retry_at = time.monotonic() + entry.backoff_s
        entry.backoff_s = min(entry.backoff_s * 2, BACKOFF_LAST_S)

    def _spawn(self, entry: Entry) -> None:
        service = entry.service
        entry.stale = _stamp(service)
        binds = tuple((Path(source), Path(place)) for source, place in service.binds)
        entry.child = self._fork(entry, service.argv, binds)
        entry.started_at = time.monotonic()
        entry.become(State.RUNNING)

    def _fork(self, entry: Entry, argv: tuple[str, ...], binds: tuple[Bind, ...] = ()) -> Child:
        service = entry.service
        log = self.logs / f"{service.name}.log"
        entry.log_from = log.stat().st_size if log.exists() else 0
        # A system user's environment, and no more: what started the supervisor must not leak into its services.
        environment: Mapping[str, str] = {
            "PATH": os.pathsep.join(SEARCH_PATH),
            "LANG": "C.UTF-8",
            "HOME": "/root",
            **dict(service.environment),
        }
        resolved = (find(argv[0], service.package), *argv[1:])
        return spawn(resolved, environment=environment, output=log, binds=binds)

    def _serving(self, entry: Entry) -> Job:
        while not self._serves(entry):
            if entry.child is None:
                raise self._fault(entry, f"ended with {entry.last_exit} while it started")
            if time.monotonic() > entry.started_at + patience(entry.service.start_timeout_s):
                raise self._fault(entry, f"was not ready within {entry.service.start_timeout_s:g} s")
            yield

    def _serves(self, entry: Entry) -> bool:
        if entry.child is None:
            return False
        if entry.service.ready is None:
            return time.monotonic() > entry.started_at + SETTLE_S
        stamp = _stamp(entry.service)
        return stamp is not None and stamp != entry.stale

    def _run(self, entry: Entry, argv: tuple[str, ...], verb: str) -> Job:
        """Run a program of the service to its end. Raises ServiceFault."""
        child = self._fork(entry, argv)
        self._exits[child.pid] = _RUNNING
        try:
            deadline = time.monotonic() + patience(entry.service.start_timeout_s)
            while self._exits[child.pid] == _RUNNING:
                if time.monotonic() > deadline:
                    os.killpg(child.pid, signal.SIGKILL)
                    raise self._fault(entry, f"{verb} did not end within {entry.service.start_timeout_s:g} s")
                yield
            status = self._exits[child.pid]
            if status != 0:
                ended = f"status {status}" if status > 0 else f"signal {-status}"
                raise self._fault(entry, f"{verb} ended with {ended}")
        finally:
            del self._exits[child.pid]

    def _end(self, entry: Entry) -> Job:
        assert entry.child is not None
        group = entry.child.pid
        os.kill(group, signal.SIGTERM)
        deadline = time.monotonic() + STOP_S
        while entry.child is not None:
            if time.monotonic() > deadline:
                os.killpg(group, signal.SIGKILL)
                deadline += STOP_S
            yield

    def _fault(self, entry: Entry, what: str) -> ServiceFault:
        log = self.logs / f"{entry.service.name}.log"
        said = ""
        with suppress(OSError), log.open("rb") as file:
            file.seek(max(entry.log_from, log.stat().st_size - _TAIL_OCTETS))
            said = shown(file.read(_TAIL_OCTETS))
        return ServiceFault(entry.service.name, what + (f": {said}" if said else ""), f"see {log}")


_RUNNING = -1_000_000  # no exit status


def _stamp(service: Kept) -> Stamp:
    """Which file the `ready` path is now: a socket that a killed process left is not the new one's."""
    if service.ready is None:
        return None
    try:
        facts = Path(service.ready).stat()
    except OSError:
        return None
    return facts.st_ino, facts.st_ctime_ns
