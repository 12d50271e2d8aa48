"""The NHRP engine, sans-IO: inputs and the time go in, actions come out. One for each cloud of a router."""

from random import Random
from typing import Final, assert_never

from dmvpn.nhrp.core import Core
from dmvpn.nhrp.events import (
    Action,
    Address,
    BindNeighbour,
    EngineSettings,
    Forget,
    Hairpin,
    Input,
    InstallRoute,
    NeighbourMissing,
    OwnEndpoints,
    Received,
    Refused,
    RouteChanged,
    RouteGone,
    SecurityDown,
    SecurityUp,
    Send,
    Used,
    Verdict,
)
from dmvpn.nhrp.ids import Requests
from dmvpn.nhrp.machines import Machines
from dmvpn.nhrp.persistence import restore, take_snapshot
from dmvpn.nhrp.reception import Reception
from dmvpn.nhrp.rib import Route
from dmvpn.nhrp.snapshot import Snapshot
from dmvpn.nhrp.survey import survey
from dmvpn.nhrp.view import View

# A snapshot may be older than the last request: ids that its process may have used since are left out.
SKIPPED_IDS: Final = 65_536


class Engine:
    """receive(), start() and advance() return what is to be done, in order. Octets of a peer never make them raise.

    `now` is any monotonic clock's reading in seconds, the same clock at every call.
    """

    def __init__(
        self,
        settings: EngineSettings,
        random: Random,
        *,
        now: float,
        restored: Snapshot | None = None,
        first_request_id: int | None = None,
    ) -> None:
        first_id = random.getrandbits(32) if first_request_id is None else first_request_id
        if restored is not None:
            first_id = restored.request_id + SKIPPED_IDS
        self._core = Core(settings, random, Requests(first_id), now)
        self._machines = Machines(self._core)
        self._reception = Reception(self._core, self._machines)
        self._restored = restored

    def start(self, now: float) -> list[Action]:
        """Once, before all else: what was adopted from a snapshot is bound again, and the hubs are asked for."""
        self._core.now = now
        if self._restored is not None:
            restore(self._core, self._machines, self._restored)
            self._restored = None
        self._machines.client.start()
        return self._taken()

    def receive(self, received: Input, now: float) -> list[Action]:
        self._core.now = now
        self._core.timers.run_due(now)
        self._dispatch(received)
        return self._taken()

    def repeated(self, octets: bytes, sender: Address, now: float) -> Send | None:
        """The short way for most of what a hub receives, a registration said again: its answer; None for all else.

        Nothing else is done then, and receive() with the same packet would have given this answer.
        """
        self._core.now = now
        return self._machines.server.repeated(octets, sender)

    def advance(self, now: float) -> list[Action]:
        """Do what is due."""
        self._core.now = now
        self._core.timers.run_due(now)
        return self._taken()

    def next_deadline(self) -> float | None:
        return self._core.timers.next_deadline()

    def snapshot(self, now: float) -> Snapshot:
        self._core.now = now
        return take_snapshot(self._core, self._machines)

    def members(self) -> tuple[Address, ...]:
        """NBMA addresses of the hubs and registered clients that can be sent to now: who gets copies of multicast."""
        return tuple(dict.fromkeys(one.nbma for one in self._core.bindings if one.routes and one.bound))

    def nbma_of(self, gateway: Address) -> Address | None:
        """Whom a shortcut has bound to this next hop."""
        return self._machines.shortcuts.nbma_of(gateway)

    def needs(self, nbma: Address) -> bool:
        """Whether this cloud has a use for an SA with the peer."""
        return self._machines.security.needs(nbma)

    def answers(self, nbma: Address) -> bool:
        """Whether packets go to the peer and come back, as far as this cloud probes it."""
        return self._machines.paths.answers(nbma)

    def view(self, now: float) -> View:
        self._core.now = now
        return survey(self._core, self._machines)

    def _taken(self) -> list[Action]:
        actions, self._core.actions = self._core.actions, []
        return actions

    # ------------------------------------------------------------ dispatch

    def _dispatch(self, received: Input) -> None:
        match received:
            case Received(octets, sender):  # first, and at once: of thousands a second all but a few are these two
                self._reception.packet(octets, sender)
            case Verdict():
                self._machines.authorisations.verdict(received)
            case Hairpin() | NeighbourMissing() | Used():
                self._traffic(received)
            case SecurityUp() | SecurityDown():
                self._trust(received)
            case RouteChanged() | RouteGone():
                self._route(received)
            case OwnEndpoints(private):
                self._machines.own_endpoints(private)
            case Refused(action, reason):
                self._refused(action, reason)
            case Forget(prefix):
                self._machines.forget(prefix)
            case _:
                assert_never(received)

    def _traffic(self, received: Hairpin | NeighbourMissing | Used) -> None:
        match received:
            case Hairpin():
                self._machines.indications.hairpin(received)
            case NeighbourMissing(protocol):
                self._machines.next_hops.missing(protocol)
            case Used(nbma):
                self._machines.shortcuts.used(nbma)
            case _:
                assert_never(received)

    def _trust(self, received: SecurityUp | SecurityDown) -> None:
        match received:
            case SecurityUp(nbma, observed):
                self._machines.security_up(nbma, observed)
            case SecurityDown(nbma, reason):
                self._machines.security_down(nbma, reason)
            case _:
                assert_never(received)

    def _route(self, received: RouteChanged | RouteGone) -> None:
        match received:
            case RouteChanged(prefix, egress, gateway, device, more):
                route = Route(prefix, egress, gateway, device, more)
                self._core.rib.put(route)
                self._machines.invalidation.route_changed(route)
            case RouteGone(prefix):
                self._core.rib.drop(prefix)
            case _:
                assert_never(received)
        self._machines.purges.routes_changed(prefix)

    def _refused(self, action: BindNeighbour | InstallRoute, reason: str) -> None:
        if isinstance(action, BindNeighbour):
            binding = self._core.bindings.get(action.protocol)
            if binding is not None:
                binding.bound = False
        self._machines.invalidation.refused(action, reason)
