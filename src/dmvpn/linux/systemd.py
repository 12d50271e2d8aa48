"""Services kept by systemd: files under /etc/systemd/system, and systemctl(1). What they say is not known here."""

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dmvpn.errors import Fault
from dmvpn.linux import files, process
from dmvpn.linux.process import ProcessFault
from dmvpn.linux.service_jobs import Jobs
from dmvpn.linux.services import Applied, Service, ServiceFault, ServiceStatus, State
from dmvpn.linux.supervisor_child import make_places

UNITS = Path("/etc/systemd/system")
BOOTED = Path("/run/systemd/system")  # sd_booted(3)

_JOB_S = 400.0  # the units' own time limits are what counts
_ASK_S = 20.0
_FACTS = ("Id", "ActiveState", "SubState", "MainPID", "NRestarts", "ExecMainCode", "ExecMainStatus")
_STAMP = "StateChangeTimestampMonotonic"

Describe = Callable[[Sequence[Service]], Mapping[str, str]]


@dataclass(frozen=True, slots=True)
class Systemd(Jobs):
    """The services of one network. `describe` gives every unit file by name, in starting order, the target last."""

    network: str
    describe: Describe
    units: Path = UNITS

    @property
    def target(self) -> str:
        return f"dmvpn-{self.network}.target"

    @property
    def boot(self) -> str:
        return f"dmvpn-{self.network}-boot.service"

    def apply(
        self, services: Sequence[Service], *, restart: Collection[str] = (), reload: Collection[str] = ()
    ) -> Applied:
        stopped = self._stop_others(services)
        if not services:
            self._forget()
            return Applied(stopped=stopped)
        changed = self.install(services)
        self._control("enable", "--quiet", self.target, self.boot)
        states = {row.name: row.state for row in self.status()}
        applied = self._serve(
            services,
            stopped,
            is_ready=lambda name: states.get(name) is State.READY,
            restart={*restart, *(name.removesuffix(".service") for name in changed)},
            reload={*restart, *reload},
        )
        self._control("start", self.target)
        return applied

    def install(self, services: Sequence[Service]) -> frozenset[str]:
        """Write the unit files that are not there as described; their names. Nothing starts or stops. Raises Fault."""
        wanted = self.describe(services)
        for service in services:
            with files.faults(self.units):
                make_places(tuple((Path(source), Path(place)) for source, place in service.binds))
        changed = {name for name, text in wanted.items() if self._text(name) != text}
        for name in changed:
            files.write(self.units / name, wanted[name])
        gone = [path for path in self.installed() if path.name not in wanted]
        for path in gone:
            files.remove(path)
        if changed or gone:
            self._control("daemon-reload")
        return frozenset(changed)

    def installed(self) -> tuple[Path, ...]:
        """Our unit files, whatever revision they are of."""
        found = [*self.units.glob(f"dmvpn-{self.network}-*.service"), *self.units.glob(self.target)]
        return tuple(sorted(path for path in found if self._is_ours(path)))

    def begin(self) -> None:
        """Have everything started, without waiting: the machine may just come up. Raises ServiceFault."""
        self._control("start", "--no-block", self.target)

    def status(self) -> tuple[ServiceStatus, ...]:
        names = self._names()
        if not names:
            return ()
        argv = (
            "systemctl",
            "show",
            f"--property={','.join((*_FACTS, _STAMP))}",
            *(f"{name}.service" for name in names),
        )
        shown = process.run(argv, timeout_s=_ASK_S, package="systemd").text
        blocks = [dict(line.partition("=")[::2] for line in block.splitlines()) for block in shown.split("\n\n")]
        return tuple(_row(block) for block in blocks if "Id" in block)

    def log(self, name: str) -> str:
        return f"journalctl -u {name}"

    def _names(self) -> tuple[str, ...]:
        """In starting order, as the target that we wrote lists them."""
        lines = self._text(self.target).splitlines()
        names = [line.removeprefix("Wants=").removesuffix(".service") for line in lines if line.startswith("Wants=")]
        return tuple(names)

    def _text(self, name: str) -> str:
        path = self.units / name
        return files.read_text(path) if path.is_file() else ""

    def _is_ours(self, path: Path) -> bool:
        # Network acme must not take what belongs to network acme-2.
        return path.name == self.target or f"PartOf={self.target}" in self._text(path.name).splitlines()

    def _stop_others(self, services: Sequence[Service]) -> tuple[str, ...]:
        wanted = {service.name for service in services}
        others = [row.name for row in reversed(self.status()) if row.name not in wanted]
        if others:
            self._control("stop", *(f"{name}.service" for name in others))
        return tuple(others)

    def _forget(self) -> None:
        """Take the unit files away; nothing of ours starts at boot then."""
        ours = self.installed()
        if not ours:
            return
        self._control("stop", self.target, self.boot)
        self._control("disable", "--quiet", self.target, self.boot)
        for path in ours:
            files.remove(path)
        self._control("daemon-reload")
        # Units that failed are remembered by name until somebody says so.
        process.run(("systemctl", "reset-failed", *(path.name for path in ours)), timeout_s=_ASK_S, accept=range(256))

    def _bring_up(self, name: str) -> None:
        """Also one that systemd is about to start again by itself."""
        self._job("restart" if self._is_failing(name) else "start", name)

    def _is_failing(self, name: str) -> bool:
        return any(row.name == name and row.state is State.FAILED for row in self.status())

    def _job(self, verb: str, name: str, /) -> None:
        argv = ("systemctl", verb, f"{name}.service")
        try:
            process.run(argv, timeout_s=_JOB_S, package="systemd")
        except ProcessFault as fault:
            raise ServiceFault(
                name, f"{verb} failed: {self._last_words(name) or fault.what}", self.log(name)
            ) from fault

    def _control(self, *words: str) -> None:
        try:
            process.run(("systemctl", *words), timeout_s=_JOB_S, package="systemd")
        except ProcessFault as fault:
            raise ServiceFault("systemd", fault.what, f"see `systemctl status {self.target}`") from fault

    def _last_words(self, name: str) -> str:
        """The end of what it said in this life, where there is a journal."""
        try:
            asked = process.run(
                ("systemctl", "show", "--property=InvocationID", "--value", f"{name}.service"), timeout_s=_ASK_S
            )
            match = f"_SYSTEMD_INVOCATION_ID={asked.text.strip()}"
            said = process.run(("journalctl", "--quiet", "--output=cat", "--lines=8", match), timeout_s=_ASK_S)
        except Fault:
            return ""
        return process.shown(said.stdout)


def _row(facts: Mapping[str, str]) -> ServiceStatus:
    code, status = facts.get("ExecMainCode", "0"), facts.get("ExecMainStatus", "0")
    ended = {"1": f"status {status}", "2": f"signal {status}", "3": f"signal {status}"}.get(code, "")
    changed_s = int(facts.get(_STAMP) or 0) / 1e6
    pid = int(facts.get("MainPID") or 0)
    name = facts["Id"].removesuffix(".service")
    return ServiceStatus(
        name=name,
        state=_state(facts["ActiveState"], facts["SubState"]),
        pid=pid or None,
        since=time.time() - (time.monotonic() - changed_s),
        restarts=int(facts.get("NRestarts") or 0),
        last_exit=ended,
        log=f"journalctl -u {name}",
    )


def _state(active: str, sub: str) -> State:
    if active in ("active", "reloading"):
        return State.READY
    if active == "failed" or sub.startswith("auto-restart"):
        return State.FAILED
    return State.RUNNING if active == "activating" else State.STOPPED
