"""What the kernel is told about shortcuts: neighbour entries shared by the shortcuts of a gateway, and routes.

In phase 2 the next hop is given by routing: while there is no direct path, its entry leads to the hub, which relays.
"""

from collections.abc import Iterable

from dmvpn.nhrp.core import Core
from dmvpn.nhrp.events import Address, BindNeighbour, InstallRoute, RemoveRoute, UnbindNeighbour
from dmvpn.nhrp.shortcut import Shortcut


class Direct:
    """A neighbour entry goes in before the first route that needs it, and out after the last."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._gateways: dict[int, Address] = {}  # by shortcut
        self._neighbours: dict[Address, tuple[Address, set[int]]] = {}  # gateway: its NBMA address, shortcuts
        self._relayed: dict[Address, Address] = {}  # gateway: the hub that takes its packets

    def nbma_of(self, gateway: Address) -> Address | None:
        known = self._neighbours.get(gateway)
        return None if known is None else known[0]

    def install(self, shortcut: Shortcut, gateway: Address, nbma: Address) -> None:
        bound_to, numbers = self._neighbours.get(gateway, (None, set()))
        numbers.add(shortcut.number)
        self._relayed.pop(gateway, None)
        self._gateways[shortcut.number] = gateway
        self._neighbours[gateway] = (nbma, numbers)
        if bound_to != nbma and not self._is_held_elsewhere(gateway):
            self._core.emit(BindNeighbour(gateway, nbma))
        if not shortcut.next_hop_only:
            self._core.emit(InstallRoute(shortcut.prefix, gateway, shortcut.mtu_octets))

    def withdraw(self, shortcuts: Iterable[Shortcut]) -> None:
        """What install() was told. All routes first: without the neighbour entry they would be black holes."""
        gone = list(shortcuts)
        for shortcut in gone:
            if not shortcut.next_hop_only:
                self._core.emit(RemoveRoute(shortcut.prefix))
        for shortcut in gone:
            self._leave(shortcut.number)

    def relay(self, gateway: Address, hub: Address) -> None:
        """Packets for this next hop take the hub until it is told otherwise."""
        self._relayed[gateway] = hub
        self._core.emit(BindNeighbour(gateway, hub))

    def relay_no_more(self, gateway: Address) -> None:
        """The kernel asks again at the next packet."""
        if self._relayed.pop(gateway, None) is not None and not self._is_held_elsewhere(gateway):
            self._core.emit(UnbindNeighbour(gateway))

    def relay_lost(self, hub: Address) -> None:
        for gateway in [gateway for gateway, taker in self._relayed.items() if taker == hub]:
            self.relay_no_more(gateway)

    def _leave(self, number: int) -> None:
        gateway = self._gateways.pop(number)
        _, numbers = self._neighbours[gateway]
        numbers.discard(number)
        if not numbers:
            del self._neighbours[gateway]
            if not self._is_held_elsewhere(gateway):
                self._core.emit(UnbindNeighbour(gateway))

    def _is_held_elsewhere(self, gateway: Address) -> bool:
        """A hub's or client's entry belongs to its registration."""
        binding = self._core.bindings.get(gateway)
        return binding is not None and binding.bound
