"""However a lab ends, nothing of it stays behind."""

import json
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from lab_plans import DEMO, demo

from dmvpn.errors import Fault
from dmvpn.lab import lifecycle, state
from dmvpn.lab.node import LabNode
from dmvpn.lab.running import find

pytestmark = [pytest.mark.kernel, pytest.mark.lab]
HERE = Path(__file__).parent

# A command that keeps a lab, as `lab run` does; it says "up", or which step of the way it is at.
OWNER = """
import signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from lab_plans import demo
from dmvpn.lab import lifecycle
network, plans = demo()
say = lambda what: print(what, flush=True)
with lifecycle.held(network.lab, plans, name=sys.argv[2], file="demo", base=Path(sys.argv[1]),
                    report=lambda step: say(step.what)) as lab:
    lab.node("osl1").call(lambda: __import__("subprocess").Popen(["sleep", "1000"], start_new_session=True).pid)
    say("up")
    signal.pause()
"""

# A command in a container whose first process reaps nobody: orphans stay as this one's unreaped children.
REAPS_NOBODY = """
import signal, sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from lab_plans import demo
from dmvpn.errors import Fault
from dmvpn.lab import lifecycle
from dmvpn.linux.supervisor_child import become_subreaper
network, plans = demo()
with lifecycle.held(network.lab, plans, name="orphans", file="demo", base=Path(sys.argv[1])) as lab:
    become_subreaper()
    node = lab.node("osl1")
    node.start(("sleep", "1000")).stop(signal_number=signal.SIGKILL)
    node.start(("sh", "-c", "trap : TERM; while :; do sleep 0.1; done")).stop(grace_s=0.2)
    try:
        node.call(lambda: time.sleep(1000), timeout_s=0.2)
    except Fault as fault:
        print(fault)
"""


def wait_for(condition: Callable[[], bool], what: str, limit_s: float = 15.0) -> None:
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {limit_s} s: {what}"
        select.select([], [], [], 0.02)


def start_owner(base: Path, name: str, until: str = "up") -> subprocess.Popen[str]:
    argv = (sys.executable, "-c", OWNER, str(base), name, str(HERE))
    owner = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
    assert owner.stdout is not None
    for line in owner.stdout:
        if until in line:
            return owner
    raise AssertionError(owner.communicate()[1])


def processes_of(pid_namespace: str) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and str((entry / "ns/pid").readlink()) == pid_namespace:
                found.append(int(entry.name))
        except OSError:
            continue  # it ended while we looked
    return found


def pid_namespace_of(base: Path, name: str) -> str:
    keeper = json.loads((base / name / state.DESCRIPTION).read_text())["keeper"]
    return str(Path(f"/proc/{keeper}/ns/pid").readlink())


def finish(owner: subprocess.Popen[str]) -> None:
    owner.communicate(timeout=20)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_a_kept_lab_dies_with_its_command(tmp_path: Path, number: signal.Signals) -> None:
    owner = start_owner(tmp_path, "kept")
    inside = pid_namespace_of(tmp_path, "kept")
    assert len(processes_of(inside)) >= 2  # the keeper, a daemon; and a relay without netem
    owner.send_signal(number)
    finish(owner)
    wait_for(lambda: not processes_of(inside), "every process of the lab is gone")
    state.sweep(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("until", ["nodes", "links"])
def test_a_command_killed_on_the_way_up_leaves_nothing(tmp_path: Path, until: str) -> None:
    owner = start_owner(tmp_path, "early", until)
    owner.kill()
    finish(owner)
    # The lock is the keeper's: once it can be had, the keeper and all it started are gone.
    wait_for(
        lambda: state.sweep(tmp_path) is not None and not list(tmp_path.iterdir()), "the keeper let go of its lock"
    )


def test_a_lab_ends_where_nobody_reaps_orphans(tmp_path: Path) -> None:
    argv = (sys.executable, "-c", REAPS_NOBODY, str(tmp_path), str(HERE))
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "osl1: was not done within 0.2 s" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_removes_the_directory_at_once(tmp_path: Path) -> None:
    owner = start_owner(tmp_path, "stopped")
    owner.send_signal(signal.SIGINT)
    finish(owner)
    assert list(tmp_path.iterdir()) == []


def test_a_detached_lab_outlives_its_command_until_down(tmp_path: Path) -> None:
    network, plans = demo()
    lifecycle.up(network.lab, plans, name="stays", file=str(DEMO), base=tmp_path)
    inside = pid_namespace_of(tmp_path, "stays")
    lab = find("stays", tmp_path)
    assert lab.node("osl1").run(("hostname",)).text == "osl1\n"
    with pytest.raises(Fault, match="lab stays: is up already"):
        lifecycle.up(network.lab, plans, name="stays", file=str(DEMO), base=tmp_path)
    lab.down()
    assert processes_of(inside) == []
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(Fault, match="lab stays: is not up"):
        find("stays", tmp_path)


def test_a_detached_lab_does_not_hold_its_commands_output(tmp_path: Path) -> None:
    """`dmvpn lab up FILE | cat` must end, whatever the routers' daemons and the relay inherited."""
    script = OWNER.replace("lifecycle.held(", "contextlib.nullcontext(lifecycle.up(").replace(
        "report=lambda step: say(step.what))", "report=lambda step: say(step.what)))"
    )
    script = "import contextlib\n" + script.replace("    signal.pause()\n", "")
    argv = (sys.executable, "-c", script, str(tmp_path), "piped", str(HERE))
    done = subprocess.run(argv, capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout.endswith("up\n")
    assert done.stderr == ""
    find("piped", tmp_path).down()


def test_a_router_that_cannot_be_configured_takes_the_lab_down(tmp_path: Path) -> None:
    network, plans = demo()

    def refuse(node: LabNode) -> None:
        if node.name == "par1":
            raise Fault("charon", "is missing", "install the package")

    with (
        pytest.raises(Fault) as caught,
        lifecycle.held(network.lab, plans, name="half", file=str(DEMO), configure=refuse, base=tmp_path),
    ):
        pytest.fail("the lab came up")
    assert str(caught.value) == "par1: charon: is missing; install the package"
    assert list(tmp_path.iterdir()) == []


def test_the_host_sees_no_mount_and_no_device_of_a_lab(tmp_path: Path) -> None:
    before = (Path("/proc/self/mountinfo").read_text(), sorted(Path("/sys/class/net").iterdir()))
    network, plans = demo()
    with lifecycle.held(network.lab, plans, name="unseen", file=str(DEMO), base=tmp_path):
        during = (Path("/proc/self/mountinfo").read_text(), sorted(Path("/sys/class/net").iterdir()))
    assert during == before
