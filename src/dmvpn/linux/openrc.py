"""Services kept by OpenRC: scripts in /etc/init.d, and rc-service(8). What is in the scripts is not known here."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dmvpn.linux import files, process
from dmvpn.linux.process import ProcessFault
from dmvpn.linux.service_jobs import Jobs
from dmvpn.linux.services import Applied, Service, ServiceFault, ServiceStatus, State

SCRIPTS = Path("/etc/init.d")
RUNLEVEL = Path("/etc/runlevels/default")
BOOTED = Path("/run/openrc/softlevel")
PIDS = Path("/run")  # supervise-daemon's own, and its child's by /proc

_JOB_S = 400.0
_FILE_MODE = 0o755
# rc-service NAME status: openrc-run(8)
_STATES = {0: State.READY, 3: State.STOPPED, 8: State.RUNNING, 32: State.FAILED}

Describe = Callable[[Sequence[Service]], Mapping[str, str]]


@dataclass(frozen=True, slots=True)
class OpenRC(Jobs):
    """The services of one network. `describe` gives every script by name, in starting order."""

    network: str
    describe: Describe
    scripts: Path = SCRIPTS

    def apply(
        self, services: Sequence[Service], *, restart: Collection[str] = (), reload: Collection[str] = ()
    ) -> Applied:
        stopped = self._stop_others(services)
        changed = self.install(services)
        return self._serve(
            services,
            stopped,
            is_ready=lambda name: self._state(name) is State.READY,
            restart={*restart, *changed},
            reload={*restart, *reload},
        )

    def install(self, services: Sequence[Service]) -> frozenset[str]:
        """Write the scripts that are not there as described, and have them started at boot; the changed ones' names."""
        wanted = self.describe(services)
        there = {path.name: path for path in self.installed()}
        changed = {name for name, text in wanted.items() if name not in there or files.read_text(there[name]) != text}
        for name in changed:
            files.write(self.scripts / name, wanted[name], mode=_FILE_MODE)
        for name in [name for name in there if name not in wanted]:
            files.remove(RUNLEVEL / name)
            files.remove(there[name])
        for name in wanted:
            if not (RUNLEVEL / name).is_symlink():
                self._control("rc-update", "--quiet", "add", name, "default")
        return frozenset(changed)

    def installed(self) -> tuple[Path, ...]:
        """Our scripts in starting order; network acme must not take what belongs to network acme-2."""
        found = {path.name: path for path in self.scripts.glob(f"dmvpn-{self.network}-*") if self._is_ours(path)}
        after = {_before(path): name for name, path in found.items()}
        ordered, name = [], after.get("")
        while name is not None:
            ordered.append(found.pop(name))
            name = after.get(name) if after.get(name) in found else None
        return (*ordered, *found.values())

    def begin(self) -> None:
        """Have everything started, without waiting: OpenRC goes on to the others by itself."""

    def status(self) -> tuple[ServiceStatus, ...]:
        names = [path.name for path in self.installed() if not path.name.endswith("-boot")]
        return tuple(
            ServiceStatus(
                name=name,
                state=self._state(name),
                pid=_child_of(name),
                since=0.0,
                restarts=0,
                last_exit="",
                log=self.log(name),
            )
            for name in names
        )

    def log(self, name: str) -> Path:
        return Path("/run/dmvpn") / self.network / "log" / f"{name}.log"

    def _is_ours(self, path: Path) -> bool:
        return f"/run/dmvpn/{self.network}/" in files.read_text(path) or path.name == f"dmvpn-{self.network}-boot"

    def _state(self, name: str) -> State:
        if not (self.scripts / name).exists():
            return State.STOPPED
        status = process.run(("rc-service", name, "status"), timeout_s=_JOB_S, accept=range(256)).status
        return _STATES.get(status, State.FAILED)

    def _stop_others(self, services: Sequence[Service]) -> tuple[str, ...]:
        wanted = {service.name for service in services}
        others = [row.name for row in reversed(self.status()) if row.name not in wanted]
        for name in others:
            self._job("--ifstarted", name, "stop")
        if not services and (self.scripts / f"dmvpn-{self.network}-boot").exists():
            self._job("--ifstarted", f"dmvpn-{self.network}-boot", "stop")
        return tuple(others)

    def _job(self, verb: str, name: str, /, *more: str) -> None:
        argv = ("rc-service", verb, name, *more) if more else ("rc-service", name, verb)
        try:
            process.run(argv, timeout_s=_JOB_S, package="openrc")
        except ProcessFault as fault:
            raise ServiceFault(name, f"{verb} failed: {fault.what}", f"see {self.log(name)}") from fault

    def _control(self, *argv: str) -> None:
        try:
            process.run(argv, timeout_s=_JOB_S, package="openrc")
        except ProcessFault as fault:
            raise ServiceFault("openrc", fault.what) from fault


def _before(script: Path) -> str:
    """What a script of ours starts after, beside the net; empty for the first."""
    lines = (line.split() for line in files.read_text(script).splitlines())
    return next((words[2] for words in lines if words[:2] == ["after", "net"] and len(words) > 2), "")


def _child_of(name: str) -> int | None:
    """The daemon below its supervise-daemon, whose own pid file says where to look."""
    try:
        keeper = int((PIDS / f"supervise-{name}.pid").read_text())
        children = Path(f"/proc/{keeper}/task/{keeper}/children").read_text().split()
    except (OSError, ValueError):
        return None
    return int(children[0]) if children else None
