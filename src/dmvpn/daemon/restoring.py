"""Devices that came back bare get what the file says of them: the unit of the kernel's state is reloaded."""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Collection, Hashable

from dmvpn.daemon.settings import Settings
from dmvpn.daemon.tasks import Tasks
from dmvpn.errors import Fault
from dmvpn.linux import keepers
from dmvpn.linux.netstate_file import load
from dmvpn.linux.port_watch import PortWatch

log = logging.getLogger("dmvpnd.uplinks")

RESTORE_S = 2.0  # whoever gives a device its address that has just come had time for it
AGAIN_LAST_S = 60.0  # what cannot be done yet is tried again, less and less often
NETWORK_JSON = "network.json"


class Restoring:
    """Once for each time that a device came or was switched on, after it has been left alone for a moment.

    A coming is whatever tells it from the one before; only the last one counts. All that the file says is brought back
    then, of other devices too, but what somebody switched off.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._loop = asyncio.get_running_loop()
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._last: dict[str, Hashable] = {}
        self._comings: Counter[str] = Counter()
        self._tasks = Tasks()
        self._one_at_a_time = asyncio.Lock()
        self._ports: PortWatch | None = None

    def watch(self, uplinks: Collection[str]) -> None:
        """What lies below: ports of networks and VLANs and members of bonds, of which nothing else hears.

        A plain port of an uplink is not among them: what is to be there depends on who else gives it an address.
        """
        names = below(self._settings) - set(uplinks)
        if names:
            self._ports = PortWatch(names)
            self._loop.add_reader(self._ports.fileno(), self._came)

    def close(self) -> None:
        for timer in self._timers.values():
            timer.cancel()
        if self._ports is not None:
            self._loop.remove_reader(self._ports.fileno())
            self._ports.close()

    def later(self, device: str, coming: Hashable, is_bare: Callable[[], bool]) -> None:
        """Restore it if it is bare then."""
        if self._last.get(device) != coming:
            self._last[device] = coming
            self._arm(device, coming, is_bare, RESTORE_S)

    def _arm(self, device: str, coming: Hashable, is_bare: Callable[[], bool], after_s: float) -> None:
        if device in self._timers:
            self._timers[device].cancel()
        self._timers[device] = self._loop.call_later(after_s, self._begin, device, coming, is_bare, after_s)

    def _came(self) -> None:
        if self._ports is not None:
            for name in self._ports.came():
                self._comings[name] += 1
                self.later(name, self._comings[name], lambda: True)

    def _begin(self, device: str, coming: Hashable, is_bare: Callable[[], bool], after_s: float) -> None:
        del self._timers[device]
        if is_bare():
            log.info("%s is back: it gets what the file says", device)
            self._tasks.begin(self._restore(device, coming, is_bare, after_s))

    async def _restore(self, device: str, coming: Hashable, is_bare: Callable[[], bool], after_s: float) -> None:
        try:
            async with self._one_at_a_time:
                await asyncio.to_thread(self._reload)
        except Fault as fault:
            log.warning("%s", fault)
            if self._last[device] == coming:
                self._arm(device, coming, is_bare, min(after_s * 2, AGAIN_LAST_S))

    def _reload(self) -> None:
        services = keepers.of_this_process(self._settings.network, self._settings.paths.gre.parent)
        services.reload(f"dmvpn-{self._settings.network}-network")


def below(settings: Settings) -> frozenset[str]:
    """Devices of the machine that the file in force makes something of; none if it cannot be read."""
    try:
        links = load(settings.paths.swanctl_conf.with_name(NETWORK_JSON)).links
    except Fault as fault:
        log.warning("%s", fault)
        return frozenset()
    members = {member for bond in links.bonds for member in bond.members}
    return frozenset(members | {port.name for port in links.ports} | links.made)
