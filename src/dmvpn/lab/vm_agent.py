"""Runs in the guest: starts the programs that the host asks for and passes what they read and write.

It is the guest's last process: when the host's end is gone, so is the guest.
"""

import fcntl
import os
import pty
import selectors
import signal
import struct
import subprocess
import sys
import termios
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from dmvpn.lab.vm_wire import CHUNK, WINDOW, Frame, Kind, Reader, saying
from dmvpn.linux.supervisor_child import become_subreaper

PORT: Final = "dmvpn.agent"
_PORTS = Path("/sys/class/virtio-ports")
_FORWARDED = frozenset({signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2})
_LAST_WORDS_S = 1.0  # after a program's end: what its own children still write


@dataclass(slots=True)
class Program:
    """One program of the host's. `outputs` are descriptors that we read, by the kind that their octets travel as."""

    channel: int
    child: subprocess.Popen[bytes]
    input: int | None
    outputs: dict[int, Kind]
    terminal: bool
    on_the_way: int = 0
    waiting_input: bytearray = field(default_factory=bytearray)
    input_ends: bool = False
    ended_at: float | None = None


class Agent:
    """All programs, in one loop."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._reader = Reader()
        self._selector = selectors.DefaultSelector()
        self._programs: dict[int, Program] = {}
        self._selector.register(port, selectors.EVENT_READ, None)

    def run(self) -> None:
        self._say(saying(0, Kind.READY, {"kernel": os.uname().release, "processors": os.cpu_count()}))
        while True:
            for key, _ in self._selector.select(0.05 if self._programs else None):
                if key.fd == self._port:
                    octets = os.read(self._port, CHUNK * 4)
                    if not octets:
                        return  # the host is gone
                    for frame in self._reader.feed(octets):
                        self._heard(frame)
                elif key.data is not None and key.data.channel in self._programs:
                    self._moved(key.data, key.fd)
            for program in tuple(self._programs.values()):
                self._see_to(program)
            self._reap_orphans()

    def _say(self, frame: Frame) -> None:
        octets = memoryview(frame.octets())
        while octets:
            octets = octets[os.write(self._port, octets) :]

    # ------------------------------------------------------------ from the host

    def _heard(self, frame: Frame) -> None:
        program = self._programs.get(frame.channel)
        if frame.kind is Kind.RUN:
            try:
                self._start(frame.channel, frame.json())
            except OSError as refusal:
                where = refusal.filename or "program"
                self._say(saying(frame.channel, Kind.FAULT, f"{where}: {(refusal.strerror or '').lower()}"))
        elif program is not None:  # else it has ended meanwhile
            self._told(program, frame)

    def _told(self, program: Program, frame: Frame) -> None:
        match frame.kind:
            case Kind.INPUT:
                program.waiting_input += frame.content
                self._feed(program)
            case Kind.INPUT_END:
                program.input_ends = True
                self._feed(program)
            case Kind.ACK:
                program.on_the_way -= frame.number()
                self._listen(program)
            case Kind.SIGNAL if frame.number() in _FORWARDED:
                _signal(program, frame.number())
            case Kind.SIZE if program.terminal and program.input is not None:
                _resize(program.input, frame.json())
            case Kind.HANG_UP:
                _signal(program, signal.SIGKILL)
            case _:
                pass

    def _start(self, channel: int, asked: dict[str, Any]) -> None:
        environment = {**os.environ, **asked["env"]}
        if asked.get("rows"):
            ours, theirs = pty.openpty()
            _resize(ours, asked)
            try:
                child = subprocess.Popen(
                    [sys.executable, "-m", "dmvpn.lab.vm_terminal", *asked["argv"]],
                    stdin=theirs, stdout=theirs, stderr=theirs, cwd=asked["cwd"], env=environment,
                    start_new_session=True,
                )  # fmt: skip
            finally:
                os.close(theirs)
            program = Program(channel, child, ours, {ours: Kind.OUTPUT}, terminal=True)
        else:
            child = subprocess.Popen(
                asked["argv"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                cwd=asked["cwd"], env=environment, start_new_session=True,
            )  # fmt: skip
            assert child.stdin is not None
            assert child.stdout is not None
            assert child.stderr is not None
            given, out, errors = (os.dup(pipe.fileno()) for pipe in (child.stdin, child.stdout, child.stderr))
            for pipe in (child.stdin, child.stdout, child.stderr):
                pipe.close()
            program = Program(channel, child, given, {out: Kind.OUTPUT, errors: Kind.ERRORS}, terminal=False)
        for descriptor in (program.input, *program.outputs):
            if descriptor is not None:
                os.set_blocking(descriptor, False)
        self._programs[channel] = program
        self._listen(program)

    # ------------------------------------------------------------ from a program

    def _moved(self, program: Program, descriptor: int) -> None:
        if descriptor == program.input and program.waiting_input:
            self._feed(program)
        if descriptor not in program.outputs:
            return
        try:
            octets = os.read(descriptor, CHUNK)
        except BlockingIOError:
            return
        except OSError:  # a terminal that nobody has open any more
            octets = b""
        if octets:
            program.on_the_way += len(octets)
            self._say(Frame(program.channel, program.outputs[descriptor], octets))
        else:
            self._forget(program, descriptor)
        self._listen(program)

    def _feed(self, program: Program) -> None:
        """As much of the host's input as the program takes now."""
        if program.input is None:
            return
        with suppress(BlockingIOError):
            try:
                while program.waiting_input:
                    taken = os.write(program.input, program.waiting_input[:CHUNK])
                    del program.waiting_input[:taken]
                    self._say(saying(program.channel, Kind.ACK, taken))
            except BrokenPipeError:
                program.waiting_input.clear()
                program.input_ends = True
        if program.input_ends and not program.waiting_input:
            if program.terminal:
                program.input_ends = False
                os.write(program.input, b"\x04")  # what Ctrl-D is
            else:
                self._forget(program, program.input)
                os.close(program.input)
                program.input = None
        self._listen(program)

    def _listen(self, program: Program) -> None:
        """Be woken by what this program can move now."""
        wanted: dict[int, int] = {}
        if program.on_the_way < WINDOW:
            wanted = dict.fromkeys(program.outputs, selectors.EVENT_READ)
        if program.input is not None and program.waiting_input:
            wanted[program.input] = wanted.get(program.input, 0) | selectors.EVENT_WRITE
        for descriptor in {one for one in (program.input, *program.outputs) if one is not None}:
            known = self._selector.get_map().get(descriptor)
            events = wanted.get(descriptor, 0)
            if known is None and events:
                self._selector.register(descriptor, events, program)
            elif known is not None and not events:
                self._selector.unregister(descriptor)
            elif known is not None and known.events != events:
                self._selector.modify(descriptor, events, program)

    def _forget(self, program: Program, descriptor: int) -> None:
        if descriptor in self._selector.get_map():
            self._selector.unregister(descriptor)
        if descriptor in program.outputs and descriptor != program.input:
            os.close(descriptor)
        program.outputs.pop(descriptor, None)

    def _reap_orphans(self) -> None:
        """What programs left behind and has ended: a PID namespace ends only when all that was in it is reaped."""
        own = {program.child.pid for program in self._programs.values()}
        with suppress(ChildProcessError):
            while (found := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)) is not None:
                if found.si_pid in own:
                    return  # its own turn comes
                os.waitpid(found.si_pid, 0)

    def _see_to(self, program: Program) -> None:
        """A program is over when it has ended and all it wrote has been read; its orphans do not hold it up long."""
        status = program.child.poll()
        if status is None:
            return
        program.ended_at = program.ended_at or time.monotonic()
        stopped = program.on_the_way >= WINDOW  # the host has yet to take what there is
        if program.outputs and (stopped or time.monotonic() - program.ended_at < _LAST_WORDS_S):
            return
        for descriptor in tuple(program.outputs):
            self._forget(program, descriptor)
        if program.input is not None:
            self._forget(program, program.input)
            os.close(program.input)
        _signal(program, signal.SIGKILL)  # what it left behind in its own session's group
        del self._programs[program.channel]
        self._say(saying(program.channel, Kind.EXIT, status if status >= 0 else 128 - status))


def _signal(program: Program, number: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(program.child.pid, number)


def _resize(terminal: int, size: dict[str, Any]) -> None:
    with suppress(OSError):
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", size["rows"], size["columns"], 0, 0))


def open_port() -> int:
    """The guest's end of the host's socket."""
    for path in sorted(_PORTS.iterdir()):
        if (path / "name").read_text().strip() == PORT:
            return os.open(Path("/dev") / path.name, os.O_RDWR | os.O_CLOEXEC)
    raise FileNotFoundError(f"no virtio port {PORT}")


def main() -> None:
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    become_subreaper()  # the guest's init does not reap everybody
    Agent(open_port()).run()


if __name__ == "__main__":
    main()
