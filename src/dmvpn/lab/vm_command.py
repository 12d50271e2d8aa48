"""One program in the guest, as the command on the host that asked for it sees it."""

import os
import select
import shutil
import signal
import socket
import sys
import termios
import tty
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, Final

from dmvpn.errors import Fault
from dmvpn.lab.vm_wire import CHUNK, DATA, WINDOW, Frame, Kind, Reader, saying

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Command:
    """It ends with this object's socket: a command on the host that dies takes its program along."""

    def __init__(self, path: Path, request: dict[str, Any]) -> None:
        self._request = request
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._socket.connect(str(path))
        except OSError as refusal:
            raise Fault("virtual machine", "does not answer any more", "end it with: dmvpn lab down") from refusal
        self._reader = Reader()
        self._started = False
        self._on_the_way = 0

    def _send(self, kind: Kind, value: dict[str, Any] | int | str = "") -> None:
        self._send_frame(saying(0, kind, value))

    def _send_frame(self, frame: Frame) -> None:
        try:
            self._socket.sendall(frame.octets())
        except ConnectionError as refusal:
            raise Fault("virtual machine", "it ended") from refusal

    def start(self, terminal: os.terminal_size | None = None) -> None:
        size = {} if terminal is None else {"rows": terminal.lines, "columns": terminal.columns}
        self._started = True
        self._send(Kind.RUN, {**self._request, **size})

    def signal(self, number: int) -> None:
        self._send(Kind.SIGNAL, int(number))

    def close(self) -> None:
        self._socket.close()

    def frames(self, input: int | None = None, wake: int | None = None) -> Iterator[Frame]:
        """What the program writes, and EXIT at the end. `input` is read and passed on; on `wake` an empty ACK is given.

        A frame counts as taken when the next one is asked for. Raises Fault if the machine ends, or the program is not
        there.
        """
        if not self._started:
            self.start()
        if input is None:
            self._send(Kind.INPUT_END)
        while True:
            wanted = [self._socket.fileno(), *(() if wake is None else (wake,))]
            if input is not None and self._on_the_way < WINDOW:
                wanted.append(input)
            ready = select.select(wanted, (), ())[0]
            if wake in ready:
                yield Frame(0, Kind.ACK)
            if input in ready and input is not None and not self._pass_input(input):
                input = None
            for frame in self._received() if self._socket.fileno() in ready else ():
                yield frame
                if frame.kind is Kind.EXIT:
                    return
                if frame.kind in DATA:
                    self._send(Kind.ACK, len(frame.content))

    def _received(self) -> list[Frame]:
        try:
            octets = self._socket.recv(4 * CHUNK)
        except ConnectionError:
            octets = b""
        if not octets:
            raise Fault("virtual machine", "it ended")
        found = []
        for frame in self._reader.feed(octets):
            if frame.kind is Kind.ACK:
                self._on_the_way -= frame.number()
            elif frame.kind is Kind.FAULT:
                raise Fault("virtual machine", frame.content.decode(errors="replace"))
            else:
                found.append(frame)
        return found

    def _pass_input(self, input: int) -> bool:
        """False at the end of it."""
        try:
            octets = os.read(input, CHUNK)
        except OSError:
            octets = b""
        if octets:
            self._on_the_way += len(octets)
            self._send_frame(Frame(0, Kind.INPUT, octets))
        else:
            self._send(Kind.INPUT_END)
        return bool(octets)

    # ------------------------------------------------------------ on our own terminal

    def attend(self, output: int = 1) -> int:
        """Runs it with our standard input and outputs, or another descriptor for what it writes; Ctrl-C is for the
        program. Its exit status.
        """
        on_terminal = sys.stdin.isatty() and os.isatty(output)
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        with ExitStack() as stack:
            stack.callback(self.close)
            wake, said = stack.enter_context(_signals((*_SIGNALS, signal.SIGWINCH) if on_terminal else _SIGNALS))
            self.start(shutil.get_terminal_size() if on_terminal else None)
            if on_terminal:
                stack.enter_context(_raw_terminal(0))
            for frame in self.frames(_standard_input(), wake):
                match frame.kind:
                    case Kind.OUTPUT:
                        _write(output, frame.content)
                    case Kind.ERRORS:
                        _write(2, frame.content)
                    case Kind.EXIT:
                        return frame.number()
                    case Kind.ACK:  # ours, for `wake`: the guest's own stay in `frames`
                        os.read(wake, 64)
                        self._pass_signals(said)
                    case _:
                        raise Fault(
                            "virtual machine", f"{frame.kind.name} is not for a command", "this is a bug of the lab"
                        )
        raise Fault("virtual machine", "it ended")

    def _pass_signals(self, said: list[int]) -> None:
        while said:
            number = said.pop(0)
            if number == signal.SIGWINCH:
                size = shutil.get_terminal_size()
                self._send(Kind.SIZE, {"rows": size.lines, "columns": size.columns})
            else:
                self.signal(number)


def _standard_input() -> int | None:
    """None where it is closed."""
    try:
        os.fstat(0)
    except OSError:
        return None
    return 0


def _write(descriptor: int, octets: bytes) -> None:
    left = memoryview(octets)
    while left:
        left = left[os.write(descriptor, left) :]


@contextmanager
def _raw_terminal(descriptor: int) -> Iterator[None]:
    """Every key is for the program, Ctrl-C too."""
    before = termios.tcgetattr(descriptor)
    try:
        tty.setraw(descriptor)
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


@contextmanager
def _signals(numbers: tuple[int, ...]) -> Iterator[tuple[int, list[int]]]:
    """Signals as a descriptor that becomes readable, and the list of those that came."""
    reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    came: list[int] = []

    def note(number: int, _frame: FrameType | None) -> None:
        came.append(number)
        os.write(writer, b"!")

    before = {number: signal.signal(number, note) for number in numbers}
    try:
        yield reader, came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(reader)
        os.close(writer)
