"""dmvpnd's side of the control socket, against a server whose answers the test chooses."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from ipaddress import IPv4Address, ip_network
from pathlib import Path
from typing import Any

import pytest

from dmvpn.errors import Fault
from dmvpn.linux.plane_client import PeerCounters, PlaneClient, PlaneState, TunnelState

HUB = IPv4Address("100.64.0.1")
STATE: dict[str, Any] = {
    "socket": "bound",
    "drops": {"key": 2},
    "tunnels": {
        "acme-blue": {
            "device": "attached",
            "allowed": {"100.64.0.1": ["10.0.0.0/8"]},
            "flood": ["100.64.0.1"],
            "peers": {
                "100.64.0.1": {
                    "tx_packets": 3,
                    "tx_octets": 252,
                    "rx_packets": 1,
                    "rx_octets": 84,
                    "tx_data_packets": 2,
                    "rx_data_packets": 1,
                    "tx_age_s": 0.5,
                    "rx_age_s": None,
                }
            },
            "drops": {"source": 1},
        }
    },
}


class Plane:
    """Stands for dmvpn-gre: answers `ok` with its generation and whatever `replies` has for the verb."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.generation = 1
        self.replies: dict[str, Any] = {"state": STATE}
        self.requests: list[dict[str, Any]] = []
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    async def start(self) -> None:
        self._server = await asyncio.start_unix_server(self._serve, self.path)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        while line := await reader.readline():
            request = json.loads(line)
            self.requests.append(request)
            reply = self.replies.get(request["op"], {})
            if reply is None:
                continue
            tree = {"ok": True, "generation": self.generation, **reply} if isinstance(reply, dict) else reply
            writer.write(json.dumps(tree).encode() + b"\n")
        self._writers.discard(writer)
        writer.close()

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for writer in tuple(self._writers):
            writer.close()
        self.path.unlink(missing_ok=True)

    async def restart(self) -> None:
        await self.stop()
        self.generation += 1
        await self.start()


def against(path: Path, test: Callable[[Plane, PlaneClient, list[int]], Awaitable[None]]) -> None:
    """Run a test with a plane that answers, a client, and the list that grows with each on_connect."""

    async def run() -> None:
        plane = Plane(path / "gre.sock")
        await plane.start()
        told: list[int] = []

        async def on_connect() -> None:
            told.append(plane.generation)

        client = PlaneClient(plane.path, on_connect, timeout_s=0.3)
        try:
            await test(plane, client, told)
        finally:
            await client.close()
            await plane.stop()

    asyncio.run(run())


def test_the_verbs_are_one_line_each(tmp_path: Path) -> None:
    async def test(plane: Plane, client: PlaneClient, _told: list[int]) -> None:
        await client.allow("acme-blue", HUB, (ip_network("10.0.0.0/8"),))
        await client.forget("acme-blue", HUB)
        await client.flood("acme-blue", (HUB,))
        assert plane.requests == [
            {"op": "allow", "tunnel": "acme-blue", "nbma": "100.64.0.1", "prefixes": ["10.0.0.0/8"]},
            {"op": "forget", "tunnel": "acme-blue", "nbma": "100.64.0.1"},
            {"op": "flood", "tunnel": "acme-blue", "nbmas": ["100.64.0.1"]},
        ]

    against(tmp_path, test)


def test_the_state_is_typed(tmp_path: Path) -> None:
    async def test(_plane: Plane, client: PlaneClient, _told: list[int]) -> None:
        counters = PeerCounters(3, 252, 1, 84, 2, 1, 0.5, None)
        tunnel = TunnelState(
            attached=True,
            allowed={HUB: (ip_network("10.0.0.0/8"),)},
            flood=(HUB,),
            peers={HUB: counters},
            drops={"source": 1},
        )
        state = PlaneState(generation=1, bound=True, drops={"key": 2}, tunnels={"acme-blue": tunnel})
        assert await client.state() == state

    against(tmp_path, test)


@pytest.mark.parametrize(
    ("reply", "what"),
    [
        pytest.param({"ok": False, "error": "tunnel: no"}, "refuses state: tunnel: no", id="refused"),
        pytest.param([], "refuses state: []", id="no object"),
        pytest.param({"generation": None}, "answers state without its generation", id="no generation"),
        pytest.param({"tunnels": 1}, "answers what is no state", id="no state"),
        pytest.param(None, "no answer in 0.3 s", id="silence"),
    ],
)
def test_a_bad_answer_is_a_fault_and_the_next_request_is_answered(tmp_path: Path, reply: object, what: str) -> None:
    async def test(plane: Plane, client: PlaneClient, _told: list[int]) -> None:
        plane.replies["state"] = reply
        with pytest.raises(Fault) as caught:
            await client.state()
        assert caught.value.what.startswith(what)
        await client.forget("acme-blue", HUB)

    against(tmp_path, test)


def test_nobody_there_is_a_fault(tmp_path: Path) -> None:
    async def test(plane: Plane, client: PlaneClient, _told: list[int]) -> None:
        await plane.stop()
        with pytest.raises(Fault, match=r"dmvpn-gre on .*gre.sock: No such file or directory"):
            await client.state()
        await plane.start()

    against(tmp_path, test)


def test_a_request_after_a_restart_needs_no_second_try(tmp_path: Path) -> None:
    async def test(plane: Plane, client: PlaneClient, _told: list[int]) -> None:
        await client.state()
        await plane.restart()
        assert (await client.state()).generation == 2

    against(tmp_path, test)


def test_each_generation_is_told_once(tmp_path: Path) -> None:
    async def test(plane: Plane, client: PlaneClient, told: list[int]) -> None:
        async with asyncio.timeout(10):
            runner = asyncio.create_task(client.run())
            while told != [1]:
                await asyncio.sleep(0.01)
            await plane.restart()
            while told != [1, 2]:
                await asyncio.sleep(0.01)
            await plane.stop()
            await plane.start()
            hellos = len(plane.requests)
            while len(plane.requests) == hellos:
                await asyncio.sleep(0.01)
            runner.cancel()
            await asyncio.gather(runner, return_exceptions=True)
        assert told == [1, 2]

    against(tmp_path, test)


def test_a_telling_that_failed_is_tried_again(tmp_path: Path) -> None:
    async def run() -> None:
        plane = Plane(tmp_path / "gre.sock")
        await plane.start()
        tries = 0

        async def on_connect() -> None:
            nonlocal tries
            tries += 1
            if tries == 1:
                raise Fault("dmvpn-gre", "is not well")

        client = PlaneClient(plane.path, on_connect)
        runner = asyncio.create_task(client.run())
        async with asyncio.timeout(10):
            while tries < 2:
                await asyncio.sleep(0.01)
        runner.cancel()
        await asyncio.gather(runner, return_exceptions=True)
        await client.close()
        await plane.stop()

    asyncio.run(run())
