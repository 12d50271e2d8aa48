"""The answering side of the control sockets: bounded in size and number, and never a traceback for what is asked."""

import asyncio
import json
import logging
import socket
import stat
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from dmvpn.daemon import server
from dmvpn.daemon.control import QUESTION_LIMIT_OCTETS
from dmvpn.daemon.server import CLIENT_LIMIT, CLIENTS_OF_ROUTER_LIMIT, Server, ask_tcp
from dmvpn.errors import Fault

LIMIT_S = 10.0


async def echo_router(question: dict[str, Any], _source: str) -> Any:
    return await echo(question)


async def echo(question: dict[str, Any]) -> Any:
    if question["ask"] == "fail":
        raise Fault("engine", "is out of order", "mend it")
    return question


@asynccontextmanager
async def listening(path: Path, mode: int = 0o600) -> AsyncIterator[Server]:
    one = Server()
    await one.open_unix(path, echo, mode=mode)
    try:
        yield one
    finally:
        await one.close()


async def exchange(path: Path, octets: bytes, *, end: bool = True) -> list[Any]:
    """Everything that is answered to `octets`, until the server closes."""
    reader, writer = await asyncio.open_unix_connection(str(path))
    try:
        writer.write(octets)
        if end:
            writer.write_eof()
        answered = await asyncio.wait_for(reader.read(), LIMIT_S)
    finally:
        writer.close()
    return [json.loads(line) for line in answered.splitlines()]


def run(work: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(work(), 3 * LIMIT_S))  # type: ignore[arg-type]


def line(question: object) -> bytes:
    return json.dumps(question).encode() + b"\n"


def test_one_connection_asks_as_often_as_it_likes(tmp_path: Path) -> None:
    async def work() -> None:
        async with listening(tmp_path / "s"):
            answers = await exchange(tmp_path / "s", line({"ask": "a", "n": 1}) + line({"ask": "b"}))
        assert answers == [{"ok": True, "answer": {"ask": "a", "n": 1}}, {"ok": True, "answer": {"ask": "b"}}]

    run(work)


BAD = [
    pytest.param(b"hello\n", "said something that is not JSON", id="no JSON"),
    pytest.param(b"\n", "said something that is not JSON", id="an empty line"),
    pytest.param(b'{"ask": "a"', "said something that is not JSON", id="cut short"),
    pytest.param(b"[1]\n", "said something that is no JSON object", id="a list"),
    pytest.param(b"{}\n", "not a JSON object with an `ask`", id="nothing asked"),
    pytest.param(b'{"ask": 7}\n', "not a JSON object with an `ask`", id="a number asked"),
    pytest.param(b'{"ask": null}\n', "not a JSON object with an `ask`", id="null asked"),
    pytest.param(
        b"\xff\xfe\n",
        None,
        id="no text",
    ),
    pytest.param(
        b"[" * 2000 + b"\n",
        None,
        id="deeper than anybody means",
    ),
]


@pytest.mark.parametrize(("octets", "says"), BAD)
def test_a_bad_question_is_answered_as_such_and_the_next_one_as_well(
    tmp_path: Path, octets: bytes, says: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    async def work() -> None:
        async with listening(tmp_path / "s"):
            ended = octets if octets.endswith(b"\n") else octets + b"\n"
            first, second = await exchange(tmp_path / "s", ended + line({"ask": "again"}))
        assert first["ok"] is False
        assert first["error"]["where"] == "question"
        assert says is None or first["error"]["what"] == says
        assert second["ok"] is True

    with caplog.at_level(logging.ERROR):
        run(work)
    assert caplog.records == []


def test_a_fault_of_the_handler_reaches_the_asker_whole(tmp_path: Path) -> None:
    async def work() -> None:
        async with listening(tmp_path / "s"):
            (answer,) = await exchange(tmp_path / "s", line({"ask": "fail"}))
        assert answer == {"ok": False, "error": {"where": "engine", "what": "is out of order", "fix": "mend it"}}

    run(work)


@pytest.mark.parametrize(
    "length",
    [
        pytest.param(QUESTION_LIMIT_OCTETS + 1, id="one octet too long"),
        pytest.param(1 << 20, id="longer than the reader's own limit"),
    ],
)
@pytest.mark.parametrize("ended", [pytest.param(b"\n", id="whole"), pytest.param(b"", id="without an end")])
def test_a_long_line_ends_the_connection_and_nobody_elses(tmp_path: Path, length: int, ended: bytes) -> None:
    async def work() -> None:
        async with listening(tmp_path / "s"):
            try:
                answers = await exchange(tmp_path / "s", b"x" * (length - len(ended)) + ended)
            except (ConnectionResetError, BrokenPipeError):
                answers = []
            assert answers == []
            assert len(await exchange(tmp_path / "s", line({"ask": "a"}))) == 1

    run(work)


def test_the_longest_question_allowed_is_answered(tmp_path: Path) -> None:
    question = {"ask": "a", "pad": ""}
    question["pad"] = "x" * (QUESTION_LIMIT_OCTETS - len(line(question)))

    async def work() -> None:
        async with listening(tmp_path / "s"):
            assert await exchange(tmp_path / "s", line(question)) == [{"ok": True, "answer": question}]

    run(work)


def test_clients_are_bounded_and_a_place_that_is_left_is_free_again(tmp_path: Path) -> None:
    async def work() -> None:
        path = tmp_path / "s"
        async with listening(path):
            held = []
            for _ in range(CLIENT_LIMIT):
                reader, writer = await asyncio.open_unix_connection(str(path))
                writer.write(line({"ask": "a"}))
                await reader.readline()
                held.append((reader, writer))
            # Nothing is written here: a server that has closed already may answer that with a reset.
            assert await exchange(path, b"", end=False) == []
            for reader, writer in held:
                writer.write_eof()
                assert await reader.read() == b""
                writer.close()
            assert len(await exchange(path, line({"ask": "a"}))) == 1

    run(work)


def test_a_silent_client_is_let_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "IDLE_S", 0.05)

    async def work() -> None:
        async with listening(tmp_path / "s"):
            assert await exchange(tmp_path / "s", b'{"ask":', end=False) == []

    run(work)


@pytest.mark.parametrize("mode", [0o600, 0o660], ids=["root alone", "and its group"])
def test_the_socket_file_has_the_mode_asked_for(tmp_path: Path, mode: int) -> None:
    async def work() -> None:
        async with listening(tmp_path / "s", mode):
            assert stat.S_IMODE((tmp_path / "s").stat().st_mode) == mode

    run(work)


def test_the_socket_of_a_dead_daemon_is_replaced(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "s"))

    async def work() -> None:
        async with listening(tmp_path / "s"):
            assert len(await exchange(tmp_path / "s", line({"ask": "a"}))) == 1

    run(work)


def test_the_socket_of_a_daemon_that_lives_is_left_alone(tmp_path: Path) -> None:
    async def work() -> None:
        async with listening(tmp_path / "s"):
            with pytest.raises(Fault):
                await Server().open_unix(tmp_path / "s", echo, mode=0o600)

    run(work)


# ---------------------------------------------------------------- through the overlay


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


def test_another_router_is_answered_over_tcp() -> None:
    async def work() -> None:
        one, port = Server(), free_port()
        await one.open_tcp("127.0.0.1", port, echo_router, device=None, admits=lambda source: source == "127.0.0.1")
        try:
            assert await ask_tcp("127.0.0.1", port, {"ask": "a"}, timeout_s=LIMIT_S) == {"ask": "a"}
            with pytest.raises(Fault, match=r"router at 127\.0\.0\.1: refused to answer"):
                await ask_tcp("127.0.0.1", port, {"ask": "fail"}, timeout_s=LIMIT_S)
            with pytest.raises(Fault, match=f"127.0.0.1 port {port}: cannot answer other routers there"):
                await Server().open_tcp("127.0.0.1", port, echo_router, device=None, admits=lambda _: True)
        finally:
            await one.close()

    run(work)


def test_who_is_not_admitted_is_not_answered() -> None:
    async def work() -> None:
        one, port = Server(), free_port()
        await one.open_tcp("127.0.0.1", port, echo_router, device="lo", admits=lambda source: source == "10.255.1.1")
        try:
            with pytest.raises(Fault, match=r"router at 127\.0\.0\.1"):
                await ask_tcp("127.0.0.1", port, {"ask": "a"}, timeout_s=LIMIT_S)
        finally:
            await one.close()

    run(work)


def test_idle_clients_of_one_socket_do_not_shut_another(tmp_path: Path) -> None:
    async def work() -> None:
        one, port = Server(), free_port()
        await one.open_tcp("127.0.0.1", port, echo_router, device=None, admits=lambda _: True)
        await one.open_unix(tmp_path / "s", echo, mode=0o600)
        idle = [await asyncio.open_connection("127.0.0.1", port) for _ in range(CLIENTS_OF_ROUTER_LIMIT)]
        try:
            with pytest.raises(Fault):
                await ask_tcp("127.0.0.1", port, {"ask": "a"}, timeout_s=LIMIT_S)
            assert len(await exchange(tmp_path / "s", line({"ask": "a"}))) == 1
        finally:
            for _, writer in idle:
                writer.close()
            await one.close()

    run(work)


def test_a_router_that_does_not_listen_cannot_be_asked() -> None:
    async def work() -> None:
        with pytest.raises(Fault, match=r"router at 127\.0\.0\.1: cannot be asked"):
            await ask_tcp("127.0.0.1", free_port(), {"ask": "a"}, timeout_s=LIMIT_S)

    run(work)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        pytest.param(b"", "said something that is not JSON", id="nothing"),
        pytest.param(b"hello\n", "said something that is not JSON", id="no JSON"),
        pytest.param(b"[1]\n", "said something that is no JSON object", id="a list"),
        pytest.param(b'{"ok": "yes", "answer": 1}\n', "refused to answer", id="not quite true"),
        pytest.param(b"x" * (2 << 20) + b"\n", "cannot be asked", id="longer than an answer may be"),
        pytest.param(b'{"ok": true}\n', "router at", id="no answer in it"),
        pytest.param(b"\xff\n", "router at", id="no text"),
        pytest.param(
            b"[" * 9999 + b"\n",
            "router at",
            id="very deep",
        ),
    ],
)
def test_what_another_router_answers_is_input(answer: bytes, says: str) -> None:
    async def reply(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(answer)
        writer.close()

    async def work() -> None:
        port = free_port()
        async with await asyncio.start_server(reply, "127.0.0.1", port):
            with pytest.raises(Fault, match=says):
                await ask_tcp("127.0.0.1", port, {"ask": "a"}, timeout_s=LIMIT_S)

    run(work)


def test_a_router_that_never_answers_is_not_waited_for() -> None:
    async def work() -> None:
        port, forever = free_port(), asyncio.Event()

        async def mute(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await forever.wait()
            writer.close()

        async with await asyncio.start_server(mute, "127.0.0.1", port):
            with pytest.raises(Fault, match=r"no answer within 0\.05 s"):
                await ask_tcp("127.0.0.1", port, {"ask": "a"}, timeout_s=0.05)
            forever.set()

    run(work)
