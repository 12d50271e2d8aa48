"""Labs in a virtual machine: started there, and asked by the same commands, which run inside."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dmvpn.errors import Fault
from dmvpn.lab import scenario, vm
from dmvpn.lab.lifecycle import Progress
from dmvpn.lab.vm import Machine
from dmvpn.lab.vm_wire import Kind
from dmvpn.operations import labs, reading


def up(path: Path, name: str | None, report: Callable[[Progress], None]) -> int:
    """A machine with a lab in it; both stay until `down`. The exit status of `lab up` in there."""
    labs.refuse_without_root()
    file = reading.read(path)
    name = name or file.network.network
    words = ("lab", "up", str(path.resolve()), "--name", name)
    return vm.up(name, _told(report), lambda machine: machine.run(vm.dmvpn(*words)))


def run_scenario(which: str, name: str | None, *, as_json: bool, report: Callable[[Progress], None]) -> int:
    """A machine for one scenario; the exit status of `lab run` in there. Raises WrongInput before it starts one."""
    labs.refuse_without_root()
    path = labs.scenario_path(which)
    scenario.load(path)
    name = name or f"{path.stem}-{os.getpid()}"
    options = ("--json",) if as_json else ()
    with vm.held(name, _told(report)) as machine:
        return machine.run(vm.dmvpn("lab", "run", str(path.resolve()), "--name", name, *options))


def find(name: str | None) -> Machine | None:
    """The machine that a lab is in; None for a lab on this machine itself, or for none."""
    labs.refuse_without_root()
    return vm.find(name)


def ask(machine: Machine, *words: str) -> int:
    """The same lab command inside, on this terminal; its exit status."""
    return machine.run(vm.dmvpn("lab", *_with_name(machine, words)))


def capture(machine: Machine, node: str, device: str, file: str) -> int:
    """As labs.capture; the packets come out as they are seen, and the file is the host's."""
    if file == "-":
        return ask(machine, "capture", node, device, "-")
    # /dev/stdout is virtme-ng's own in there.
    words = _with_name(machine, ("capture", node, device, "/proc/self/fd/1"))
    with Path(file).open("wb") as output:
        return machine.run(vm.dmvpn("lab", *words), output=output.fileno())


def status_json(machine: Machine) -> dict[str, Any]:
    """What `lab status --json` prints inside, and what the machine is. Raises Fault when it prints something else."""
    command = machine.command(vm.dmvpn("lab", *_with_name(machine, ("status", "--json"))))
    said = {Kind.OUTPUT: b"", Kind.ERRORS: b""}
    try:
        for frame in command.frames():
            said[frame.kind] = said.get(frame.kind, b"") + frame.content
    finally:
        command.close()
    try:
        found = json.loads(said[Kind.OUTPUT])
    except ValueError:
        raise Fault(f"lab {machine.name}", said[Kind.ERRORS].decode(errors="replace").strip()) from None
    how = {"kernel": machine.kernel, "kvm": not machine.why_emulated, "why_emulated": machine.why_emulated}
    return {**found, "machine": how}


def _with_name(machine: Machine, words: tuple[str, ...]) -> tuple[str, ...]:
    return (words[0], "--name", machine.name, *words[1:])


def _told(report: Callable[[Progress], None]) -> Callable[[str, float], None]:
    return lambda what, seconds: report(Progress(what, seconds))
