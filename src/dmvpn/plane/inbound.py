"""From the underlay to the TAPs: is it GRE, whose tunnel, may this sender use this inner source.

IPsec's selectors vouch for the outer source. The common packet costs one lookup by its outer addresses and GRE header
and one by its inner source; both remember only what the full check has passed, and are emptied when permissions change.
"""

from collections import Counter
from typing import Final

from dmvpn.linux.mmsg import SLOT_OCTETS, ReceiveBatch
from dmvpn.plane.counters import Carried, Drop
from dmvpn.plane.headers import (
    ETHERNET_OCTETS,
    IPV4,
    NHRP,
    Arrival,
    arrival,
    congestion_passes,
    inner_source,
    mac_of_octets,
)
from dmvpn.plane.tunnel import Tunnel

_PATHS_LIMIT: Final = 4096
_SOURCES_LIMIT: Final = 4096
_NHRP_LEAST_OCTETS: Final = 20


class _Path:
    """One sender's packets of one protocol in one tunnel. All positions are octets of the whole datagram."""

    __slots__ = (
        "before_length",
        "carried",
        "ethernet",
        "least",
        "length_at",
        "source",
        "sources",
        "start",
        "tunnel",
        "version",
    )

    def __init__(self, found: Arrival, tunnel: Tunnel, carried: Carried) -> None:
        self.tunnel = tunnel
        self.carried = carried
        self.ethernet = ethernet_header(tunnel, found)
        self.start = found.inner - ETHERNET_OCTETS
        ipv4 = found.protocol == IPV4
        self.version = 4 if ipv4 else 6
        self.source = slice(found.inner + 12, found.inner + 16) if ipv4 else slice(found.inner + 8, found.inner + 24)
        self.length_at = found.inner + (2 if ipv4 else 4)
        self.before_length = found.inner + (0 if ipv4 else 40)  # what the inner length field does not count
        self.least = found.inner + (20 if ipv4 else 40)
        self.sources: set[bytes] = set()


def ethernet_header(tunnel: Tunnel, found: Arrival) -> bytes:
    """What the TAP's kernel side gets to see: the sender spelled as source MAC, our own as destination."""
    return tunnel.mac + mac_of_octets(found.sender) + found.protocol.to_bytes(2, "big")


class Inbound:
    """All tunnels' way in. `drops` counts what could not be given to a tunnel."""

    def __init__(self) -> None:
        self._tunnels: dict[int | None, Tunnel] = {}
        self._batch = ReceiveBatch()
        self._paths: dict[bytes, _Path] = {}
        self.drops: Counter[Drop] = Counter()

    def serve(self, tunnels: tuple[Tunnel, ...]) -> None:
        """Deliver to these; what has another key belongs to nobody."""
        self._tunnels = {tunnel.settings.key: tunnel for tunnel in tunnels}

    def forget_paths(self) -> None:
        self._paths.clear()

    def carry(self, descriptor: int, now: float) -> None:
        """Deliver what waits in the socket, one batch at most. Raises OSError if the socket is of no use any more."""
        paths = self._paths
        for slot, octets in zip(self._batch.slots, self._batch.receive(descriptor), strict=False):
            # Octets 12 to 27: both outer addresses and a GRE header with key. Without key it ends at 23.
            path = paths.get(bytes(slot[12:28] if slot[20] == 0x20 else slot[12:24]))
            if (
                path is None
                or octets < path.least
                or octets >= SLOT_OCTETS
                or slot[0] != 0x45
                or slot[1] & 3 == 3
                or slot[path.start + 14] >> 4 != path.version
                or (slot[path.length_at] << 8 | slot[path.length_at + 1]) + path.before_length > octets
                or bytes(slot[path.source]) not in path.sources
            ):
                self._examine(slot, octets, now)
                continue
            start = path.start
            slot[start : start + 14] = path.ethernet
            if path.tunnel.write_frame(slot[start:octets]):
                carried = path.carried
                carried.rx_packets += 1
                carried.rx_octets += octets - start - 14
                carried.rx_at = now

    def _examine(self, slot: memoryview, octets: int, now: float) -> None:
        """The whole check, one question after the other; what passes is remembered."""
        if octets >= SLOT_OCTETS:
            self.drops[Drop.OVERSIZED] += 1
            return
        datagram = slot[:octets]
        found = arrival(datagram)
        if isinstance(found, Drop):
            self.drops[found] += 1
            return
        tunnel = self._tunnels.get(found.key)
        if tunnel is None:
            self.drops[Drop.KEY] += 1
            return
        source = self._permitted_source(tunnel, found, datagram)
        if isinstance(source, Drop):
            tunnel.drop(source)
            return
        carried = tunnel.carried(found.sender, found.protocol)
        if source:
            self._remember(datagram, found, source, tunnel, carried)
        start = found.inner - ETHERNET_OCTETS
        datagram[start : found.inner] = ethernet_header(tunnel, found)
        if tunnel.write_frame(datagram[start:]):
            carried.rx_packets += 1
            carried.rx_octets += octets - found.inner
            carried.rx_at = now

    @staticmethod
    def _permitted_source(tunnel: Tunnel, found: Arrival, datagram: memoryview) -> bytes | Drop:
        """The inner source if this sender may use it, empty for NHRP, which dmvpnd judges itself; else the reason."""
        inner = datagram[found.inner :]
        if found.protocol == NHRP:
            return b"" if len(inner) >= _NHRP_LEAST_OCTETS else Drop.TRUNCATED
        source = inner_source(found.protocol, inner)
        if isinstance(source, Drop):
            return source
        if not tunnel.permits.knows(found.sender):
            return Drop.NOT_ALLOWED
        if not tunnel.permits.covers(found.sender, source):
            return Drop.SOURCE
        if datagram[1] & 3 == 3 and not congestion_passes(found.protocol, inner):
            return Drop.CONGESTION
        return source

    def _remember(self, datagram: memoryview, found: Arrival, source: bytes, tunnel: Tunnel, carried: Carried) -> None:
        """Keep what was passed, for headers of the two plain forms only."""
        if datagram[0] != 0x45 or bytes(datagram[20:22]) not in (b"\x20\0", b"\0\0"):
            return
        if len(self._paths) >= _PATHS_LIMIT:
            self._paths.clear()
        seen = bytes(datagram[12 : found.inner])
        path = self._paths.get(seen)
        if path is None:
            path = self._paths[seen] = _Path(found, tunnel, carried)
        if len(path.sources) >= _SOURCES_LIMIT:
            path.sources.clear()
        path.sources.add(source)
