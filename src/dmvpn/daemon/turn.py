"""What one turn of the loop asks of the kernel for a cloud, done in few system calls: entries first, then packets.

A hub's registrations come many at a time, and each asks for a neighbour entry and an answer. Both wait here until the
turn's packets are all read: one request then makes the entries, one call sends the answers, so whoever reads an answer
finds its entry made. Each kind keeps its order, and a route finds every entry made that was asked for before it.
"""

import logging
from dataclasses import replace
from typing import Final, assert_never

from dmvpn.errors import Fault
from dmvpn.linux.link_local import Network, link_locals_of
from dmvpn.linux.neighbours import Change, LinkForm, Neighbours
from dmvpn.linux.nhrp_socket import NhrpSocket
from dmvpn.linux.routes import Shortcuts
from dmvpn.nhrp.events import BindNeighbour, InstallRoute, Refused, RemoveRoute, Send, UnbindNeighbour

log = logging.getLogger("dmvpnd.nhrp")

WAITING_LIMIT: Final = 256  # entries or packets: far below what one netlink datagram takes


class Turn:
    """One cloud's. What is refused is returned as what the engine is told of it."""

    def __init__(
        self,
        form: LinkForm,
        neighbours: Neighbours,
        shortcuts: Shortcuts,
        packets: NhrpSocket,
        *,
        named_by_link_local: tuple[Network, ...] = (),
    ) -> None:
        """Next hops in the overlays `named_by_link_local` are bound under their link-local addresses as well."""
        self._form = form
        self._named_by_link_local = named_by_link_local
        self._device = packets.device
        self._neighbours = neighbours
        self._shortcuts = shortcuts
        self._packets = packets
        self._changes: list[BindNeighbour | UnbindNeighbour] = []
        self._sends: list[Send] = []

    @property
    def is_full(self) -> bool:
        """Whether `enter` and `send` are due before the turn's end."""
        return len(self._changes) >= WAITING_LIMIT or len(self._sends) >= WAITING_LIMIT

    def change_later(self, action: BindNeighbour | UnbindNeighbour) -> None:
        self._changes.append(action)

    def send_later(self, action: Send) -> None:
        self._sends.append(action)

    def route(self, action: InstallRoute | RemoveRoute) -> list[Refused]:
        """At once, behind the entries that wait."""
        refused = self.enter()
        try:
            match action:
                case InstallRoute(prefix, gateway, mtu_octets):
                    self._shortcuts.install(prefix, gateway, self._device, mtu_octets=mtu_octets)
                case RemoveRoute(prefix):
                    self._shortcuts.remove(prefix, self._device)
                case _:
                    assert_never(action)
        except Fault as fault:
            log.warning("%s", fault)
            if isinstance(action, InstallRoute):
                refused.append(Refused(action, str(fault)))
        return refused

    def enter(self) -> list[Refused]:
        """Make the entries that wait."""
        if not self._changes:
            return []
        actions, self._changes = self._changes, []
        changes = [(action, change) for action in actions for change in self._changes_of(action)]
        faults = self._neighbours.change_all(self._device, self._form, [change for _, change in changes])
        refused: dict[int, Refused] = {}
        for place, fault in faults.items():
            log.warning("%s", fault)
            action = changes[place][0]
            if isinstance(action, BindNeighbour):
                refused.setdefault(id(action), Refused(action, str(fault)))
        # Of two entries of one next hop both stand or none.
        halves = [replace(change, nbma=None) for action, change in changes if id(action) in refused]
        if len(halves) > len(refused):
            self._neighbours.change_all(self._device, self._form, halves)
        return list(refused.values())

    def _changes_of(self, action: BindNeighbour | UnbindNeighbour) -> tuple[Change, ...]:
        change = _change(action)
        besides = link_locals_of((change.protocol,), self._named_by_link_local)
        return (change, *(replace(change, protocol=beside.network_address) for beside in besides))

    def send(self) -> int:
        """Send the packets that wait; how many the kernel did not take, which NHRP will repeat. Call `enter` before."""
        if not self._sends:
            return 0
        actions, self._sends = self._sends, []
        failed = self._packets.send_all([(action.octets, action.nbma) for action in actions])
        for fault in failed.values():
            if not fault.ever:
                log.warning("%s", fault)
        return len(failed)


def _change(action: BindNeighbour | UnbindNeighbour) -> Change:
    match action:
        case BindNeighbour(protocol, nbma):
            return Change(protocol, nbma)
        case UnbindNeighbour(protocol, refused):
            return Change(protocol, refused=refused)
        case _:
            assert_never(action)
