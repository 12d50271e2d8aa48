"""One virtual machine with a stock kernel: started, asked to run programs, ended. Nothing of it stays on the host.

The guest sees this machine's files, the checkout among them, and writes to a private copy of them in its own memory.
On the host it is a lab's directory (see state.py) whose description names the machine instead of nodes.
"""

import os
import select
import shlex
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Final

from dmvpn.errors import Fault
from dmvpn.lab import running, state, vm_image, vm_keeper, vm_kvm, vm_library
from dmvpn.lab.vm_agent import PORT
from dmvpn.lab.vm_command import Command
from dmvpn.lab.vm_image import Image
from dmvpn.linux import pace

START_LIMIT_S: Final = 90.0  # at a machine's own speed
EMULATED_PACE: Final = 8.0
COUNTED: Final = "its instructions are counted"
KVM_PACE: Final = 2.0  # what another kernel below costs
SOURCE: Final = Path(__file__).parents[2]
VARIABLE: Final = "DMVPN_VM"  # in the environment of all that runs in the guest: what the machine is
_GIB: Final = 1 << 30
_LARGEST_GIB, _SMALLEST_GIB, _MOST_PROCESSORS = 8, 1, 4
# What a program in the guest is told of the terminal and the settings of the one who started it.
_PASSED_ON: Final = ("TERM", "NO_COLOR", "LANG", "LC_ALL", "COLUMNS", "DMVPN_HYPOTHESIS")


class Clock(Enum):
    """What the guest's clock counts: the host's time, or its own instructions, one a nanosecond.

    Instructions are the same however busy the host is, so what is measured by them can be compared; it has one
    processor then, and is emulated even where KVM works. qemu(1), -icount.
    """

    TIME = "time"
    INSTRUCTIONS = "instructions"


Report = Callable[[str, float], None]  # what is done, and the seconds it took


@dataclass(frozen=True, slots=True)
class Machine:
    """A virtual machine that runs. `why_emulated` is empty with KVM."""

    name: str
    directory: Path
    keeper_pid: int
    kernel: str
    why_emulated: str

    @property
    def pace(self) -> float:
        return EMULATED_PACE if self.why_emulated else KVM_PACE

    def __str__(self) -> str:
        how = f"emulated ({self.why_emulated})" if self.why_emulated else "on KVM"
        return f"a virtual machine, kernel {self.kernel}, {how}"

    def command(self, argv: Sequence[str], *, env: dict[str, str] | None = None, cwd: Path | None = None) -> Command:
        """Starts a program in the guest, in the same directory as here. Raises Fault when the machine is gone."""
        passed = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
        request: dict[str, Any] = {
            "argv": list(argv),
            "cwd": str(cwd or Path.cwd()),
            "env": {**passed, VARIABLE: str(self), pace.VARIABLE: f"{self.pace:g}", **(env or {})},
        }
        return Command(self.directory / state.MACHINE_SOCKET, request)

    def run(self, argv: Sequence[str], *, output: int = 1) -> int:
        """Runs a program in the guest on this terminal, or on our pipes; its exit status."""
        return self.command(argv).attend(output)

    def down(self) -> None:
        """Ends the machine; returns when nothing of it runs any more."""
        running.end_keeper(self.name, self.keeper_pid, self.directory.parent)


def dmvpn(*words: str) -> tuple[str, ...]:
    """The argument list of our own command in the guest: this very installation."""
    return (str(Path(sys.executable).with_name("dmvpn")), *words)


def find(name: str | None, base: Path = state.STATE_DIRECTORY) -> Machine | None:
    """The machine that a lab is in; None if it is on this machine itself, or if there is no such lab."""
    up = state.living(base)
    if name is None and len(up) == 1:
        name = up[0]
    if name is None or name not in up:
        return None
    described = state.description(name, base).get("machine")
    if described is None:
        return None
    return Machine(name, base / name, described["keeper"], described["kernel"], described["why_emulated"])


@contextmanager
def held(name: str, report: Report, base: Path = state.STATE_DIRECTORY, clock: Clock = Clock.TIME) -> Iterator[Machine]:
    """A machine for as long as the block lasts; it dies with this process however that dies."""
    with _rising(name, report, base, clock) as (machine, _):
        try:
            yield machine
        finally:
            machine.down()


def up(name: str, report: Report, settle: Callable[[Machine], int], base: Path = state.STATE_DIRECTORY) -> int:
    """A machine that stays until `down` if `settle` gives 0; its exit status."""
    with _rising(name, report, base) as (machine, control):
        status = 1
        try:
            status = settle(machine)
            if status == 0:
                control.sendall(b"detach")
                control.settimeout(START_LIMIT_S)
                if control.recv(16) != b"done":
                    raise Fault(f"lab {name}", "its virtual machine died")
        except BaseException:
            status = 1
            raise
        finally:
            if status != 0:
                machine.down()
    return status


@contextmanager
def _rising(
    name: str, report: Report, base: Path, clock: Clock = Clock.TIME
) -> Iterator[tuple[Machine, socket.socket]]:
    image = vm_image.find()
    state.sweep(base)
    claim = state.claim(name, base)
    began = time.monotonic()
    path = claim.directory / state.MACHINE_SOCKET
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        kvm = vm_kvm.verdict(image) if clock is Clock.TIME else vm_kvm.Verdict(COUNTED)
        listener.bind(str(path))
        path.chmod(0o600)
        listener.listen(64)
        how = "on KVM" if kvm.usable else f"emulated, since {kvm.why}"
        report(f"a virtual machine starts with kernel {image.release}, {how}", time.monotonic() - began)
        argv = _argv(image, claim.directory, kvm=kvm, clock=clock)
        pid, control = vm_keeper.start(argv, claim.directory, listener, claim.lock)
    except BaseException:
        claim.discard()
        raise
    finally:
        listener.close()
    claim.hand_over()
    machine = Machine(name, claim.directory, pid, image.release, kvm.why)
    with control:
        try:
            _await_guest(control, machine)
            description = {"keeper": pid, "kernel": machine.kernel, "why_emulated": machine.why_emulated}
            state.describe(claim.directory, {"machine": description})
            report("its kernel runs and answers", time.monotonic() - began)
        except BaseException:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            state.sweep(base)
            raise
        yield machine, control


def _await_guest(control: socket.socket, machine: Machine) -> None:
    limit_s = START_LIMIT_S * machine.pace
    if not select.select([control], [], [], limit_s)[0]:
        raise Fault("virtual machine", f"its kernel did not answer within {limit_s:g} s")
    said = control.recv(65536)
    word, _, rest = said.partition(b" ")
    if word != b"ready":
        raise Fault("virtual machine", rest.decode(errors="replace") or "its keeper died while it started")


def _in_options(path: Path) -> str:
    """A path as a value among qemu's options: a comma in it is written twice. qemu(1), -drive."""
    return str(path).replace(",", ",,")


def _argv(image: Image, scratch: Path, *, kvm: vm_kvm.Verdict, clock: Clock = Clock.TIME) -> tuple[str, ...]:
    """virtme-ng(1): the host's root read-only, a second export of it that the guest caches, one port for our agent."""
    guest = Path(__file__).with_name("vm_guest.sh")
    libraries = vm_library.disks(vm_image.PRIVATE)
    named = ":".join(str(directory) for directory, _ in libraries)
    inside = ("sh", str(guest), str(SOURCE), str(image.modules), named, sys.executable, "-m", "dmvpn.lab.vm_agent")
    options = (
        *(("-icount", "shift=0") if clock is Clock.INSTRUCTIONS else ()),
        *("-fsdev", "local,id=dmvpnhost,path=/,security_model=none,readonly=on,multidevs=remap"),
        *("-device", "virtio-9p-pci,fsdev=dmvpnhost,mount_tag=dmvpn.host"),
        *(
            word
            for _, disk in libraries
            for word in ("-drive", f"file={_in_options(disk)},format=raw,if=virtio,readonly=on")
        ),
        *("-chardev", f"socket,id=dmvpnagent,path={_in_options(scratch / vm_keeper.AGENT_SOCKET)}"),
        *("-device", "virtio-serial-pci,id=dmvpnserial"),
        *("-device", f"virtserialport,bus=dmvpnserial.0,chardev=dmvpnagent,name={PORT}"),
    )
    processors = 1 if clock is Clock.INSTRUCTIONS else min(os.cpu_count() or 1, _MOST_PROCESSORS)
    memory = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2 // _GIB
    return (
        *(sys.executable, str(image.vng), "--run", str(image.kernel), "--user", "root", "--overlay-rwdir=/etc"),
        *("--force-9p", "--cwd", "/", "--cpus", str(processors)),
        *("--memory", f"{max(_SMALLEST_GIB, min(_LARGEST_GIB, memory))}G"),
        *(() if kvm.usable else ("--disable-kvm",)),
        *(f"--qemu-opts={shlex.join(options)}", "--exec", shlex.join(inside)),
    )
