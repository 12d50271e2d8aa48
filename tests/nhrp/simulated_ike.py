"""A model of the keying daemons: both ends must want an SA, unless one is a hub, and a delete may get lost."""

from ipaddress import IPv4Address
from itertools import count
from typing import TYPE_CHECKING, Any

from dmvpn.nhrp.events import (
    Endpoint,
    ReleaseSecurity,
    RestartSecurity,
    Role,
    SecurityDown,
    SecurityUp,
    WantSecurity,
)

if TYPE_CHECKING:
    from simulation import Node, Simulation

EXCHANGE_S = 0.3
AGAIN_S = 0.2
GIVES_UP_S = 5.0


def endpoint_of(nbma: Any) -> Endpoint:
    return Endpoint(IPv4Address(f"203.0.113.{int(nbma) & 0xFF}"), 4500)


class Ike:
    def __init__(self, simulation: "Simulation") -> None:
        self._sim = simulation
        self._attempts: dict[frozenset[Any], int] = {}
        self._serial = count()
        self.impossible: set[frozenset[Any]] = set()  # pairs behind symmetric NATs

    def perform(self, node: "Node", action: WantSecurity | RestartSecurity | ReleaseSecurity) -> None:
        match action:
            case WantSecurity(nbma):
                node.wanted.add(nbma)
                self._initiate(node, nbma)
            case RestartSecurity(nbma):
                node.wanted.add(nbma)
                self.tear(node.nbma, nbma)
                self._initiate(node, nbma)
            case ReleaseSecurity(nbma):
                node.wanted.discard(nbma)
                self.tear(node.nbma, nbma)

    def _initiate(self, node: "Node", nbma: Any) -> None:
        pair = frozenset((node.nbma, nbma))
        if pair in self._attempts or nbma == node.nbma:
            return
        if nbma in node.sas:
            self._sim.at(0.0, lambda: self._report_up(node, nbma))
            return
        attempt = self._attempts[pair] = next(self._serial)
        until = self._sim.now + EXCHANGE_S + GIVES_UP_S
        self._sim.at(EXCHANGE_S, lambda: self._exchange(node, nbma, attempt, until))

    def _exchange(self, node: "Node", nbma: Any, attempt: int, until: float) -> None:
        pair = frozenset((node.nbma, nbma))
        if self._attempts.get(pair) != attempt:
            return
        peer = self._sim.nodes.get(nbma)
        if peer is not None and self._can_meet(node, peer):
            del self._attempts[pair]
            for one, other in ((node, peer), (peer, node)):
                one.sas.add(other.nbma)
                self._later_up(one, other.nbma)
        elif self._sim.now >= until:
            del self._attempts[pair]
            for one, other in ((node, nbma), (peer, node.nbma)):
                if one is not None and other in one.wanted:
                    self._sim.tell(one, SecurityDown(other, "no answer"))
        else:
            self._sim.at(AGAIN_S, lambda: self._exchange(node, nbma, attempt, until))

    def _can_meet(self, node: "Node", peer: "Node") -> bool:
        if frozenset((node.nbma, peer.nbma)) in self.impossible or not self._sim.path_is_up(node.nbma, peer.nbma):
            return False
        a_hub = Role.HUB in (node.settings.role, peer.settings.role)
        return a_hub or (peer.nbma in node.wanted and node.nbma in peer.wanted)

    def _later_up(self, node: "Node", nbma: Any) -> None:
        self._sim.at(self._sim.random.uniform(0, 0.05), lambda: self._report_up(node, nbma))

    def _report_up(self, node: "Node", nbma: Any) -> None:
        if nbma in node.sas:
            self._sim.tell(node, SecurityUp(nbma, endpoint_of(nbma)))

    def tear(self, one: Any, other: Any) -> None:
        """The peer keeps its half if the delete does not reach it."""
        self._attempts.pop(frozenset((one, other)), None)
        for mine, theirs in ((one, other), (other, one)):
            node = self._sim.nodes.get(mine)
            reached = mine == one or self._sim.path_is_up(one, other)
            if node is not None and theirs in node.sas and reached:
                node.sas.discard(theirs)
                self._later_down(node, theirs)

    def _later_down(self, node: "Node", nbma: Any) -> None:
        def report() -> None:
            if nbma not in node.sas:
                self._sim.tell(node, SecurityDown(nbma, "closed"))

        self._sim.at(0.01, report)
