"""Processes that must keep running: one interface, whoever keeps them. Here by our supervisor, for labs and containers;
systemd.py and openrc.py have the others, keepers.py the choice.

The supervisor is a process of its own (`dmvpn.linux.supervisor`) with a Unix socket: one JSON object a line, request
and reply. It takes a set of services, starts them in order, restarts what dies, and ends when nothing is left to keep.
"""

import json
import os
import select
import socket
import subprocess
import sys
import time
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path, PurePosixPath
from typing import Any, Protocol, Self

from dmvpn.errors import Fault
from dmvpn.linux.pace import patience

MESSAGE_LIMIT_OCTETS = 4 * 1024 * 1024
SUPERVISOR_START_S = 15.0
_ANSWER_S = 600.0  # the services' own time limits are what counts


class Service(Protocol):
    """What must be known of a unit to keep it; the renderers' Unit has these fields, with their meaning."""

    @property
    def name(self) -> str: ...
    @property
    def argv(self) -> tuple[str, ...]: ...
    @property
    def package(self) -> str: ...
    @property
    def daemon(self) -> bool: ...
    @property
    def reload(self) -> tuple[str, ...]: ...
    @property
    def stop(self) -> tuple[str, ...]: ...
    @property
    def environment(self) -> tuple[tuple[str, str], ...]: ...
    @property
    def ready(self) -> PurePosixPath | None: ...
    @property
    def binds(self) -> tuple[tuple[PurePosixPath, PurePosixPath], ...]: ...
    @property
    def start_timeout_s(self) -> float: ...


@dataclass(frozen=True, slots=True)
class Kept:
    """A Service as it travels to the supervisor, in JSON."""

    name: str
    argv: tuple[str, ...]
    package: str
    daemon: bool
    reload: tuple[str, ...]
    stop: tuple[str, ...]
    environment: tuple[tuple[str, str], ...]
    ready: PurePosixPath | None
    binds: tuple[tuple[PurePosixPath, PurePosixPath], ...]
    start_timeout_s: float

    @classmethod
    def of(cls, service: Service) -> Self:
        return cls(**{field: getattr(service, field) for field in cls.__dataclass_fields__})

    def to_json(self) -> dict[str, Any]:
        binds = [[str(source), str(place)] for source, place in self.binds]
        return {**asdict(self), "ready": self.ready and str(self.ready), "binds": binds}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Self:
        """Raises Fault for anything that to_json() does not write."""
        try:
            return cls(
                name=_name(value["name"]),
                argv=_words(value["argv"]),
                package=str(value["package"]),
                daemon=bool(value["daemon"]),
                reload=_words(value["reload"]),
                stop=_words(value["stop"]),
                environment=tuple((str(key), str(word)) for key, word in value["environment"]),
                ready=PurePosixPath(value["ready"]) if value["ready"] else None,
                binds=tuple((PurePosixPath(source), PurePosixPath(place)) for source, place in value["binds"]),
                start_timeout_s=float(value["start_timeout_s"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise Fault("services", f"not the description of a service: {error!r}") from error


def _name(value: object) -> str:
    """A name becomes a file name under the log directory."""
    if not isinstance(value, str) or not value or value.startswith(".") or "/" in value or len(value) > 64:
        raise ValueError(f"service name {value!r}")
    return value


def _words(value: object) -> tuple[str, ...]:
    if not isinstance(value, list | tuple) or not all(isinstance(word, str) and "\0" not in word for word in value):
        raise ValueError(f"argument list {value!r}")
    return tuple(value)


def runs_alike(one: Service, other: Service) -> bool:
    """Whether a process started for one serves for the other; the rest of a description can change under it."""
    return (one.daemon, one.argv, one.environment, one.binds) == (
        other.daemon,
        other.argv,
        other.environment,
        other.binds,
    )


class State(StrEnum):
    """`running`: started, not serving yet. `ready`: serving, or a one-shot that did its work."""

    RUNNING = "running"
    READY = "ready"
    FAILED = "failed"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class ServiceStatus:
    """One service now. `pid` is as /proc shows it; `since` is Unix time of the last change; `last_exit` is in words.

    `log` is a file, or the command that shows it.
    """

    name: str
    state: State
    pid: int | None
    since: float
    restarts: int
    last_exit: str
    log: Path | str


@dataclass(frozen=True, slots=True)
class Applied:
    """What an apply did, in the order in which it did it."""

    stopped: tuple[str, ...] = ()
    started: tuple[str, ...] = ()
    restarted: tuple[str, ...] = ()
    reloaded: tuple[str, ...] = ()


class ServiceFault(Fault):
    """A service that could not be brought where it should be. `applied` is what had been done before it."""

    def __init__(self, where: str, what: str, fix: str = "", applied: Applied | None = None) -> None:
        self.applied = applied or Applied()
        super().__init__(where, what, fix)


class Services(Protocol):
    """Whoever keeps the services: systemd, OpenRC, or our supervisor. Every verb returns when the services serve."""

    def apply(
        self, services: Sequence[Service], *, restart: Collection[str] = (), reload: Collection[str] = ()
    ) -> Applied:
        """Keep exactly these, in this order: stop what is not among them (last first), start what is not running or is
        described otherwise than before, then restart or reload the named ones. An empty set ends everything.

        Raises ServiceFault at the first service that fails; those after it are left as they were.
        """

    def start(self, name: str) -> None: ...
    def stop(self, name: str) -> None: ...
    def restart(self, name: str) -> None: ...
    def reload(self, name: str) -> None: ...
    def status(self) -> tuple[ServiceStatus, ...]:
        """One row for each, in order; empty when nothing is kept. Raises Fault when nobody can tell."""

    def log(self, name: str) -> Path | str: ...


@dataclass(frozen=True, slots=True)
class Resting:
    """Services of which none runs, while what they would read is changed; nobody is started."""

    keeper: Services

    def apply(
        self, services: Sequence[Service], *, restart: Collection[str] = (), reload: Collection[str] = ()
    ) -> Applied:
        return Applied()

    def start(self, name: str) -> None:
        """Whoever wants them starts them."""

    def stop(self, name: str) -> None:
        """It does not run."""

    def restart(self, name: str) -> None:
        """It reads its files when it is started."""

    def reload(self, name: str) -> None:
        """It reads its files when it is started."""

    def status(self) -> tuple[ServiceStatus, ...]:
        return ()

    def log(self, name: str) -> Path | str:
        return self.keeper.log(name)


@dataclass(frozen=True, slots=True)
class Supervised:
    """Services kept by our supervisor; `run` is the directory of its socket, lock and logs."""

    network: str
    run: Path

    @property
    def control(self) -> Path:
        return self.run / "supervisor.sock"

    def apply(
        self, services: Sequence[Service], *, restart: Collection[str] = (), reload: Collection[str] = ()
    ) -> Applied:
        request = {
            "op": "apply",
            "services": [Kept.of(service).to_json() for service in services],
            "restart": sorted(restart),
            "reload": sorted(reload),
        }
        if services:
            self._ensure_running()
        elif not self._is_running():
            return Applied()
        return _applied(self._ask(request))

    def start(self, name: str) -> None:
        self._ask({"op": "start", "name": name})

    def stop(self, name: str) -> None:
        self._ask({"op": "stop", "name": name})

    def restart(self, name: str) -> None:
        self._ask({"op": "restart", "name": name})

    def reload(self, name: str) -> None:
        self._ask({"op": "reload", "name": name})

    def status(self) -> tuple[ServiceStatus, ...]:
        if not self._is_running():
            return ()
        rows = self._ask({"op": "status"})["services"]
        return tuple(
            ServiceStatus(**{**row, "state": State(row["state"]), "log": self.log(row["name"])}) for row in rows
        )

    def log(self, name: str) -> Path:
        return self.run / "log" / f"{name}.log"

    def shut_down(self) -> None:
        """Stop everything, last first, and the supervisor with it."""
        self.apply(())

    def _is_running(self) -> bool:
        try:
            self._connect().close()
        except Fault:
            return False
        return True

    def _connect(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.settimeout(_ANSWER_S)
            connection.connect(str(self.control))
        except OSError as error:
            connection.close()
            raise Fault("supervisor", f"{self.control}: {error.strerror or error}", "run `dmvpn apply`") from error
        return connection

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        with self._connect() as connection:
            try:
                connection.sendall(json.dumps(request).encode() + b"\n")
                with connection.makefile("rb") as replies:
                    line = replies.readline(MESSAGE_LIMIT_OCTETS)
                    reply = json.loads(line)
                    if reply.get("ending"):
                        replies.read(1)  # until it has gone: the next start must not meet it
            except (OSError, ValueError, AttributeError) as error:
                raise Fault("supervisor", "ended before it answered", f"read {self.log('supervisor')}") from error
        if not reply.get("ok"):
            raise ServiceFault(reply["where"], reply["what"], reply["fix"], _applied(reply))
        return dict(reply)

    def _ensure_running(self) -> None:
        if self._is_running():
            return
        log = self.log("supervisor")
        log.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
        ours, theirs = os.pipe()
        try:
            with log.open("ab") as output:
                argv = (sys.executable, "-m", "dmvpn.linux.supervisor", self.network, str(self.run), str(theirs))
                child = subprocess.Popen(
                    argv,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    pass_fds=(theirs,),
                    start_new_session=True,
                    cwd="/",
                )
            os.close(theirs)
            theirs = -1
            self._await_word(ours, child)
        finally:
            os.close(ours)
            if theirs >= 0:
                os.close(theirs)

    def _await_word(self, pipe: int, child: subprocess.Popen[bytes]) -> None:
        """The supervisor says `ready` once its socket listens; the process we started then ends, its child stays."""
        deadline = time.monotonic() + patience(SUPERVISOR_START_S)
        word = b""
        while time.monotonic() < deadline:
            if not select.select((pipe,), (), (), max(0.0, deadline - time.monotonic()))[0]:
                break
            octets = os.read(pipe, 4096)
            if not octets:
                break
            word += octets
        with suppress(subprocess.TimeoutExpired):
            child.wait(max(0.1, deadline - time.monotonic()))
        if word.strip() != b"ready":
            said = word.decode(errors="replace").strip() or f"gave no sign of life, see {self.log('supervisor')}"
            raise Fault("supervisor", said)


def _applied(reply: dict[str, Any]) -> Applied:
    return Applied(**{key: tuple(names) for key, names in reply["applied"].items()})
