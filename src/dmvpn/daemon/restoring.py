"""Devices that came back bare get what the file says of them: the unit of the kernel's state is reloaded."""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Collection, Hashable

from dmvpn.daemon.settings import Settings
from dmvpn.daemon.tasks import Tasks
from dmvpn.errors import Fault
from dmvpn.linux import keepers
from dmvpn.linux.port_watch import PortWatch

log = logging.getLogger("dmvpnd.uplinks")

RESTORE_S = 2.0  # whoever gives a device its address that has just come had time for it
REST_LIMIT = 5  # of RESTORE_S: so long one that comes and goes all the time keeps the others waiting
AGAIN_LAST_S = 60.0  # what cannot be done yet is tried again, less and less often


class Restoring:
    """Once for all devices that came or were switched on, after they have been left alone for a moment.

    A coming is whatever tells it from the one before; only the last one counts. All that the file says is brought back
    then, of other devices too, but what somebody switched off.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._waiting: dict[str, Callable[[], bool]] = {}
        self._latest_at = 0.0
        self._last: dict[str, Hashable] = {}
        self._comings: Counter[str] = Counter()
        self._tasks = Tasks()
        self._one_at_a_time = asyncio.Lock()
        self._ports: PortWatch | None = None

    def watch(self, uplinks: Collection[str]) -> None:
        """What lies below: ports of networks and VLANs and members of bonds, of which nothing else hears.

        A plain port of an uplink is not among them: what is to be there depends on who else gives it an address.
        """
        names = set(self._settings.ports) - set(uplinks)
        if names:
            self._ports = PortWatch(names)
            self._loop.add_reader(self._ports.fileno(), self._came)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._ports is not None:
            self._loop.remove_reader(self._ports.fileno())
            self._ports.close()

    def later(self, device: str, coming: Hashable, is_bare: Callable[[], bool]) -> None:
        """Restore it if it is bare then."""
        if self._last.get(device) == coming:
            return
        self._last[device] = coming
        now = self._loop.time()
        latest_at = now + REST_LIMIT * RESTORE_S
        self._latest_at = min(self._latest_at, latest_at) if self._waiting else latest_at
        self._waiting[device] = is_bare
        self._arm(min(now + RESTORE_S, self._latest_at), RESTORE_S)

    def _arm(self, at: float, after_s: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(at, self._begin, after_s)

    def _came(self) -> None:
        if self._ports is not None:
            for name in self._ports.came():
                self._comings[name] += 1
                self.later(name, self._comings[name], lambda: True)

    def _begin(self, after_s: float) -> None:
        self._timer = None
        bare = {name: is_bare for name, is_bare in self._waiting.items() if is_bare()}
        self._waiting = {}
        if bare:
            log.info("%s: back, and given what the file says", ", ".join(sorted(bare)))
            self._tasks.begin(self._restore(bare, after_s))

    async def _restore(self, bare: dict[str, Callable[[], bool]], after_s: float) -> None:
        try:
            async with self._one_at_a_time:
                await asyncio.to_thread(self._reload)
        except Fault as fault:
            log.warning("%s", fault)
            waits = bool(self._waiting)
            self._waiting = {**bare, **self._waiting}
            if not waits:  # else whoever came meanwhile has them tried soon
                again_s = min(after_s * 2, AGAIN_LAST_S)
                self._latest_at = self._loop.time() + again_s
                self._arm(self._latest_at, again_s)

    def _reload(self) -> None:
        services = keepers.of_this_process(self._settings.network, self._settings.paths.gre.parent)
        services.reload(f"dmvpn-{self._settings.network}-network")
