"""What a hub learns of its spokes by their certificates, for whoever renders its bgpd's file.

A row comes with the first SA and stays DEPARTED_S after the last, so that neither an SA made anew nor a restart of
ours ends a session; the peer's address and SA are what a session needs in any case. A revoked router's goes at once.
One file, written as a whole when its text has changed; then the supervisor has the file rendered and reloaded, at a
pace of its own.
"""

import asyncio
import contextlib
import json
import logging
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any

from dmvpn.daemon.settings import CloudSettings, Settings
from dmvpn.errors import Fault
from dmvpn.identity.claims import Claims, Role
from dmvpn.linux import files, keepers, vtysh
from dmvpn.linux.services import Services

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
log = logging.getLogger("dmvpnd.learned")

VERSION = 1
DEPARTED_S = 3600.0
SPOKES_LIMIT = 5000  # of a cloud
PREFIXES_LIMIT = 50_000  # of a cloud
SIZE_LIMIT_OCTETS = 64 << 20
GATHER_S = 0.1  # several come at once after a restart
PACE = 3  # times as long as the last reload took, and then the next one: a hub that comes back learns everybody
FAILED_AGAIN_S = 5.0
LOOK_EVERY_S = 1.0  # whether bgpd is another process, which knows no spoke


@dataclass(frozen=True, slots=True)
class Row:
    """What one cloud needs of a spoke's claims. `overlay` are its addresses in that cloud."""

    router: str
    transport: Address
    overlay: tuple[Address, ...]
    asn: int
    prefixes: tuple[Network, ...]


class Learned:
    """`learn` and `departed` as SAs come and go; `run` writes and has it rendered. `drops` counts by cloud."""

    def __init__(self, settings: Settings) -> None:
        self._path = settings.paths.learned
        self._network = settings.network
        self._transport = settings.transport_range
        self._unit = settings.learned_unit
        self._services: Services = keepers.of_this_process(settings.network, settings.paths.gre.parent)
        self._clouds = {cloud.name: cloud for cloud in settings.clouds if cloud.role == "hub" and cloud.encrypted}
        self._rows: dict[str, dict[Address, Row]] = {name: {} for name in self._clouds}
        self._departed: dict[Address, float] = {}
        self._loop = asyncio.get_running_loop()
        self._wake = asyncio.Event()
        self._told: tuple[str, object] | None = None  # what, and to which bgpd
        self._bgpd = settings.paths.frr_run / "bgpd.vty"
        self.drops: dict[str, Counter[str]] = {name: Counter() for name in self._clouds}
        self.trouble = ""
        self._recall()

    def count(self, cloud: str) -> int:
        return len(self._rows.get(cloud, ()))

    def learn(self, nbma: Address, claims: Claims) -> None:
        """An SA stands with a peer whose certificate was verified; a foreign one is the file's."""
        if nbma not in self._transport:
            return
        self._departed.pop(nbma, None)
        for name, cloud in self._clouds.items():
            row = _row(cloud, claims)
            if row is not None and self._has_room(name, row):
                self._rows[name][nbma] = row
            else:
                self._rows[name].pop(nbma, None)
        self._wake.set()

    def departed(self, nbma: Address) -> None:
        """Its SA is gone; most come back."""
        if any(nbma in rows for rows in self._rows.values()):
            self._departed.setdefault(nbma, self._loop.time())

    def forget(self, nbma: Address) -> None:
        """Its certificate is revoked: it will not be back with that."""
        self._departed.pop(nbma, None)
        for rows in self._rows.values():
            rows.pop(nbma, None)
        self._wake.set()

    def revoked(self, routers: Collection[str]) -> None:
        """A list names these. Who is away goes; who is here loses its SA, or was let in by newer papers."""
        away = {nbma for rows in self._rows.values() for nbma, row in rows.items() if row.router in routers}
        for nbma in away & self._departed.keys():
            self.forget(nbma)

    async def run(self) -> None:
        """Until cancelled."""
        if not self._unit:
            return
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), LOOK_EVERY_S)
            await asyncio.sleep(GATHER_S)
            self._wake.clear()
            self._prune()
            began = self._loop.time()
            try:
                await self._tell()
                self.trouble = ""
            except Fault as fault:
                if str(fault) != self.trouble:
                    log.warning("BGP does not know what was learned: %s", fault)
                self.trouble = str(fault)
                await asyncio.sleep(FAILED_AGAIN_S)
                self._wake.set()
            await asyncio.sleep(PACE * (self._loop.time() - began))

    async def _tell(self) -> None:
        text, process = self._text(), vtysh.made(self._bgpd)
        if (text, process) == self._told:
            return
        await asyncio.to_thread(self._write, text)
        await asyncio.to_thread(self._services.reload, self._unit)
        self._told = (text, process)

    def _write(self, text: str) -> None:
        files.make_directory(self._path.parent)
        files.write(self._path, text, mode=files.SECRET_MODE)

    def _prune(self) -> None:
        now = self._loop.time()
        for nbma in [one for one, since in self._departed.items() if now - since >= DEPARTED_S]:
            self.forget(nbma)

    def _has_room(self, cloud: str, row: Row) -> bool:
        """An address is its holder's while the holder is here; who is away makes room."""
        rows = self._rows[cloud]
        for nbma, other in list(rows.items()):
            if other.transport == row.transport or not set(other.overlay) & set(row.overlay):
                continue
            if nbma not in self._departed:
                self.drops[cloud]["bgp taken"] += 1
                log.warning("%s: %s claims an address of %s, which is here", cloud, row.router, other.router)
                return False
            del rows[nbma]
        others = [other for nbma, other in rows.items() if nbma != row.transport]
        claimed = sum(len(other.prefixes) for other in others) + len(row.prefixes)
        if len(others) >= SPOKES_LIMIT or claimed > PREFIXES_LIMIT:
            self.drops[cloud]["bgp limit"] += 1
            log.warning("%s: no room for %s among %d spokes", cloud, row.router, len(others))
            return False
        return True

    # ------------------------------------------------------------ the file

    def _text(self) -> str:
        clouds = {
            name: [_to_json(row) for row in sorted(rows.values(), key=lambda row: (row.router, str(row.transport)))]
            for name, rows in self._rows.items()
        }
        document = {"version": VERSION, "network": self._network, "clouds": clouds}
        return json.dumps(document, indent=1, sort_keys=True) + "\n"

    def _recall(self) -> None:
        """From before a restart: all are away until their SA is reported, and none of their sessions ends."""
        if not self._path.exists():
            return
        now = self._loop.time()
        try:
            document = json.loads(files.read_text(self._path, limit_octets=SIZE_LIMIT_OCTETS))
            for name, rows in document["clouds"].items():
                for one in map(_from_json, rows if name in self._rows else ()):
                    self._rows[name][one.transport] = one
                    self._departed[one.transport] = now
        except (Fault, KeyError, TypeError, ValueError, AttributeError) as error:
            log.warning("%s cannot be used, beginning afresh: %s", self._path, error)
            self._rows = {name: {} for name in self._clouds}
            self._departed.clear()


def _row(cloud: CloudSettings, claims: Claims) -> Row | None:
    """None for a hub, which the file names, and for who has no address in this cloud."""
    overlay = tuple(
        one for one in claims.overlay if any(one in net for net in cloud.overlay if net.version == one.version)
    )
    if claims.role is not Role.SPOKE or not overlay:
        return None
    return Row(claims.router, claims.transport, overlay, claims.asn, claims.prefixes)


def _to_json(row: Row) -> dict[str, Any]:
    return {
        "router": row.router,
        "transport": str(row.transport),
        "overlay": sorted(map(str, row.overlay)),
        "asn": row.asn,
        "prefixes": sorted(map(str, row.prefixes)),
    }


def _from_json(row: dict[str, Any]) -> Row:
    return Row(
        router=str(row["router"]),
        transport=ip_address(str(row["transport"])),
        overlay=tuple(ip_address(str(one)) for one in row["overlay"]),
        asn=int(row["asn"]),
        prefixes=tuple(ip_network(str(one)) for one in row["prefixes"]),
    )
