"""Routing daemons that told their routes to a zebra that is no more: they are started again, as FRR's watchfrr does.

A daemon tells zebra of each route once. The zebra that comes after a killed one keeps what the kernel has for a
minute, in case somebody tells it again, and then takes it away; whoever had told the one before does not.
"""

import asyncio
import logging
import time
from collections import Counter
from dataclasses import dataclass

from dmvpn.daemon.control import SEVERE, Trouble
from dmvpn.daemon.settings import Settings
from dmvpn.errors import Fault
from dmvpn.linux import keepers, vtysh
from dmvpn.linux.vtysh import Made

log = logging.getLogger("dmvpnd.routing")

LOOK_EVERY_S = 1.0
SURE = 2  # looks: who starts all of them anew is not met halfway
AGAIN_FIRST_S, AGAIN_LAST_S = 10.0, 300.0  # after a restart that failed, twice as long each time


@dataclass(frozen=True, slots=True)
class _Failed:
    """A restart that failed, and when it is tried again, by the monotonic clock."""

    why: str
    wait_s: float
    again_at: float


class Orphans:
    """At most once for each zebra: a clock that was put back makes every daemon look older than it."""

    def __init__(self, settings: Settings) -> None:
        self._run = settings.paths.frr_run
        self._network = settings.network
        self._services = keepers.of_this_process(settings.network, settings.paths.gre.parent)
        self._seen: Counter[tuple[str, Made]] = Counter()
        self._done: dict[str, Made] = {}
        self._failed: dict[str, _Failed] = {}

    @property
    def troubles(self) -> tuple[Trouble, ...]:
        """Of restarts that fail."""
        what = "zebra has started again, and {}, which told the one before its routes, cannot be restarted: {}"
        return tuple(Trouble(SEVERE, what.format(name, one.why), "dmvpn run") for name, one in self._failed.items())

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            zebra, older = vtysh.older_than_zebra(self._run)
            for daemon in tuple(self._failed):
                if zebra is not None and daemon not in older and vtysh.is_served(self._run, daemon):
                    del self._failed[daemon]  # somebody else started it
            # One that did not come up again is older than nothing.
            now = time.monotonic()
            waiting = {daemon for daemon, failed in self._failed.items() if now < failed.again_at}
            wanted = {*older, *self._failed} - waiting
            found = {(daemon, zebra) for daemon in wanted if zebra is not None and self._done.get(daemon) != zebra}
            self._seen = Counter({one: self._seen[one] + 1 for one in found})
            for daemon, of in found:
                if self._seen[daemon, of] >= SURE:
                    await self._restart(daemon, of)

    async def _restart(self, daemon: str, zebra: Made) -> None:
        log.warning("zebra has started again and knows no route of %s, which is restarted", daemon)
        try:
            await asyncio.to_thread(self._services.restart, f"dmvpn-{self._network}-{daemon}")
        except Fault as fault:
            log.warning("%s", fault)
            before = self._failed.get(daemon)
            wait_s = AGAIN_FIRST_S if before is None else min(before.wait_s * 2, AGAIN_LAST_S)
            self._failed[daemon] = _Failed(str(fault), wait_s, time.monotonic() + wait_s)
        else:
            self._failed.pop(daemon, None)
            self._done[daemon] = zebra
