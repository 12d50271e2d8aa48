"""The control socket of `dmvpn-gre`: one JSON object a line, request and reply, never blocking the loop. unix(7)."""

import errno
import os
import select
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from dmvpn.errors import Fault
from dmvpn.plane.commands import Commands
from dmvpn.plane.watch import Watch

LINE_LIMIT: Final = 256 * 1024
_CLIENTS_LIMIT: Final = 16
_CHUNK: Final = 65536
_PATH_LIMIT: Final = 107


class ControlServer:
    """Listens on a socket that only its owner may use (0600). Raises Fault if another process answers there."""

    def __init__(self, path: Path, watch: Watch, commands: Commands) -> None:
        self._path = path
        self._watch = watch
        self._commands = commands
        self._clients: set[_Client] = set()
        self._socket = _listen(path)
        self._watch.add(self._socket.fileno(), self._accept)

    def _accept(self, _events: int) -> None:
        try:
            accepted, _ = self._socket.accept()
        except OSError:  # it went before we came, or descriptors are short; the next one may do
            return
        if len(self._clients) >= _CLIENTS_LIMIT:
            accepted.close()
            return
        self._clients.add(_Client(accepted, self._watch, self._commands, self._clients.discard))

    def close(self) -> None:
        for client in tuple(self._clients):
            client.close()
        self._watch.remove(self._socket.fileno())
        self._socket.close()
        with suppress(FileNotFoundError):
            self._path.unlink()


class _Client:
    """One connection. While a reply waits to be taken nothing more is read, so neither buffer grows without bound."""

    def __init__(
        self, accepted: socket.socket, watch: Watch, commands: Commands, ended: "Callable[[_Client], None]"
    ) -> None:
        self._socket = accepted
        self._socket.settimeout(0)
        self._watch = watch
        self._commands = commands
        self._ended = ended
        self._received = bytearray()
        self._waiting = memoryview(b"")
        watch.add(accepted.fileno(), self._ready)

    def _ready(self, _events: int) -> None:
        try:
            if self._waiting:
                self._flush()
            else:
                self._read()
            self._answer()
        except BlockingIOError:
            pass
        except OSError:
            self.close()

    def _read(self) -> None:
        chunk = self._socket.recv(_CHUNK)
        self._received += chunk
        if not chunk or (len(self._received) > LINE_LIMIT and b"\n" not in self._received):
            raise ConnectionAbortedError

    def _answer(self) -> None:
        """Answer the lines that are complete, as far as their replies are taken."""
        while not self._waiting and (end := self._received.find(b"\n")) >= 0:
            line = bytes(self._received[:end])
            del self._received[: end + 1]
            self._waiting = memoryview(self._commands.answer(line) + b"\n")
            self._flush()

    def _flush(self) -> None:
        with suppress(BlockingIOError):
            self._waiting = self._waiting[self._socket.send(self._waiting) :]
        self._watch.change(self._socket.fileno(), select.EPOLLOUT if self._waiting else select.EPOLLIN)

    def close(self) -> None:
        self._watch.remove(self._socket.fileno())
        self._socket.close()
        self._ended(self)


def _listen(path: Path) -> socket.socket:
    where = f"control socket {path}"
    if len(os.fsencode(path)) > _PATH_LIMIT:
        raise Fault(where, f"is too long for a socket, which takes {_PATH_LIMIT} octets", "choose a shorter name")
    try:
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    except OSError as error:
        raise Fault(f"directory {path.parent}", error.strerror or str(error)) from error
    if _somebody_answers(path):
        raise Fault(where, "another dmvpn-gre answers on it", "stop that one first")
    opened = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    before = os.umask(0o177)  # so that it is never open to others, not even between bind and chmod
    try:
        path.unlink(missing_ok=True)
        opened.bind(str(path))
        opened.listen(_CLIENTS_LIMIT)
    except OSError as error:
        opened.close()
        raise Fault(where, error.strerror or str(error)) from error
    finally:
        os.umask(before)
    return opened


def _somebody_answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as probe:
        return probe.connect_ex(str(path)) not in (errno.ENOENT, errno.ECONNREFUSED)
