"""What ends shortcuts from outside: a route that moves, a purge, the kernel's refusal, the operator."""

from dmvpn.nhrp.core import Core
from dmvpn.nhrp.endings import Endings
from dmvpn.nhrp.events import (
    Address,
    BindNeighbour,
    Egress,
    Happening,
    InstallRoute,
    Network,
)
from dmvpn.nhrp.rib import Route, contains, overlaps
from dmvpn.nhrp.shortcut import Shortcut, ShortcutState, WhyNot


class Invalidation:
    def __init__(self, core: Core, endings: Endings) -> None:
        self._core = core
        self._endings = endings

    def route_changed(self, new: Route) -> None:
        for shortcut in self._endings.table:
            if shortcut.state is ShortcutState.UP and self._has_moved(shortcut, new):
                self._end(shortcut, f"{new.prefix} is {new.egress} now")

    def _has_moved(self, shortcut: Shortcut, new: Route) -> bool:
        """Does `new` take the shortcut's packets to another egress?

        A route that disappears uncovers a wider one, the default route in the end: that is no move, so only a route at
        least as specific as the former counts. Nor is an unreachable route a better way.
        """
        former = shortcut.route
        if contains(shortcut.prefix, new.prefix) and shortcut.prefix != new.prefix:
            return new.is_here or (former is not None and not new.same_egress(former))
        if self._core.rib.covering(shortcut.prefix) != new or new.egress is Egress.UNREACHABLE:
            return False
        if former is None or new.prefix.prefixlen < former.prefix.prefixlen:
            return False
        if new.same_egress(former):
            shortcut.route = new
            return False
        return True

    def purged(self, network: Network, owner: Address) -> None:
        for shortcut in self._endings.table:
            if shortcut.nbma == owner and overlaps(shortcut.prefix, network):
                self._core.log(Happening.PURGED, shortcut.prefix, f"by {owner}")
                self._end(shortcut, "purged")

    def forget(self, network: Network | None) -> None:
        """The operator's purge; negative entries go too."""
        for shortcut in self._endings.table:
            if network is None or overlaps(shortcut.prefix, network):
                self._core.log(Happening.PURGED, shortcut.prefix, "by the operator")
                self._end(shortcut, "purged")

    def refused(self, action: BindNeighbour | InstallRoute, reason: str) -> None:
        """The kernel has not done it, so nobody may believe in it."""
        for shortcut in self._endings.table:
            if shortcut.state is ShortcutState.UP and self._needed(shortcut, action):
                self._endings.withdraw([shortcut], WhyNot.KERNEL_REFUSED, f"the kernel refused: {reason}")
                self._endings.negative(shortcut, WhyNot.KERNEL_REFUSED)

    def _needed(self, shortcut: Shortcut, action: BindNeighbour | InstallRoute) -> bool:
        match action:
            case BindNeighbour():
                return shortcut.gateway == action.protocol
            case InstallRoute():
                return shortcut.prefix == action.prefix

    def _end(self, shortcut: Shortcut, detail: str) -> None:
        self._endings.withdraw([shortcut], WhyNot.ASKING, detail)
        self._endings.discard(shortcut)
