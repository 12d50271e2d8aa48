"""The process a virtual machine lives in: first of its own PID namespace, so the kernel ends qemu with it.

It starts virtme-ng, holds the lab's lock (see state.py), and carries frames between the commands on the host, each on
a socket of its own, and the one agent in the guest. Until `detach` it dies with the command that started it. What it
keeps in files is on a tmpfs in its own mount namespace: nothing stays on the host, however it ends.
"""

import asyncio
import os
import pty
import signal
import socket
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, NoReturn

from dmvpn.errors import Fault
from dmvpn.lab.vm_wire import CHUNK, Frame, Kind, Reader, saying
from dmvpn.linux import namespaces
from dmvpn.linux.namespaces import CLONE_NEWIPC, CLONE_NEWNS, CLONE_NEWPID

AGENT_SOCKET: Final = "agent.sock"  # in the keeper's own tmpfs: nobody on the host sees it
CONSOLE_SHOWN: Final = 2000


def start(argv: Sequence[str], scratch: Path, listener: socket.socket, lock: int) -> tuple[int, socket.socket]:
    """Forks the keeper, which starts `argv`; its process id, and our end of its control socket.

    `scratch` is a directory that the keeper covers with its own tmpfs. Raises Fault.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    namespaces.unshare(CLONE_NEWPID)
    try:
        pid = os.fork()
        if pid == 0:
            _be_keeper(argv, scratch, listener, theirs, {theirs.fileno(), listener.fileno(), lock})
    finally:
        namespaces.join(Path("/proc/self/ns/pid"))  # or every later child of this command would be in there
    theirs.close()
    return pid, ours


def _be_keeper(
    argv: Sequence[str], scratch: Path, listener: socket.socket, control: socket.socket, keep: set[int]
) -> NoReturn:
    status = 1
    try:
        namespaces.die_with_parent(signal.SIGKILL)
        os.setsid()
        _let_go_of_files(keep)
        # Python's own handlers and wake-ups of the command are not ours.
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, lambda _number, _frame: None)  # not SIG_IGN, which what we start would inherit
        namespaces.unshare(CLONE_NEWNS | CLONE_NEWIPC)
        namespaces.mount("none", Path("/"), flags=namespaces.MS_REC | namespaces.MS_PRIVATE)
        namespaces.mount("proc", Path("/proc"), "proc", flags=namespaces.MS_NOSUID | namespaces.MS_NODEV)
        namespaces.mount("tmpfs", scratch, "tmpfs", flags=namespaces.MS_NOSUID, options="mode=0700")
        os.chdir(scratch)
        asyncio.run(_Exchange(listener, control, scratch).run(argv))
        status = 0
    except (Fault, OSError) as refusal:
        with suppress(OSError):
            control.send(f"fault {refusal}".encode())
    finally:
        os._exit(status)


def _let_go_of_files(keep: set[int]) -> None:
    """A pipe or terminal of the command must not stay open for as long as the machine runs."""
    nothing = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(nothing, standard)
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208 - entries are numbers, not files of ours
        if (descriptor := int(name)) > 2 and descriptor not in keep:
            with suppress(OSError):
                os.close(descriptor)


class _Exchange:
    """Between the guest's one stream and the commands' sockets."""

    def __init__(self, listener: socket.socket, control: socket.socket, scratch: Path) -> None:
        self._listener = listener
        self._control = control
        self._scratch = scratch
        self._guest: asyncio.StreamWriter | None = None
        self._clients: dict[int, asyncio.StreamWriter] = {}
        self._last_channel = 0
        self._console = bytearray()
        self._over = asyncio.Event()

    async def run(self, argv: Sequence[str]) -> None:
        loop = asyncio.get_running_loop()
        agent = await asyncio.start_unix_server(self._guest_came, self._scratch / AGENT_SOCKET)
        child, console = self._start(argv)
        loop.add_reader(console, self._hear_console, console)
        commands = await asyncio.start_unix_server(self._command_came, sock=self._listener)
        self._control.settimeout(0.0)
        loop.add_reader(self._control, self._hear_starter)
        watching = asyncio.create_task(self._watch(child))
        await self._over.wait()
        watching.cancel()
        # Not `async with`: from Python 3.12 on that waits for every command that is still connected.
        for server in (agent, commands):
            server.close()
        with suppress(OSError):
            words = " | ".join(bytes(self._console).decode(errors="replace").split("\r\n"))
            self._control.send(f"fault its kernel ended: {words[-CONSOLE_SHOWN:].strip(' |')}".encode())

    def _start(self, argv: Sequence[str]) -> tuple[subprocess.Popen[bytes], int]:
        ours, theirs = pty.openpty()  # virtme-ng insists on a terminal
        environment = {
            **os.environ,
            "PATH": os.pathsep.join((str(Path(argv[0]).parent), os.environ.get("PATH", ""), "/usr/sbin:/usr/bin")),
            "HOME": str(self._scratch),
            "TMPDIR": str(self._scratch),
        }
        child = subprocess.Popen(
            argv, stdin=theirs, stdout=theirs, stderr=theirs, cwd="/", env=environment, start_new_session=True
        )
        os.close(theirs)
        return child, ours

    async def _watch(self, child: subprocess.Popen[bytes]) -> None:
        while child.poll() is None:
            await asyncio.sleep(0.5)
        self._over.set()

    def _hear_console(self, console: int) -> None:
        try:
            octets = os.read(console, CHUNK)
        except OSError:
            octets = b""
        if not octets:
            asyncio.get_running_loop().remove_reader(console)
        self._console += octets
        del self._console[: -2 * CONSOLE_SHOWN]

    def _hear_starter(self) -> None:
        try:
            word = self._control.recv(16)
        except OSError:
            word = b""
        asyncio.get_running_loop().remove_reader(self._control)
        if word != b"detach":
            os._exit(0)  # the command is gone without a word: so are we
        namespaces.die_with_parent(0)
        with suppress(OSError):
            self._control.send(b"done")

    # ------------------------------------------------------------ frames

    async def _guest_came(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._guest = writer
        frames = Reader()
        try:
            while octets := await reader.read(4 * CHUNK):
                for frame in frames.feed(octets):
                    self._pass_on(frame)
        except (Fault, ConnectionError) as refusal:
            self._console += f"\r\n{refusal}".encode()
        finally:
            self._over.set()  # or commands wait for ever

    def _pass_on(self, frame: Frame) -> None:
        if frame.kind is Kind.READY:
            # Who started the machine hears it once, and is gone after `detach`.
            with suppress(OSError):
                self._control.send(b"ready " + frame.content)
        client = self._clients.get(frame.channel)
        if client is not None:
            client.write(frame.octets())  # bounded: the command acknowledges what it has taken

    async def _command_came(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._guest is None:
            writer.close()
            return
        self._last_channel += 1
        channel = self._last_channel
        self._clients[channel] = writer
        frames = Reader()
        try:
            while octets := await reader.read(4 * CHUNK):
                for frame in frames.feed(octets):
                    self._guest.write(Frame(channel, frame.kind, frame.content).octets())
                await self._guest.drain()
        except (Fault, ConnectionError):
            pass
        finally:
            del self._clients[channel]
            self._guest.write(saying(channel, Kind.HANG_UP, "").octets())
            writer.close()
