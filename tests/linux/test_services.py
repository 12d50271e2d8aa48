"""Our supervisor with real processes: started in order, restarted, reloaded, stopped, and gone with it."""

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pytest

from dmvpn.linux.services import ServiceFault, ServiceStatus, State, Supervised

WAIT_S = 20.0


@dataclass(frozen=True)
class Unit:
    name: str
    argv: tuple[str, ...]
    package: str = "coreutils"
    daemon: bool = True
    reload: tuple[str, ...] = ()
    stop: tuple[str, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()
    ready: PurePosixPath | None = None
    binds: tuple[tuple[PurePosixPath, PurePosixPath], ...] = ()
    start_timeout_s: float = 10.0


@pytest.fixture
def services(tmp_path: Path) -> Iterator[Supervised]:
    kept = Supervised("t", tmp_path / "run")
    yield kept
    kept.shut_down()


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not true():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.01)


def row(services: Supervised, name: str) -> ServiceStatus:
    return next(row for row in services.status() if row.name == name)


def alive(pid: int | None) -> bool:
    assert pid is not None
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def sleeper(name: str, **fields: object) -> Unit:
    return Unit(name, ("sleep", "1000"), **fields)  # type: ignore[arg-type]


def shell(script: str) -> tuple[str, ...]:
    return ("sh", "-c", script)


def test_services_start_in_order_and_stop_in_reverse(services: Supervised, tmp_path: Path) -> None:
    log = tmp_path / "order"
    units = [
        Unit(
            name,
            shell(f"echo +{name} >> {log}; touch {tmp_path / name}; exec sleep 1000"),
            ready=PurePosixPath(tmp_path / name),
            stop=shell(f"echo -{name} >> {log}"),
        )
        for name in ("a", "b", "c")
    ]
    assert services.apply(units).started == ("a", "b", "c")
    assert [(row.name, row.state) for row in services.status()] == [(n, State.READY) for n in ("a", "b", "c")]
    pids = [row.pid for row in services.status()]
    services.shut_down()
    assert log.read_text().split() == ["+a", "+b", "+c", "-c", "-b", "-a"]
    assert not any(alive(pid) for pid in pids)
    assert services.status() == ()


def test_a_ready_path_left_by_an_earlier_process_does_not_count(services: Supervised, tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    ready.write_text("stale")
    unit = sleeper("a", ready=PurePosixPath(ready), start_timeout_s=0.3)
    with pytest.raises(ServiceFault, match=r"a: was not ready within 0\.3 s"):
        services.apply([unit])


def test_a_daemon_that_dies_is_started_again_with_back_off(services: Supervised, tmp_path: Path) -> None:
    services.apply([sleeper("a")])
    first = row(services, "a").pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    until(lambda: row(services, "a").restarts == 1 and row(services, "a").state is State.READY)
    again = row(services, "a")
    assert again.pid != first
    assert again.last_exit == "signal 9"


def test_a_daemon_whose_restart_fails_is_started_again_when_it_can(services: Supervised, tmp_path: Path) -> None:
    able = tmp_path / "able"
    able.touch()
    services.apply([Unit("a", shell(f"test -e {able} || exit 3; exec sleep 1000"))])
    able.unlink()
    with pytest.raises(ServiceFault, match="status 3"):
        services.restart("a")
    able.touch()
    until(lambda: row(services, "a").state is State.READY)
    able.unlink()
    with pytest.raises(ServiceFault, match="status 3"):
        services.restart("a")
    services.stop("a")
    able.touch()
    time.sleep(0.5)
    assert row(services, "a").state is State.STOPPED


@pytest.mark.parametrize("victim", ["supervisor", "all"])
def test_nothing_outlives_a_killed_supervisor(services: Supervised, tmp_path: Path, victim: str) -> None:
    # A grandchild in a session of its own, and a process that changed its user: neither has a parent death signal.
    pids = tmp_path / "pids"
    drop = "import os, time; os.setuid(65534); time.sleep(1000)"
    units = [
        Unit("grandchild", shell("setsid sleep 1001 & exec sleep 1000")),
        Unit("changed-user", ("python", "-c", drop)),
    ]
    if os.geteuid() != 0:
        pytest.skip("needs root: PID namespace")
    services.apply(units)
    pids_alive = [row.pid for row in services.status()]
    keeper = int(Path(f"/proc/{pids_alive[0]}/stat").read_text().rsplit(")", 1)[1].split()[1])
    everyone = _below(keeper)
    assert len(everyone) >= 3
    os.kill(keeper, signal.SIGKILL)
    until(lambda: not any(alive(pid) for pid in everyone))
    assert services.status() == ()
    assert not pids.exists()
    assert services.apply([sleeper("a")]).started == ("a",)


def _below(pid: int) -> list[int]:
    found = []
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        found += [int(child), *_below(int(child))]
    return found


def test_sigterm_to_the_supervisor_stops_everything_in_order(services: Supervised, tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    services.apply([sleeper("a", stop=shell(f"touch {gone}"))])
    pid = row(services, "a").pid
    keeper = int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
    os.kill(keeper, signal.SIGTERM)
    until(lambda: not alive(keeper))
    assert gone.exists()
    assert not alive(pid)


def test_a_one_shot_runs_to_its_end_and_again_on_a_change(services: Supervised, tmp_path: Path) -> None:
    log = tmp_path / "log"
    one = Unit("net", shell(f"echo apply >> {log}"), daemon=False, stop=shell(f"echo remove >> {log}"))
    assert services.apply([one, sleeper("a")]).started == ("net", "a")
    assert row(services, "net").state is State.READY
    assert services.apply([one, sleeper("a")]) == services.apply([one, sleeper("a")])
    assert services.apply([one, sleeper("a")], restart={"net"}).restarted == ("net",)
    assert services.apply([sleeper("a")]).stopped == ("net",)
    assert log.read_text().split() == ["apply", "apply", "remove"]


def test_reload_is_the_units_own_or_sighup(services: Supervised, tmp_path: Path) -> None:
    own, hup, trapped = tmp_path / "own", tmp_path / "hup", tmp_path / "trapped"
    trap = shell(f"trap 'touch {hup}' HUP; touch {trapped}; while :; do sleep 0.05; done")
    units = [sleeper("a", reload=("touch", str(own))), Unit("b", trap, ready=trapped)]
    services.apply(units)
    before = [row.pid for row in services.status()]
    assert services.apply(units, reload={"a", "b"}).reloaded == ("a", "b")
    assert own.exists()
    until(hup.exists)
    assert [row.pid for row in services.status()] == before


def test_what_who_started_us_ignores_is_not_ignored_by_services(services: Supervised, tmp_path: Path) -> None:
    hup, trapped = tmp_path / "hup", tmp_path / "trapped"
    unit = Unit("a", shell(f"trap 'touch {hup}' HUP; touch {trapped}; while :; do sleep 0.05; done"), ready=trapped)
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as after nohup(1)
    try:
        services.apply([unit])
    finally:
        signal.signal(signal.SIGHUP, before)
    services.apply([unit], reload={"a"})
    until(hup.exists)


def test_a_changed_command_line_restarts_and_a_changed_time_limit_does_not(services: Supervised) -> None:
    services.apply([sleeper("a"), sleeper("b")])
    changed = [sleeper("a", start_timeout_s=3.0), Unit("b", ("sleep", "999"))]
    assert services.apply(changed).restarted == ("b",)


@pytest.mark.parametrize(
    ("unit", "fault"),
    [
        pytest.param(
            Unit("a", ("nosuch", "x"), package="nosuch-tools"),
            "nosuch: no such program on this machine; install the Debian package nosuch-tools",
            id="program missing",
        ),
        pytest.param(
            Unit("a", shell("echo no such key >&2; exit 3")),
            "a: ended with status 3 while it started: no such key; see LOG",
            id="daemon that ends",
        ),
        pytest.param(
            Unit("a", shell("echo bad line 7; exit 1"), daemon=False),
            "a: start ended with status 1: bad line 7; see LOG",
            id="one-shot that refuses",
        ),
        pytest.param(
            Unit("a", ("sleep", "1000"), daemon=False, start_timeout_s=0.2),
            "a: start did not end within 0.2 s; see LOG",
            id="one-shot that hangs",
        ),
    ],
)
def test_a_service_that_does_not_start_says_why(services: Supervised, unit: Unit, fault: str) -> None:
    with pytest.raises(ServiceFault) as caught:
        services.apply([sleeper("first"), unit, sleeper("never")])
    assert str(caught.value) == fault.replace("LOG", str(services.log("a")))
    assert caught.value.applied.started == ("first", "a")
    assert [(row.name, row.state) for row in services.status()] == [("first", State.READY), ("a", State.FAILED)]


@pytest.mark.kernel
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: mount namespace")
def test_run_dir_is_its_run_and_nobody_elses(services: Supervised, tmp_path: Path) -> None:
    private = tmp_path / "private"
    unit = Unit(
        "a",
        shell("touch /run/mark-of-a; exec sleep 1000"),
        binds=((PurePosixPath(private), PurePosixPath("/run")),),
        ready=PurePosixPath(private / "mark-of-a"),
    )
    services.apply([unit, sleeper("b")])
    assert (private / "mark-of-a").exists()
    assert not Path("/run/mark-of-a").exists()


def test_environment_is_the_units_and_not_the_callers(
    services: Supervised, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_OF_THE_CALLER", "1")
    out = tmp_path / "env"
    services.apply([Unit("a", shell(f"env > {out}"), daemon=False, environment=(("FROM_UNIT", "x y"),))])
    lines = out.read_text().splitlines()
    assert "FROM_UNIT=x y" in lines
    assert not any(line.startswith("SECRET") for line in lines)


def test_output_goes_to_a_log_that_stays_bounded(services: Supervised, tmp_path: Path) -> None:
    script = "import sys; sys.stdout.write('x' * 3_000_000)"
    services.apply([Unit("a", (sys.executable, "-c", script), daemon=False), sleeper("b")])
    until(lambda: services.log("a").stat().st_size <= 1024 * 1024)
    assert services.log("a").with_suffix(".log.1").stat().st_size == 1024 * 1024


def test_the_socket_is_for_its_owner_only(services: Supervised) -> None:
    services.apply([sleeper("a")])
    assert services.control.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "line", [b"{}", b"[]", b"nonsense", b'{"op":"apply","services":[{"name":"../x"}]}', b'{"op":1}']
)
def test_a_wrong_request_is_refused_and_nothing_ends(services: Supervised, line: bytes) -> None:
    services.apply([sleeper("a")])
    with services._connect() as connection:
        connection.sendall(line + b"\n")
        assert b'"ok": false' in connection.recv(4096)
    assert row(services, "a").state is State.READY
