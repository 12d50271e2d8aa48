"""Phase 2: next hops that the kernel asks for are resolved through the hub and bound once they are proved.

Until then, and when that fails, the hub relays for them.
"""

from dmvpn.nhrp.core import Core
from dmvpn.nhrp.endings import RELAYED_FOR
from dmvpn.nhrp.events import Address, BindNeighbour, UnbindNeighbour
from dmvpn.nhrp.shortcut import ShortcutState
from dmvpn.nhrp.shortcuts import Shortcuts

NEXT_HOPS_RESOLVED_FROM_PHASE = 2


class NextHops:
    def __init__(self, core: Core, shortcuts: Shortcuts) -> None:
        self._core = core
        self._shortcuts = shortcuts

    def missing(self, protocol: Address) -> None:
        """Answer the kernel at once if possible; else find out, unless nobody could be asked."""
        binding = self._core.bindings.get(protocol)
        nbma = binding.nbma if binding is not None and binding.bound else self._shortcuts.nbma_of(protocol)
        if nbma is not None:
            self._core.emit(BindNeighbour(protocol, nbma))
            return
        if binding is not None and binding.routes:
            self._refuse(protocol)  # a hub or client whose SA is down
            return
        hub = self._core.first_hub() if self._core.settings.phase >= NEXT_HOPS_RESOLVED_FROM_PHASE else None
        if hub is None or not self._core.in_overlay(protocol) or self._core.is_own(protocol):
            self._refuse(protocol)
            return
        shortcut = self._shortcuts.want(protocol, next_hop_only=True)
        if shortcut is None or (shortcut.state is ShortcutState.NEGATIVE and shortcut.why not in RELAYED_FOR):
            self._refuse(protocol)
        else:
            self._shortcuts.endings.direct.relay(protocol, hub)

    def _refuse(self, protocol: Address) -> None:
        self._core.emit(UnbindNeighbour(protocol, refused=True))
