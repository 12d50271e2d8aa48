"""Who looks on: `nhrp watch` reads packets and happenings from here, as fast as it can. dmvpnd never waits for it.

Without a reader this costs one comparison a packet.
"""

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable
from ipaddress import IPv4Address, IPv6Address

from dmvpn.errors import Fault
from dmvpn.nhrp.events import Log
from dmvpn.nhrp.sightings import Observer, Sighting, happened, lost

Address = IPv4Address | IPv6Address

WAITING_LIMIT = 1024  # lines for one reader; a slower one loses the oldest and is told how many
READERS_LIMIT = 8


class Reader:
    """What waits for one reader, oldest first."""

    def __init__(self, cloud: str, on_close: Callable[["Reader"], None]) -> None:
        self.cloud = cloud
        self._on_close = on_close
        self._waiting: deque[Sighting] = deque()
        self._lost = 0
        self._some = asyncio.Event()

    def put(self, seen: Sighting) -> None:
        if len(self._waiting) >= WAITING_LIMIT:
            self._waiting.popleft()
            self._lost += 1
        self._waiting.append(seen)
        self._some.set()

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def close(self) -> None:
        self._on_close(self)

    async def sightings(self) -> AsyncGenerator[Sighting, None]:
        """Until whoever reads goes away."""
        while True:
            await self._some.wait()
            if self._lost:
                count, self._lost = self._lost, 0
                yield lost(count, time.time())
            while self._waiting and not self._lost:
                yield self._waiting.popleft()
            if not self._waiting:
                self._some.clear()


class Watching:
    """Tells every reader what is seen. `name` and `overlay` are a router's by its NBMA address, as far as known."""

    def __init__(
        self, own: Address, name: Callable[[Address], str], overlay: Callable[[Address], tuple[Address, ...]]
    ) -> None:
        self._own = own
        self._name = name
        self._overlay = overlay
        self.readers: list[Reader] = []
        self._observers: dict[str, Observer] = {}

    @property
    def is_watched(self) -> bool:
        return bool(self.readers)

    def open_reader(self, cloud: str) -> Reader:
        """`cloud` empty: all of them. Raises Fault when so many look on already."""
        if len(self.readers) >= READERS_LIMIT:
            raise Fault("watch", f"{READERS_LIMIT} look on already", "end one of them")
        reader = Reader(cloud, self._close)
        self.readers.append(reader)
        return reader

    def _close(self, reader: Reader) -> None:
        if reader in self.readers:
            self.readers.remove(reader)
        if not self.readers:
            self._observers.clear()

    def received(self, cloud: str, octets: bytes, sender: Address | None) -> None:
        if self.readers:
            self._tell(self._observer(cloud).packet(octets, sender, self._own, time.time(), cloud=cloud))

    def sent(self, cloud: str, octets: bytes, target: Address) -> None:
        if self.readers:
            self._tell(self._observer(cloud).packet(octets, self._own, target, time.time(), cloud=cloud))

    def happened(self, cloud: str, log: Log) -> None:
        if self.readers:
            self._tell(happened(log, time.time(), cloud=cloud))

    def _observer(self, cloud: str) -> Observer:
        return self._observers.setdefault(cloud, Observer(self._name, self._overlay))

    def _tell(self, seen: Sighting) -> None:
        for reader in self.readers:
            if reader.cloud in ("", seen.cloud):
                reader.put(seen)
