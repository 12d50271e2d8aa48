"""The keeper of a virtual machine and the agent in its guest, with a process of this host in the guest's place.

What is between the two, a serial line of qemu's, is a socket here; tests/vm has the real thing.
"""

import hashlib
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from dmvpn.errors import Fault
from dmvpn.lab import state, vm, vm_image, vm_keeper, vm_kvm, vm_library
from dmvpn.lab.vm import Machine
from dmvpn.lab.vm_command import Command
from dmvpn.lab.vm_wire import WINDOW, Frame, Kind, Reader, saying

pytestmark = [pytest.mark.kernel, pytest.mark.lab]
GUEST = """
import socket, sys
from dmvpn.lab.vm_agent import Agent
line = socket.socket(socket.AF_UNIX)
line.connect(sys.argv[1])
line.setblocking(True)
Agent(line.fileno()).run()
"""


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    """As vm.held, without qemu."""
    claim = state.claim("pretended", tmp_path)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(claim.directory / state.MACHINE_SOCKET))
        listener.listen(16)
        argv = (sys.executable, "-c", GUEST, str(claim.directory / vm_keeper.AGENT_SOCKET))
        pid, control = vm_keeper.start(argv, claim.directory, listener, claim.lock)
    claim.hand_over()
    assert select.select([control], [], [], 20)[0]
    assert control.recv(1000).startswith(b"ready ")
    state.describe(
        claim.directory, {"machine": {"keeper": pid, "kernel": os.uname().release, "why_emulated": "it pretends"}}
    )
    found = vm.find("pretended", tmp_path)
    assert found is not None
    yield found
    found.down()
    control.close()
    assert not claim.directory.exists()


def whole(command: Command) -> tuple[int, bytes, bytes]:
    """Status, output and errors of a program that reads nothing."""
    said = {Kind.OUTPUT: b"", Kind.ERRORS: b""}
    try:
        for frame in command.frames():
            if frame.kind is Kind.EXIT:
                return frame.number(), said[Kind.OUTPUT], said[Kind.ERRORS]
            said[frame.kind] += frame.content
    finally:
        command.close()
    raise AssertionError("no end")


def lines(command: Command) -> Iterator[bytes]:
    for frame in command.frames():
        if frame.kind is Kind.OUTPUT:
            yield from frame.content.splitlines()


def is_gone(pid: int) -> bool:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.02)
    return False


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        pytest.param("echo out; echo err >&2; exit 7", (7, b"out\n", b"err\n"), id="both outputs and the status"),
        pytest.param("kill -TERM $$", (143, b"", b""), id="ended by a signal"),
        pytest.param("cat", (0, b"", b""), id="no input"),
        pytest.param("sleep 100 & echo left", (0, b"left\n", b""), id="what it leaves running does not hold it"),
        pytest.param("pwd", (0, b"/\n", b""), id="the directory"),
        pytest.param('echo "$DMVPN_PACE"', (0, b"8\n", b""), id="how slow it is"),
    ],
)
def test_a_program_runs_as_if_it_were_here(machine: Machine, script: str, expected: tuple[int, bytes, bytes]) -> None:
    assert whole(machine.command(("sh", "-c", script), cwd=Path("/"))) == expected


def test_a_missing_program_is_a_fault_and_no_end(machine: Machine) -> None:
    with pytest.raises(Fault, match="nosuch: no such file"):
        whole(machine.command(("nosuch",)))
    assert whole(machine.command(("true",)))[0] == 0


def test_output_is_seen_when_it_is_written(machine: Machine) -> None:
    command = machine.command(("sh", "-c", "echo first; exec sleep 100"))
    assert next(lines(command)) == b"first"
    command.close()


def test_input_and_output_larger_than_the_window_pass_whole(machine: Machine) -> None:
    octets = os.urandom(1024) * (4 * WINDOW // 1024)
    reader, writer = os.pipe()
    feeder = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdout.buffer.write(sys.stdin.buffer.read())"],
                              stdin=subprocess.PIPE, stdout=writer)  # fmt: skip
    os.close(writer)
    assert feeder.stdin is not None
    feeder.stdin.write(octets)
    feeder.stdin.close()
    command = machine.command(("cat",))
    got = hashlib.sha256()
    for frame in command.frames(reader):
        if frame.kind is Kind.OUTPUT:
            got.update(frame.content)
    assert got.digest() == hashlib.sha256(octets).digest()
    assert feeder.wait() == 0
    os.close(reader)
    command.close()


def test_a_command_that_reads_nothing_holds_up_no_other(machine: Machine) -> None:
    stuck = machine.command(("cat", "/dev/zero"))
    frames = stuck.frames()
    next(frames)
    assert whole(machine.command(("echo", "here"))) == (0, b"here\n", b"")
    stuck.close()


def test_many_at_once(machine: Machine) -> None:
    commands = [machine.command(("sh", "-c", f"sleep 0.1; echo {number}; exit {number}")) for number in range(12)]
    for command in commands:
        command.start()
    for number, command in enumerate(commands):
        assert whole(command) == (number, f"{number}\n".encode(), b"")


def test_ctrl_c_reaches_the_program(machine: Machine) -> None:
    command = machine.command(("sh", "-c", "trap 'echo caught; exit 5' INT; echo ready; while :; do sleep 0.05; done"))
    said = []
    for frame in command.frames():
        if frame.kind is Kind.EXIT:
            break
        said += frame.content.split()
        if frame.content == b"ready\n":
            command.signal(signal.SIGINT)
    assert said == [b"ready", b"caught"]
    assert frame.number() == 5
    command.close()


def test_who_goes_takes_the_program_along(machine: Machine) -> None:
    words = f"sleep\0{100_000 + os.getpid()}\0"
    command = machine.command(("sh", "-c", f"echo ready; exec {words[:-1]}".replace("\0", " ")))
    assert next(lines(command)) == b"ready"
    pid = next(pid for _ in range(500) if (pid := _running(words)))
    command.close()
    assert is_gone(pid)


def _running(words: str) -> int:
    """The process with this command line; 0 for none yet."""
    time.sleep(0.02)
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            if path.read_text() == words:
                return int(path.parent.name)
    return 0


def test_a_terminal_there_is_a_terminal(machine: Machine) -> None:
    command = machine.command(("sh", "-c", "test -t 0 && stty size; read line; echo got $line"))
    command.start(os.terminal_size((91, 33)))
    reader, writer = os.pipe()
    os.write(writer, b"words\r")
    said = b"".join(frame.content for frame in command.frames(reader) if frame.kind is Kind.OUTPUT)
    assert b"33 91\r\n" in said
    assert b"got words\r\n" in said
    command.close()
    os.close(reader)
    os.close(writer)


def test_ctrl_c_on_a_terminal_is_a_key(machine: Machine) -> None:
    command = machine.command(("sh", "-c", "trap 'echo caught; exit 5' INT; echo ready; while :; do sleep 0.05; done"))
    command.start(os.terminal_size((80, 24)))
    reader, writer = os.pipe()
    status = 0
    for frame in command.frames(reader):
        if b"ready" in frame.content:
            os.write(writer, b"\x03")
        if frame.kind is Kind.EXIT:
            status = frame.number()
    assert status == 5
    command.close()
    os.close(reader)
    os.close(writer)


def test_a_machine_that_ended_says_so(machine: Machine) -> None:
    command = machine.command(("sleep", "100"))
    command.start()
    os.kill(machine.keeper_pid, signal.SIGKILL)
    os.waitpid(machine.keeper_pid, 0)
    with pytest.raises(Fault, match="it ended"):
        whole(command)


def test_a_kernel_that_ends_at_once_is_told_with_its_last_words(tmp_path: Path) -> None:
    claim = state.claim("broken", tmp_path)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(claim.directory / state.MACHINE_SOCKET))
        listener.listen(1)
        argv = ("/bin/sh", "-c", "echo Kernel panic, as an example; exit 1")
        pid, control = vm_keeper.start(argv, claim.directory, listener, claim.lock)
    claim.hand_over()
    assert select.select([control], [], [], 20)[0]
    assert control.recv(4000) == b"fault its kernel ended: Kernel panic, as an example"
    control.close()
    os.waitpid(pid, 0)
    state.sweep(tmp_path)
    assert list(tmp_path.iterdir()) == []


RUBBISH = """
import socket, sys, time
from dmvpn.lab.vm_wire import Kind, saying
line = socket.socket(socket.AF_UNIX)
line.connect(sys.argv[1])
line.sendall(saying(0, Kind.READY, {}).octets() * 2 + b"rubbish, and more of it")
time.sleep(100)
"""


def test_a_guest_that_says_rubbish_ends_the_machine(tmp_path: Path) -> None:
    claim = state.claim("rubbish", tmp_path)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(claim.directory / state.MACHINE_SOCKET))
        listener.listen(1)
        argv = (sys.executable, "-c", RUBBISH, str(claim.directory / vm_keeper.AGENT_SOCKET))
        pid, control = vm_keeper.start(argv, claim.directory, listener, claim.lock)
    claim.hand_over()
    control.settimeout(20)
    said = [control.recv(4000) for _ in range(3)]
    assert said[:2] == [b"ready {}"] * 2
    assert said[2].startswith(b"fault its kernel ended: virtual machine: what it says cannot be understood")
    control.close()
    os.waitpid(pid, 0)
    state.sweep(tmp_path)


@pytest.mark.parametrize("kind", [Kind.READY, Kind.INPUT])
def test_a_frame_that_is_not_for_a_command_is_a_fault(tmp_path: Path, kind: Kind) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen(1)
        command = Command(tmp_path / "s", {})
        guest, _ = listener.accept()
    with guest:
        guest.sendall(Frame(0, kind).octets())
        with pytest.raises(Fault, match=f"{kind.name} is not for a command"):
            command.attend()


def test_a_comma_in_a_path_is_no_end_of_qemus_option(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vm_library, "disks", lambda _directory: [(Path("/a,b"), Path("/a,b/disk"))])
    image = vm_image.Image(Path("/kernel"), Path("/modules"), "6.1", Path("/vng"), "qemu")
    words = vm._argv(image, Path("/run/c,d"), kvm=vm_kvm.Verdict(""))
    (options,) = (word for word in words if word.startswith("--qemu-opts="))
    assert "file=/a,,b/disk,format=raw" in options
    assert "path=/run/c,,d/agent.sock" in options


def test_a_machine_that_counts_its_instructions_has_one_processor_and_is_emulated(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(vm_library, "disks", lambda _directory: [])
    image = vm_image.Image(Path("/kernel"), Path("/modules"), "6.1", Path("/vng"), "qemu")
    words = vm._argv(image, Path("/run/c"), kvm=vm_kvm.Verdict(vm.COUNTED), clock=vm.Clock.INSTRUCTIONS)
    assert words[words.index("--cpus") + 1] == "1"
    assert "--disable-kvm" in words
    (options,) = (word for word in words if word.startswith("--qemu-opts="))
    assert "-icount shift=0" in options
    (usual,) = (word for word in vm._argv(image, Path("/run/c"), kvm=vm_kvm.Verdict("")) if "qemu-opts" in word)
    assert "icount" not in usual


DIES = """
import os, signal, sys
from pathlib import Path
from dmvpn.lab import vm_keeper
import socket
directory = Path(sys.argv[1])
listener = socket.socket(socket.AF_UNIX)
listener.bind(str(directory / "s"))
listener.listen(1)
pid, control = vm_keeper.start(("/bin/sh", "-c", "exec sleep 1000"), directory, listener, os.open("/dev/null", 0))
print(pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_it_dies_with_its_command_however_that_dies(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", DIES, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL
    assert is_gone(int(done.stdout)), "and with it all that is in its PID namespace"
    assert [line for line in Path("/proc/mounts").read_text().splitlines() if str(tmp_path) in line] == []


# ---------------------------------------------------------------- frames


def test_frames_come_out_as_they_went_in_however_they_are_cut() -> None:
    frames = [saying(1, Kind.RUN, {"argv": ["a"]}), Frame(2, Kind.OUTPUT, b"x" * 300), saying(3, Kind.EXIT, 0)]
    octets = b"".join(frame.octets() for frame in frames)
    for size in (1, 7, 100, len(octets)):
        reader = Reader()
        found = [frame for at in range(0, len(octets), size) for frame in reader.feed(octets[at : at + size])]
        assert found == frames


@pytest.mark.parametrize(
    "octets",
    [
        pytest.param(bytes((0, 0, 0, 1, 99, 0, 0, 0, 0)), id="no such kind"),
        pytest.param(bytes((0, 0, 0, 1, 21, 255, 0, 0, 0)), id="too long"),
    ],
)
def test_octets_that_are_no_frame_are_refused(octets: bytes) -> None:
    with pytest.raises(Fault, match="cannot be understood"):
        list(Reader().feed(octets))
