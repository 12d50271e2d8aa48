"""Routing daemons that told their routes to a zebra that is no more: they are started again, as FRR's watchfrr does.

A daemon tells zebra of each route once. The zebra that comes after a killed one keeps what the kernel has for a
minute, in case somebody tells it again, and then takes it away; whoever had told the one before does not.
"""

import asyncio
import logging
import time
from collections import Counter

from dmvpn.daemon.control import SEVERE, Trouble
from dmvpn.daemon.settings import Settings
from dmvpn.errors import Fault
from dmvpn.linux import keepers, vtysh
from dmvpn.linux.vtysh import Made

log = logging.getLogger("dmvpnd.routing")

LOOK_EVERY_S = 1.0
SURE = 2  # looks: who starts all of them anew is not met halfway
AGAIN_FIRST_S, AGAIN_LAST_S = 10.0, 300.0  # after a restart that failed, twice as long each time


class Orphans:
    """At most once for each zebra: a clock that was put back makes every daemon look older than it."""

    def __init__(self, settings: Settings) -> None:
        self._run = settings.paths.frr_run
        self._network = settings.network
        self._services = keepers.of_this_process(settings.network, settings.paths.gre.parent)
        self._seen: Counter[tuple[str, Made]] = Counter()
        self._done: dict[str, Made] = {}
        self._failed: dict[str, str] = {}
        self._wait_s: dict[str, float] = {}
        self._again_at: dict[str, float] = {}

    @property
    def troubles(self) -> tuple[Trouble, ...]:
        """Of restarts that fail."""
        what = "zebra has started again, and {}, which told the one before its routes, cannot be restarted: {}"
        return tuple(Trouble(SEVERE, what.format(*one), "dmvpn run") for one in self._failed.items())

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            zebra, older = vtysh.older_than_zebra(self._run)
            for daemon in tuple(self._failed):
                if zebra is not None and daemon not in older and vtysh.is_served(self._run, daemon):
                    self._forget(daemon)  # somebody else started it
            # One that did not come up again is older than nothing.
            now = time.monotonic()
            wanted = {daemon for daemon in (*older, *self._failed) if now >= self._again_at.get(daemon, now)}
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
            self._failed[daemon] = str(fault)
            wait_s = self._wait_s.get(daemon, AGAIN_FIRST_S)
            self._again_at[daemon] = time.monotonic() + wait_s
            self._wait_s[daemon] = min(wait_s * 2, AGAIN_LAST_S)
        else:
            self._forget(daemon)
            self._done[daemon] = zebra

    def _forget(self, daemon: str) -> None:
        for known in (self._failed, self._wait_s, self._again_at):
            known.pop(daemon, None)
