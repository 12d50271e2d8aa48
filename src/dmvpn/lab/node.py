"""Doing things inside a node: call a function there, run a program there, leave one running. From outside, by setns(2).

Only children enter a PID namespace, so each action is two forks: one that joins, and its child, which acts.
"""

import os
import pickle
import selectors
import signal
import struct
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any, NoReturn, TypeVar

from dmvpn.errors import Fault
from dmvpn.lab import private
from dmvpn.lab.topology import NodeKind
from dmvpn.linux import namespaces, process
from dmvpn.linux.namespaces import Handles
from dmvpn.linux.pace import patience

Answer = TypeVar("Answer")
CALL_LIMIT_S = 60.0
ENDING_S = 2.0
_LENGTH = struct.Struct("!I")
_FORWARDED = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
# Has the one that joined kill its child and reap it. Killed itself, it would leave its child to the first process of
# the machine or container, which may reap nobody, and the lab's end waits for what is not reaped.
_KILL_INSIDE = signal.SIGRTMIN


@dataclass(frozen=True, slots=True)
class LabNode:
    """One machine of a lab that is up."""

    name: str
    kind: NodeKind
    handles: Handles
    lab: str

    def call(self, function: Callable[[], Answer], *, timeout_s: float = CALL_LIMIT_S) -> Answer:
        """Runs a function of ours inside; its result comes back pickled. Raises the Fault that it raised."""
        answer = call_all({self: function}, timeout_s=timeout_s)[self]
        if isinstance(answer, Fault):
            raise answer
        return answer

    def run(
        self,
        argv: tuple[str, ...],
        *,
        timeout_s: float = 20.0,
        accept: Sequence[int] = (0,),
        input: bytes | None = None,
    ) -> process.Result:
        """Runs a program inside to its end, as linux.process.run does."""
        env = {"PATH": _search_path()}
        task = partial(process.run, argv, timeout_s=timeout_s, accept=tuple(accept), input=input, env=env)
        return self.call(task, timeout_s=timeout_s + 5.0)

    def exec(self, argv: Sequence[str]) -> int:
        """Runs a program inside on this terminal; returns its exit status (128 + signal when one ended it)."""
        running = self.start(argv)
        previous = signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the program
        try:
            return running.wait()
        finally:
            signal.signal(signal.SIGINT, previous)
            running.stop()

    def start(
        self, argv: Sequence[str], *, stdout: IO[bytes] | None = None, stderr: IO[bytes] | None = None
    ) -> "Running":
        """Starts a program inside; it ends with this process at the latest. Raises Fault for a missing program."""
        program = private.find(argv[0])
        return self.start_function(partial(_become, (program, *argv[1:]), stdout, stderr))

    def start_function(self, body: Callable[[], int]) -> "Running":
        """Starts a function of ours inside, in a process of its own; its result is the exit status."""
        return Running(self.name, _fork_inside(self, body))


@dataclass(slots=True)
class Running:
    """A process inside a node, seen through the one that joined it there."""

    node: str
    pid: int
    status: int | None = None

    def poll(self) -> int | None:
        """The exit status, or None while it runs."""
        if self.status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.status = _exit_status(status)
        return self.status

    def wait(self, timeout_s: float | None = None) -> int:
        """Waits for the end. Raises Fault after `timeout_s`."""
        if self.status is None and timeout_s is not None and not _has_ended(self.pid, timeout_s):
            raise Fault(self.node, f"a program there did not end within {timeout_s:g} s")
        if self.status is None:
            _, status = os.waitpid(self.pid, 0)
            self.status = _exit_status(status)
        return self.status

    def stop(self, *, signal_number: int = signal.SIGTERM, grace_s: float = 2.0) -> int:
        """Asks it to end, then makes it; returns its exit status."""
        if self.poll() is not None:
            return self.wait()
        if signal_number != signal.SIGKILL:
            os.kill(self.pid, signal_number)
            with suppress(Fault):
                return self.wait(grace_s)
        _kill(self.pid)
        return self.wait()


def call_all(
    tasks: Mapping[LabNode, Callable[[], Answer]], *, timeout_s: float = CALL_LIMIT_S
) -> dict[LabNode, Answer | Fault]:
    """Calls in all these nodes at once; each gives its result or the Fault it raised. Nobody outlives the deadline."""
    deadline = time.monotonic() + patience(timeout_s)
    answers: dict[LabNode, Answer | Fault] = {}
    waiting: dict[LabNode, tuple[int, IO[bytes]]] = {}
    try:
        for node, task in tasks.items():
            reader, writer = os.pipe()
            waiting[node] = _fork_inside(node, partial(_answer, task, writer)), os.fdopen(reader, "rb")
            os.close(writer)
        with selectors.DefaultSelector() as selector:
            for node, (_, pipe) in waiting.items():
                selector.register(pipe, selectors.EVENT_READ, node)
            while selector.get_map():
                ready = selector.select(max(0.0, deadline - time.monotonic()))
                if not ready and time.monotonic() >= deadline:
                    break
                for key, _ in ready:
                    selector.unregister(key.fileobj)
                    answers[key.data] = _received(key.data, waiting[key.data][1])
    finally:
        for node, (pid, pipe) in waiting.items():
            pipe.close()
            if node not in answers or not _has_ended(pid, ENDING_S):  # whoever has answered is about to end
                _kill(pid)
            os.waitpid(pid, 0)
    for node in waiting:
        answers.setdefault(node, Fault(node.name, f"was not done within {timeout_s:g} s"))
    return {node: answers[node] for node in tasks}


def _kill(pid: int) -> None:
    """One that joined, and its child; only if it cannot any more do that itself, the one and by that the other."""
    os.kill(pid, _KILL_INSIDE)
    if not _has_ended(pid, ENDING_S):
        os.kill(pid, signal.SIGKILL)


def _has_ended(pid: int, timeout_s: float) -> bool:
    """Whether a child of ours ends within that time; it is not reaped."""
    descriptor = os.pidfd_open(pid)
    try:
        with selectors.DefaultSelector() as selector:
            selector.register(descriptor, selectors.EVENT_READ)
            return bool(selector.select(timeout_s))
    finally:
        os.close(descriptor)


def _received(node: LabNode, pipe: IO[bytes]) -> Any:
    head = pipe.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        return Fault(node.name, "the process that was to do it died there")
    # What comes back was pickled by our own child.
    kind, content = pickle.loads(pipe.read(_LENGTH.unpack(head)[0]))
    if kind == "answer":
        return content
    if kind == "bug":
        return Fault(node.name, f"a bug of ours ended what ran there:\n{content}")
    fault_class, arguments, fields = content
    fault = fault_class.__new__(fault_class, *arguments)
    fault.__dict__.update(fields)
    return fault


def _answer(task: Callable[[], Any], writer: int) -> int:
    # What the task leaves running must not hold our terminal or pipe: `dmvpn lab up | cat` would never end.
    nothing = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(nothing, standard)
    reply: tuple[str, Any]
    try:
        reply = ("answer", task())
    except Fault as fault:
        # A Fault's constructor has other arguments than its args, so pickle cannot rebuild it by itself.
        reply = ("fault", (type(fault), fault.args, fault.__dict__))
    except Exception:  # noqa: BLE001 - this is the child's main(); the caller gets to see it
        reply = ("bug", traceback.format_exc())
    octets = pickle.dumps(reply)
    # A daemon that the task left running may hold the pipe open: hence the length, not the end of the stream.
    with os.fdopen(writer, "wb") as pipe:
        pipe.write(_LENGTH.pack(len(octets)) + octets)
    return 0


def _search_path() -> str:
    """A script in there may call `dmvpn`, wherever it is installed."""
    return os.pathsep.join((os.environ.get("PATH", ""), *process.SEARCH_PATH, str(Path(sys.executable).parent)))


def _become(argv: tuple[str, ...], stdout: IO[bytes] | None, stderr: IO[bytes] | None) -> int:
    for stream, standard in ((stdout, 1), (stderr, 2)):
        if stream is not None:
            os.dup2(stream.fileno(), standard)
    try:
        os.execve(argv[0], argv, {**os.environ, "PATH": _search_path()})
    except OSError as error:
        raise Fault(argv[0], (error.strerror or str(error)).lower()) from error


def _fork_inside(node: LabNode, body: Callable[[], int]) -> int:
    """The process id of the one that joins; the one that acts is its child."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()  # or both would write what is buffered
    pid = os.fork()
    if pid == 0:
        _end_with(partial(_join_and_act, node, body))
    return pid


def _join_and_act(node: LabNode, body: Callable[[], int]) -> int:
    namespaces.die_with_parent(_KILL_INSIDE)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    namespaces.give_up_clock()
    os.environ[namespaces.LAB_VARIABLE] = node.lab
    namespaces.enter(node.handles)
    pid = os.fork()
    if pid == 0:
        _end_with(partial(_act, body))
    for number in _FORWARDED:
        signal.signal(number, lambda number, _frame: os.kill(pid, number))
    signal.signal(_KILL_INSIDE, lambda _number, _frame: os.kill(pid, signal.SIGKILL))
    _, status = os.waitpid(pid, 0)
    return _exit_status(status)


def _act(body: Callable[[], int]) -> int:
    namespaces.die_with_parent(signal.SIGKILL)
    for number in (signal.SIGINT, signal.SIGPIPE, *_FORWARDED):
        signal.signal(number, signal.SIG_DFL)
    return body()


def _end_with(body: Callable[[], int]) -> NoReturn:
    """The end of a forked child: it must never return into the code of its parent."""
    status = 1
    try:
        status = body()
    except Fault as fault:
        os.write(2, f"dmvpn: {fault}\n".encode())
    except SystemExit as ending:
        status = ending.code if isinstance(ending.code, int) else 1
    except BaseException:  # noqa: BLE001 - this is the child's main()
        os.write(2, traceback.format_exc().encode())
    finally:
        with suppress(OSError, ValueError):
            sys.stdout.flush()
        os._exit(status)


def _exit_status(status: int) -> int:
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code
