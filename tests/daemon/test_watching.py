"""Looking on: bounded, never waited for, told what was missed; and over dmvpnd's socket until somebody hangs up."""

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import aclosing, closing
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from dmvpn.daemon import server as server_module
from dmvpn.daemon import watching
from dmvpn.daemon.control import ask, stream
from dmvpn.daemon.server import Server, Stream
from dmvpn.daemon.watching import READERS_LIMIT, WAITING_LIMIT, Reader, Watching
from dmvpn.errors import Fault
from dmvpn.nhrp.events import Happening, Log
from dmvpn.nhrp.sightings import Sighting

OWN = ip_address("100.64.0.12")
LIMIT_S = 10.0


def looking() -> Watching:
    return Watching(OWN, lambda nbma: "par1" if nbma == OWN else "", lambda _nbma: ())


def log(number: int) -> Log:
    return Log(Happening.PURGED, str(number), "")


async def take(reader: Reader, count: int) -> list[Sighting]:
    found: list[Sighting] = []
    async with aclosing(reader.sightings()) as sightings:
        async for seen in sightings:
            found.append(seen)
            if len(found) == count:
                break
    return found


def test_a_slow_reader_loses_the_oldest_and_is_told_how_many() -> None:
    async def test() -> None:
        tower = looking()
        reader = tower.open_reader("")
        for number in range(WAITING_LIMIT + 5):
            tower.happened("blue", log(number))
        found = await asyncio.wait_for(take(reader, WAITING_LIMIT + 1), LIMIT_S)
        assert (found[0].what, found[0].count) == ("lost", 5)
        assert [one.about for one in found[1:]] == [str(number) for number in range(5, WAITING_LIMIT + 5)]

    asyncio.run(test())


def test_each_reader_has_the_cloud_it_asked_for() -> None:
    async def test() -> None:
        tower = looking()
        every, green = tower.open_reader(""), tower.open_reader("green")
        tower.happened("blue", log(1))
        tower.happened("green", log(2))
        assert [one.about for one in await asyncio.wait_for(take(every, 2), LIMIT_S)] == ["1", "2"]
        assert [one.about for one in await asyncio.wait_for(take(green, 1), LIMIT_S)] == ["2"]

    asyncio.run(test())


def test_octets_that_are_no_packet_are_told_and_so_is_who_sent_them() -> None:
    async def test() -> None:
        tower = looking()
        reader = tower.open_reader("")
        tower.received("blue", b"\xff" * 9, ip_address("100.64.0.1"))
        (seen,) = await asyncio.wait_for(take(reader, 1), LIMIT_S)
        assert (seen.what, seen.source, seen.target_name) == ("malformed", "100.64.0.1", "par1")

    asyncio.run(test())


def test_readers_are_bounded_and_a_place_that_is_left_is_free_again() -> None:
    async def test() -> None:
        tower = looking()
        readers = [tower.open_reader("") for _ in range(READERS_LIMIT)]
        with pytest.raises(Fault, match="look on already"):
            tower.open_reader("")
        readers[0].close()
        tower.open_reader("").close()

    asyncio.run(test())


# ---------------------------------------------------------------- over the socket


def served(tower: Watching) -> Any:
    """dmvpnd's handler, as far as it is about watching."""

    async def items(reader: Reader) -> AsyncGenerator[Any, None]:
        with closing(reader):
            async for seen in reader.sightings():
                yield seen.about

    async def handler(question: dict[str, Any]) -> Any:
        if question["ask"] != "watch":
            return "else"
        return Stream("head", items(tower.open_reader("")))

    return handler


def test_a_stream_goes_on_until_its_reader_hangs_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "READERS_LIMIT", 1)
    path = tmp_path / "read.sock"

    def read_three() -> list[Any]:
        with closing(stream(path, {"ask": "watch"})) as lines:
            return [next(lines) for _ in range(3)]

    async def test() -> None:
        tower, server = looking(), Server()
        await server.open_unix(path, served(tower), mode=0o600)

        async def talk() -> None:
            for number in range(10**6):
                tower.happened("blue", log(number))
                await asyncio.sleep(0.01)

        talking = asyncio.create_task(talk())
        for _ in range(3):  # one place: each must have left it before the next comes
            head, first, second = await asyncio.wait_for(asyncio.to_thread(read_three), LIMIT_S)
            assert (head, int(second) - int(first)) == ("head", 1)
            async with asyncio.timeout(LIMIT_S):
                while tower.is_watched:
                    await asyncio.sleep(0.01)
        assert await asyncio.to_thread(ask, path, {"ask": "status"}) == "else"
        talking.cancel()
        await server.close()

    asyncio.run(test())


def test_a_reader_that_does_not_read_costs_a_bounded_amount_and_is_not_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "read.sock"

    async def test() -> None:
        tower, server = looking(), Server()
        await server.open_unix(path, served(tower), mode=0o600)
        reader, writer = await asyncio.open_unix_connection(str(path), limit=1024)
        writer.write(json.dumps({"ask": "watch"}).encode() + b"\n")
        assert json.loads(await reader.readline())["answer"] == "head"
        for number in range(60_000):
            tower.happened("blue", Log(Happening.PURGED, str(number), "x" * 50))
            if number % 500 == 0:
                await asyncio.sleep(0)
        assert [one.waiting for one in tower.readers] == [WAITING_LIMIT]
        writer.close()
        await server.close()

    asyncio.run(asyncio.wait_for(test(), 3 * LIMIT_S))


def test_a_reader_that_reads_nothing_loses_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "IDLE_S", 0.2)
    path = tmp_path / "read.sock"

    async def test() -> None:
        tower, server = looking(), Server()
        await server.open_unix(path, served(tower), mode=0o600)
        reader, writer = await asyncio.open_unix_connection(str(path), limit=1024)
        writer.write(json.dumps({"ask": "watch"}).encode() + b"\n")
        assert json.loads(await reader.readline())["answer"] == "head"
        while tower.is_watched:
            tower.happened("blue", Log(Happening.PURGED, "x" * 500, ""))
            await asyncio.sleep(0)
        writer.close()
        await server.close()

    asyncio.run(asyncio.wait_for(test(), LIMIT_S))
