"""dmvpnd's side of the control socket of `dmvpn-gre`: typed, with a time limit, connecting again by itself. asyncio.

`dmvpn-gre` keeps what it is told for as long as it lives and writes nothing down. Every reply carries the generation of
the process that gave it: a new generation is an empty table, and `on_connect` is there to tell everything again.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network
from pathlib import Path
from typing import Any, Final, NoReturn

from dmvpn.errors import Fault

Address = IPv4Address | IPv6Address
Prefix = IPv4Network | IPv6Network
Tree = dict[str, Any]

_REPLY_LIMIT: Final = 16 << 20
_RETRY_S: Final = 0.5


@dataclass(frozen=True, slots=True)
class PeerCounters:
    """One NBMA address seen through one tunnel; octets of inner packets, ages in seconds (None: never).

    `data` is everything but NHRP.
    """

    tx_packets: int
    tx_octets: int
    rx_packets: int
    rx_octets: int
    tx_data_packets: int
    rx_data_packets: int
    tx_age_s: float | None
    rx_age_s: float | None


@dataclass(frozen=True, slots=True)
class TunnelState:
    """`attached` is False while the TAP is gone; `drops` is by reason (dmvpn.plane.counters.Drop)."""

    attached: bool
    allowed: dict[IPv4Address, tuple[Prefix, ...]]
    flood: tuple[IPv4Address, ...]
    peers: dict[IPv4Address, PeerCounters]
    drops: dict[str, int]


@dataclass(frozen=True, slots=True)
class PlaneState:
    """`bound` is False while charon's device is missing; `drops` counts what belonged to no tunnel."""

    generation: int
    bound: bool
    drops: dict[str, int]
    tunnels: dict[str, TunnelState]


class PlaneClient:
    """One connection, one request at a time. Each verb raises Fault if `dmvpn-gre` does not answer or refuses.

    `run` keeps a second connection and awaits `on_connect` whenever a `dmvpn-gre` is there that was not told yet: at
    first, and after each of its restarts. If `on_connect` raises Fault it is tried again.
    """

    def __init__(self, path: Path, on_connect: Callable[[], Awaitable[None]], timeout_s: float = 5.0) -> None:
        self._path = path
        self._on_connect = on_connect
        self._timeout_s = timeout_s
        self._told = 0  # the generation for which on_connect has been through
        self._one_at_a_time = asyncio.Lock()
        self._requests = _Connection(path)

    async def allow(self, tunnel: str, nbma: Address, prefixes: Iterable[Prefix]) -> None:
        """Replace the inner sources that this sender may use."""
        texts = [str(prefix) for prefix in prefixes]
        await self._ask({"op": "allow", "tunnel": tunnel, "nbma": str(nbma), "prefixes": texts})

    async def forget(self, tunnel: str, nbma: Address) -> None:
        """Allow this sender nothing but NHRP."""
        await self._ask({"op": "forget", "tunnel": tunnel, "nbma": str(nbma)})

    async def flood(self, tunnel: str, nbmas: Iterable[Address]) -> None:
        """Replace the list of those that get a copy of every multicast and broadcast packet."""
        await self._ask({"op": "flood", "tunnel": tunnel, "nbmas": [str(nbma) for nbma in nbmas]})

    async def state(self) -> PlaneState:
        reply = await self._ask({"op": "state"})
        try:
            return _plane_state(reply)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise self._fault(f"answers what is no state: {error!r}") from error

    async def run(self) -> NoReturn:
        """Notice a restart when it happens, not at the next request. Serves until cancelled."""
        watching = _Connection(self._path)
        try:
            while True:
                try:
                    reply = self._checked("hello", await self._exchange(watching, {"op": "hello"}))
                    if reply["generation"] != self._told:
                        await self._on_connect()
                        self._told = reply["generation"]
                    await watching.ended()
                except Fault:
                    await asyncio.sleep(_RETRY_S)
        finally:
            await watching.close()

    async def close(self) -> None:
        await self._requests.close()

    async def _ask(self, request: Tree) -> Tree:
        async with self._one_at_a_time:
            return self._checked(request["op"], await self._exchange(self._requests, request))

    async def _exchange(self, connection: "_Connection", request: Tree) -> object:
        line = json.dumps(request).encode() + b"\n"
        try:
            async with asyncio.timeout(self._timeout_s):
                reply: object = json.loads(await connection.exchange(line))
                return reply
        except TimeoutError as error:
            fault = self._fault(f"no answer in {self._timeout_s:g} s")
            # A late reply would be taken for the next one's: so begin afresh.
            await connection.close()
            raise fault from error
        except (OSError, ValueError) as error:
            await connection.close()
            raise self._fault(getattr(error, "strerror", None) or str(error)) from error

    def _checked(self, verb: str, reply: object) -> Tree:
        if not isinstance(reply, dict) or reply.get("ok") is not True:
            raise self._fault(f"refuses {verb}: {reply.get('error') if isinstance(reply, dict) else reply}")
        if not isinstance(reply.get("generation"), int):
            raise self._fault(f"answers {verb} without its generation")
        return reply

    def _fault(self, what: str) -> Fault:
        return Fault(f"dmvpn-gre on {self._path}", what, "look at its unit and its log")


class _Connection:
    """A stream that opens itself again. Every verb may be repeated, so one that met a stale stream is."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def exchange(self, line: bytes) -> bytes:
        """One line there and one back. Raises OSError or ValueError (the reply is too long)."""
        if self._streams is not None:
            try:
                return await self._exchange(*self._streams, line)
            except ConnectionError:
                await self.close()
        self._streams = await asyncio.open_unix_connection(self._path, limit=_REPLY_LIMIT)
        return await self._exchange(*self._streams, line)

    @staticmethod
    async def _exchange(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, line: bytes) -> bytes:
        writer.write(line)
        await writer.drain()
        reply = await reader.readline()
        if not reply.endswith(b"\n"):
            raise ConnectionResetError("it closed the connection")
        return reply

    async def ended(self) -> None:
        """Wait for the other end to go away."""
        if self._streams is not None:
            with suppress(OSError):
                await self._streams[0].read(1)
        await self.close()

    async def close(self) -> None:
        if self._streams is not None:
            writer = self._streams[1]
            self._streams = None
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()


def _plane_state(reply: Tree) -> PlaneState:
    return PlaneState(
        generation=reply["generation"],
        bound=reply["socket"] == "bound",
        drops=dict(reply["drops"]),
        tunnels={device: _tunnel_state(tree) for device, tree in reply["tunnels"].items()},
    )


def _tunnel_state(tree: Tree) -> TunnelState:
    return TunnelState(
        attached=tree["device"] == "attached",
        allowed={
            IPv4Address(nbma): tuple(ip_network(prefix) for prefix in prefixes)
            for nbma, prefixes in tree["allowed"].items()
        },
        flood=tuple(IPv4Address(nbma) for nbma in tree["flood"]),
        peers={IPv4Address(nbma): PeerCounters(**counters) for nbma, counters in tree["peers"].items()},
        drops=dict(tree["drops"]),
    )
