"""Our supervisor: `python -m dmvpn.linux.supervisor NETWORK RUN READY_FD`, started by services.Supervised.

It is PID 1 of a PID namespace of its own, so that whatever ends it, kill -9 included, ends all it started: the kernel
sees to that, also for daemons that change their user. Without that permission the parent death signal has to do.
One process with one thread and few imports: it runs in every router of a lab.
"""

import fcntl
import json
import os
import selectors
import signal
import socket
import sys
import time
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, NoReturn

from dmvpn.errors import Fault
from dmvpn.linux.services import MESSAGE_LIMIT_OCTETS, Kept
from dmvpn.linux.supervisor_child import CLONE_NEWPID, become_subreaper, unshare
from dmvpn.linux.supervisor_keeper import Done, Entry, Job, Keeper

POLL_S = 0.02  # while a job waits for a path to appear
LOGS_S = 5.0
CLIENTS = 32


class Supervisor:
    """The loop: signals, clients, the one job in hand."""

    def __init__(self, listener: socket.socket, logs: Path) -> None:
        self.keeper = Keeper(logs)
        self.ending = False
        self._listener = listener
        self._selector = selectors.DefaultSelector()
        self._buffers: dict[socket.socket, bytes] = {}
        self._queue: list[tuple[Job, Done, socket.socket | None]] = []
        self._logs_at = 0.0
        self._terminated = False

    def run(self) -> None:
        """Serve until told to end."""
        awake, wakes = os.pipe()
        for end in (awake, wakes):
            os.set_blocking(end, False)
        signal.set_wakeup_fd(wakes, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._terminate)
        self._selector.register(awake, selectors.EVENT_READ)
        self._selector.register(self._listener, selectors.EVENT_READ)
        while not (self.ending and not self._queue):
            for key, _ in self._selector.select(POLL_S if self._queue else self.keeper.next_s()):
                self._on_ready(key.fileobj, awake)
            self.keeper.reap()
            self._abandon()
            self._advance()
            self.keeper.tick()
            if time.monotonic() > self._logs_at:
                self._logs_at = time.monotonic() + LOGS_S
                with suppress(OSError):
                    self.keeper.bound_logs()

    def _terminate(self, *_: object) -> None:
        self._terminated = True  # a handler runs anywhere, so the loop does the rest

    def _abandon(self) -> None:
        """SIGTERM: whatever is in hand ends here, then everything stops."""
        if not self._terminated or self.ending:
            return
        for job, done, connection in self._queue:
            job.close()
            self._refuse(connection, Fault("supervisor", "was told to end"), done)
        self.ending = True
        self._queue = [(self.keeper.stop_all(), Done(), None)]

    def _on_ready(self, ready: object, awake: int) -> None:
        if ready is self._listener:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            if len(self._buffers) >= CLIENTS:
                connection.close()
                return
            connection.settimeout(1.0)
            self._buffers[connection] = b""
            self._selector.register(connection, selectors.EVENT_READ)
        elif isinstance(ready, socket.socket):
            self._read(ready)
        else:
            with suppress(BlockingIOError):
                os.read(awake, 4096)

    def _read(self, connection: socket.socket) -> None:
        try:
            octets = connection.recv(65536)
        except OSError:
            octets = b""
        *lines, rest = (self._buffers[connection] + octets).split(b"\n")
        if not octets or len(rest) > MESSAGE_LIMIT_OCTETS:
            self._close(connection)
            return
        self._buffers[connection] = rest
        for line in lines:
            try:
                self._take(json.loads(line), connection)
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                self._refuse(connection, Fault("supervisor", f"not a request: {error!r}"), Done())
            except Fault as fault:
                self._refuse(connection, fault, Done())

    def _close(self, connection: socket.socket) -> None:
        self._selector.unregister(connection)
        del self._buffers[connection]
        connection.close()

    def _take(self, request: dict[str, Any], connection: socket.socket) -> None:
        done = Done()
        keeper = self.keeper
        match request["op"]:
            case "status":
                rows = [_row(entry) for entry in keeper.entries.values()]
                self._reply(connection, {"ok": True, "services": rows})
                return
            case "apply":
                services = [Kept.from_json(value) for value in request["services"]]
                if len({service.name for service in services}) < len(services):
                    raise Fault("supervisor", "two services have the same name")
                job = self._apply(services, set(request["restart"]), set(request["reload"]), done)
            case "start":
                job = keeper.start(self._entry(request))
            case "stop":
                job = keeper.stop(self._entry(request))
            case "restart":
                job = keeper.restart(self._entry(request))
            case "reload":
                job = keeper.reload(self._entry(request))
            case other:
                raise Fault("supervisor", f"knows no verb {other!r}")
        self._queue.append((job, done, connection))

    def _apply(self, services: list[Kept], restart: set[str], reload: set[str], done: Done) -> Job:
        yield from self.keeper.apply(services, restart, reload, done)
        self.ending = not services  # a supervisor with nothing to keep has no reason to stay

    def _entry(self, request: dict[str, Any]) -> Entry:
        name = request["name"]
        entry = self.keeper.entries.get(name)
        if entry is None:
            raise Fault(str(name), "is not one of the services", ", ".join(self.keeper.entries))
        return entry

    def _advance(self) -> None:
        """Let the first job go on; the next one begins when it has ended."""
        while self._queue:
            job, done, connection = self._queue[0]
            try:
                next(job)
            except StopIteration:
                self._queue.pop(0)
                applied = asdict(done.applied())
                self._reply(connection, {"ok": True, "applied": applied, "ending": self.ending})
            except Fault as fault:
                self._queue.pop(0)
                self._refuse(connection, fault, done)
            except OSError as error:  # no memory, no descriptors: one job fails, the services stay
                self._queue.pop(0)
                self._refuse(connection, Fault("supervisor", str(error)), done)
            else:
                return

    def _refuse(self, connection: socket.socket | None, fault: Fault, done: Done) -> None:
        applied = asdict(done.applied())
        said = {"ok": False, "where": fault.where, "what": fault.what, "fix": fault.fix, "applied": applied}
        _note(str(fault))
        self._reply(connection, said)

    def _reply(self, connection: socket.socket | None, reply: dict[str, Any]) -> None:
        if connection is None or connection not in self._buffers:
            return  # it went away; the work counts, not the answer
        try:
            connection.sendall(json.dumps(reply).encode() + b"\n")
        except OSError:
            self._close(connection)


def _row(entry: Entry) -> dict[str, Any]:
    return {
        "name": entry.service.name,
        "state": entry.state,
        "pid": entry.child.shown_pid if entry.child else None,
        "since": entry.since,
        "restarts": entry.restarts,
        "last_exit": entry.last_exit,
    }


def _note(text: str) -> None:
    stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    sys.stderr.write(f"{stamp} {text}\n")
    sys.stderr.flush()


def _detach() -> None:
    """Go on as PID 1 of a new PID namespace; the process that was started ends."""
    if os.getpid() == 1:
        return
    try:
        unshare(CLONE_NEWPID)
    except PermissionError:
        become_subreaper()
        _note("no PID namespace permitted: services of a killed supervisor end by their parent death signal alone")
    if os.fork():
        os._exit(0)


def _locked(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True


def _serve(run: Path, word: int) -> None:
    logs = run / "log"
    logs.mkdir(parents=True, exist_ok=True)
    # The lock says that a supervisor lives; its socket alone does not, as a killed one leaves it.
    lock = os.open(run / "supervisor.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    path = run / "supervisor.sock"
    while not _locked(lock):
        if _listens(path):
            os.write(word, b"ready\n")  # another one was quicker: it will do
            return
        time.sleep(POLL_S)  # it begins or ends; whoever started us has the time limit
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        mask = os.umask(0o177)
        listener.bind(str(path))
        os.umask(mask)
        listener.listen(CLIENTS)
        os.write(word, b"ready\n")
        os.close(word)
        try:
            Supervisor(listener, logs).run()
        finally:
            path.unlink(missing_ok=True)


def run(arguments: list[str]) -> NoReturn:
    """Entry point: the network's name (for whoever reads a process list), the run directory, where to say `ready`."""
    _network, run_directory, word = arguments
    _detach()
    try:
        _serve(Path(run_directory), int(word))
    except OSError as error:
        os.write(int(word), str(error).encode())
        raise SystemExit(1) from error
    raise SystemExit(0)


if __name__ == "__main__":
    run(sys.argv[1:])
