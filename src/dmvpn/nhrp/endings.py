"""How a shortcut ends: withdrawn, tried again later, negative for a while, or forgotten."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Final

from dmvpn.nhrp.core import Core
from dmvpn.nhrp.direct import Direct
from dmvpn.nhrp.events import Happening, UnbindNeighbour
from dmvpn.nhrp.liveness import Paths
from dmvpn.nhrp.queries import Queries
from dmvpn.nhrp.rib import host_of
from dmvpn.nhrp.security import Security
from dmvpn.nhrp.shortcut import Shortcut, ShortcutState, ShortcutTable, WhyNot

RECONNECT_FIRST_S: Final = 0.5
RECONNECT_MOST_S: Final = 15.0
STEADY_S: Final = 60.0  # up this long: the next loss starts with the shortest back-off again
USER: Final = "shortcut"  # its name among the users of a path
# The next hop is there, only not by a direct path.
RELAYED_FOR: Final = frozenset(
    {
        WhyNot.NO_ANSWER,
        WhyNot.NO_SECURITY,
        WhyNot.NOT_AUTHORISED,
        WhyNot.NO_PROBE_ANSWER,
        WhyNot.PATH_DEAD,
    }
)


class Endings:
    """`again` asks anew for a shortcut that is still wanted."""

    def __init__(
        self,
        core: Core,
        security: Security,
        paths: Paths,
        queries: Queries,
        again: Callable[[Shortcut], None],
    ) -> None:
        self.table = ShortcutTable()
        self.direct = Direct(core)
        self._core = core
        self._security = security
        self._paths = paths
        self._queries = queries
        self._again = again

    def withdraw(self, shortcuts: Iterable[Shortcut], why: WhyNot, detail: str) -> None:
        """Packets take the hub again; what was up is up no more."""
        up = [shortcut for shortcut in shortcuts if shortcut.state is ShortcutState.UP]
        self.direct.withdraw(up)
        for shortcut in up:
            self._core.timers.disarm(("hold", shortcut.number))
            if self._core.now - shortcut.since >= STEADY_S:
                shortcut.failures = 0
            shortcut.expires = None
            shortcut.refreshing = False
            shortcut.turn(ShortcutState.RESOLVING, self._core.now, why)
            self._core.log(Happening.SHORTCUT_DOWN, shortcut.prefix, detail)

    def give_up(self, shortcut: Shortcut, why: WhyNot) -> None:
        """This attempt failed. Once direct and still wanted is worth other attempts; a pair that never was is not."""
        if not shortcut.up_once or why is WhyNot.VIA_HUB:
            self.negative(shortcut, why)
        elif self._core.now < shortcut.wanted_until:
            self.retry_later(shortcut, why)
        else:
            self.discard(shortcut)

    def retry_later(self, shortcut: Shortcut, why: WhyNot) -> None:
        self._queries.close(shortcut.destination)
        self._core.timers.disarm(("patience", shortcut.number))
        wait = min(RECONNECT_FIRST_S * 2.0**shortcut.failures, RECONNECT_MOST_S)
        shortcut.failures = min(shortcut.failures + 1, 16)
        shortcut.turn(ShortcutState.RESOLVING, self._core.now, why)
        at = self._core.after(wait)
        self._core.timers.arm(("hold", shortcut.number), at, partial(self._again, shortcut))

    def negative(self, shortcut: Shortcut, why: WhyNot) -> None:
        """Remembered so that it is not asked for at every packet. A prefix nobody vouched for covers its host only."""
        self._let_go(shortcut)
        if not shortcut.authorised:
            self.table.move(shortcut, host_of(shortcut.destination))
        shortcut.turn(ShortcutState.NEGATIVE, self._core.now, why)
        shortcut.expires = self._core.now + self._core.settings.negative_s
        self._core.timers.arm(("hold", shortcut.number), shortcut.expires, partial(self.discard, shortcut))
        self._core.log(Happening.NEGATIVE, shortcut.prefix, why)
        if shortcut.next_hop_only and why not in RELAYED_FOR:
            self._core.emit(UnbindNeighbour(shortcut.destination, refused=True))

    def discard(self, shortcut: Shortcut) -> None:
        """Forget it, whatever its state."""
        self.direct.withdraw([shortcut] if shortcut.state is ShortcutState.UP else [])
        if shortcut.next_hop_only:
            self.direct.relay_no_more(shortcut.destination)
        self._let_go(shortcut)
        self.table.drop(shortcut)

    def leave_peer(self, shortcut: Shortcut) -> None:
        """It needs this peer no more: the path's probes and the SA go with their last user."""
        nbma, shortcut.nbma = shortcut.nbma, None
        if nbma is None:
            return
        if not self.table.of_nbma(nbma):
            self._paths.unwatch(nbma, USER)
        self._security.release(nbma, shortcut.user)

    def _let_go(self, shortcut: Shortcut) -> None:
        self._queries.close(shortcut.destination)
        self._core.timers.disarm(("patience", shortcut.number))
        self._core.timers.disarm(("hold", shortcut.number))
        self.leave_peer(shortcut)
