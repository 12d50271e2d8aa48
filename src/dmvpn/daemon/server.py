"""Answers questions on Unix and TCP sockets: one JSON object a line, bounded in size, time and number of clients."""

import asyncio
import contextlib
import errno
import json
import os
import shutil
import socket
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dmvpn.daemon.control import QUESTION_LIMIT_OCTETS
from dmvpn.daemon.wire import from_line
from dmvpn.errors import Fault

CLIENT_LIMIT = 64  # of one socket: whoever fills one must not shut the others
CLIENTS_OF_ROUTER_LIMIT = 4
IDLE_S = 30.0
READING_GROUP = "dmvpn"

Handler = Callable[[dict[str, Any]], Awaitable[Any]]
RouterHandler = Callable[[dict[str, Any], str], Awaitable[Any]]  # with the address that it comes from


@dataclass(frozen=True, slots=True)
class Stream:
    """An answer that goes on: `head` at once, then each item on a line of its own, until whoever asked goes away."""

    head: Any
    items: AsyncGenerator[Any, None]


class Server:
    """Serves one handler on any number of sockets."""

    def __init__(self) -> None:
        self._servers: list[asyncio.Server] = []

    async def open_unix(self, path: Path, handler: Handler, *, mode: int) -> None:
        """Listen at `path`; whoever may open the file may ask. A socket file left by a dead daemon is replaced."""
        _remove_dead(path)
        # bind() creates the file with the umask: closed to others from its first moment, opened to the group after.
        before = os.umask(0o177)
        try:
            server = await asyncio.start_unix_server(_session(lambda asked, _: handler(asked)), path=str(path))
        finally:
            os.umask(before)
        if mode != 0o600:
            # No such group: root alone reads.
            with contextlib.suppress(LookupError):
                shutil.chown(path, group=READING_GROUP)
            path.chmod(mode)
        self._servers.append(server)

    async def open_tcp(
        self, address: str, port: int, handler: RouterHandler, *, device: str | None, admits: Callable[[str], bool]
    ) -> None:
        """Listen on one address, for what comes in by `device` from an address that `admits` lets ask.

        Raises Fault if the address cannot be had.
        """
        listener = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if device is not None:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode())
            listener.bind((address, port))
            server = await asyncio.start_server(_session(handler, admits), sock=listener)
        except OSError as error:
            listener.close()
            raise Fault(f"{address} port {port}", f"cannot answer other routers there: {error.strerror}") from error
        self._servers.append(server)

    async def close(self) -> None:
        for server in self._servers:
            server.close()
        self._servers.clear()


def _session(
    handler: RouterHandler, admits: Callable[[str], bool] | None = None
) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]:
    """What serves one listener's clients: so many in all, and of those over TCP so many from each router."""
    clients: Counter[str] = Counter()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        name = writer.get_extra_info("peername")
        source = str(name[0]) if isinstance(name, tuple) else ""
        many = clients.total() >= CLIENT_LIMIT or (source and clients[source] >= CLIENTS_OF_ROUTER_LIMIT)
        if many or (admits is not None and not admits(source)):
            writer.close()
            return
        clients[source] += 1
        try:
            await _answer_all(reader, writer, lambda asked: handler(asked, source))
        except ConnectionError:
            pass
        except TimeoutError:
            writer.transport.abort()  # close() would wait for whoever does not read
        finally:
            clients[source] -= 1
            if not clients[source]:
                del clients[source]
            writer.close()

    return serve


def _remove_dead(path: Path) -> None:
    """Take away the socket file of a daemon that is gone. Raises Fault if one listens there."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except FileNotFoundError:
            return
        except OSError as error:
            if error.errno != errno.ECONNREFUSED:
                raise Fault(str(path), f"cannot listen there: {error.strerror or error}") from error
            path.unlink(missing_ok=True)
            return
    raise Fault(str(path), "another dmvpnd listens there", "stop it first")


async def _answer_all(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, handler: Handler) -> None:
    while True:
        try:
            line = await asyncio.wait_for(reader.readline(), IDLE_S)
        except ValueError:  # longer than the reader's limit
            return
        if not line or len(line) > QUESTION_LIMIT_OCTETS:
            return
        reply = await _reply(line, handler)
        if isinstance(reply, Stream):
            await _stream(reader, writer, reply)
            return
        writer.write(json.dumps(reply).encode() + b"\n")
        await asyncio.wait_for(writer.drain(), IDLE_S)


async def _stream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, stream: Stream) -> None:
    """A reader may be slow, since what waits for it is bounded at the source; one that hangs up ends it, and so does
    one that reads nothing for IDLE_S: places are few. Raises TimeoutError for that one.
    """
    gone = asyncio.create_task(reader.read(1))
    pouring = asyncio.create_task(_pour(writer, stream))
    try:
        await asyncio.wait((gone, pouring), return_when=asyncio.FIRST_COMPLETED)
    finally:
        try:
            for task in (gone, pouring):
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError, ConnectionError):
                    await task
        finally:
            await stream.items.aclose()


async def _pour(writer: asyncio.StreamWriter, stream: Stream) -> None:
    writer.write(json.dumps({"ok": True, "answer": stream.head}).encode() + b"\n")
    async for item in stream.items:
        writer.write(json.dumps({"ok": True, "answer": item}).encode() + b"\n")
        await asyncio.wait_for(writer.drain(), IDLE_S)


async def _reply(line: bytes, handler: Handler) -> dict[str, Any] | Stream:
    try:
        question = from_line("question", line)
        if not isinstance(question.get("ask"), str):
            raise Fault("question", "not a JSON object with an `ask`")
        answer = await handler(question)
        return answer if isinstance(answer, Stream) else {"ok": True, "answer": answer}
    except Fault as fault:
        return _refused(fault)


def _refused(fault: Fault) -> dict[str, Any]:
    return {"ok": False, "error": {"where": fault.where, "what": fault.what, "fix": fault.fix}}


async def ask_tcp(address: str, port: int, question: dict[str, Any], *, timeout_s: float) -> Any:
    """One question to another router's dmvpnd, through the overlay. Raises Fault if there is no answer in time."""
    where = f"router at {address}"
    try:
        async with asyncio.timeout(timeout_s):
            reader, writer = await asyncio.open_connection(address, port, limit=1 << 20)
            try:
                writer.write(json.dumps(question).encode() + b"\n")
                line = await reader.readline()
            finally:
                writer.close()
    except TimeoutError as error:
        raise Fault(where, f"no answer within {timeout_s:g} s") from error
    except (OSError, ValueError) as error:
        # asyncio's own text repeats the address.
        words = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
        raise Fault(where, f"cannot be asked: {words.lower()}") from error
    reply = from_line(where, line)
    if reply.get("ok") is not True or "answer" not in reply:
        # Its words are a peer's octets: an operator here has no use for them.
        raise Fault(where, "refused to answer")
    return reply["answer"]
