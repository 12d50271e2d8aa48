"""One cloud on this router: an NHRP engine, its doors to the kernel, and nothing that the engine could decide."""

import asyncio
import logging
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from random import Random
from typing import assert_never

from dmvpn.daemon.authority import Authority
from dmvpn.daemon.engine_settings import engine_settings
from dmvpn.daemon.foreign import members_in_clear
from dmvpn.daemon.ike import Ike
from dmvpn.daemon.multicast import Multicast
from dmvpn.daemon.orders import Remote, Up
from dmvpn.daemon.settings import CloudSettings, Settings
from dmvpn.daemon.turn import Turn
from dmvpn.daemon.uplinks import Uplinks
from dmvpn.daemon.watching import Watching
from dmvpn.linux.link_local import overlay_of
from dmvpn.linux.neighbours import LinkForm, Neighbours
from dmvpn.linux.nflog import LoggedPackets
from dmvpn.linux.nhrp_socket import NhrpSocket
from dmvpn.linux.overlay_device import own_link_local
from dmvpn.linux.routes import Shortcuts
from dmvpn.nhrp.engine import Engine
from dmvpn.nhrp.events import (
    Action,
    Authorise,
    BindNeighbour,
    Dropped,
    Endpoint,
    Hairpin,
    Input,
    InstallRoute,
    Log,
    NeighbourMissing,
    OwnEndpoints,
    Received,
    ReleaseSecurity,
    RemoveRoute,
    RestartSecurity,
    SecurityDown,
    SecurityUp,
    Send,
    UnbindNeighbour,
    Used,
    Verdict,
    WantSecurity,
)
from dmvpn.nhrp.snapshot import Snapshot

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
log = logging.getLogger("dmvpnd.nhrp")

EVENT_MEMORY = 512
CLAIMS_WAIT_S = 3.0  # a packet overtakes the word that its SA is up; below the engine's own wait for a verdict
IN_CLEAR_AGAIN_S = 1.0


@dataclass(frozen=True, slots=True)
class Moment:
    """Something that happened, for `nhrp watch` and `explain`: `at` is the loop's clock."""

    at: float
    happening: str
    subject: str
    detail: str


@dataclass(frozen=True, slots=True)
class Doors:
    """What all clouds of a router share."""

    settings: Settings
    authority: Authority
    ike: Ike
    neighbours: Neighbours
    shortcuts: Shortcuts
    watching: Watching
    uplinks: Uplinks
    clouds: Mapping[str, "Cloud"]


class Cloud:
    """Feeds the engine and performs what it asks for. A refusal by the kernel goes back in as an input."""

    def __init__(self, settings: CloudSettings, doors: Doors, restored: Snapshot | None) -> None:
        self.settings = settings
        self._doors = doors
        self._loop = asyncio.get_running_loop()
        self._form = LinkForm.TAP if settings.plane == "userspace" else LinkForm.GRE
        self._socket = NhrpSocket(settings.device, self._form)
        self._hairpins = LoggedPackets(settings.nflog_group) if settings.nhrp.redirect else None
        to_kernel = (doors.neighbours, doors.shortcuts, self._socket)
        named_by_link_local = settings.overlay if settings.link_local_next_hops else ()
        self._turn = Turn(self._form, *to_kernel, named_by_link_local=named_by_link_local)
        self._timer: asyncio.TimerHandle | None = None
        ike = doors.settings.ike
        remotes: dict[Address, list[Remote]] = {}
        # A spoke of this cloud may be a hub of another, or a hub of both elsewhere, and has one SA.
        for hub in (hub for cloud in (settings, *doors.settings.clouds) for hub in cloud.hubs):
            port = ike.nat_port if hub.ours else ike.port
            remotes.setdefault(hub.nbma, []).extend(Remote(host, port) for host in hub.endpoints)
        self._hub_remotes = {nbma: tuple(dict.fromkeys(found)) for nbma, found in remotes.items()}
        # A member in clear has no SA to prove it; what it may claim must not count in an encrypted cloud.
        self.authority = doors.authority if settings.encrypted else Authority()
        self._in_clear = {} if settings.encrypted else members_in_clear(settings, doors.settings.network)
        for nbma, claims in self._in_clear.items():
            self.authority.learn(nbma, claims)
        self._restored = restored
        self._undecided: dict[int, Authorise] = {}
        self.moments: deque[Moment] = deque(maxlen=EVENT_MEMORY)
        self._lines: list[str] = []  # of the log, until the turn's end
        self.drops: Counter[str] = Counter()
        own = replace(engine_settings(settings, doors.settings), link_local=own_link_local(settings.device))
        self.engine = Engine(own, Random(), now=self._loop.time(), restored=restored)
        self._multicast = (
            Multicast(settings.device, settings.multicast_group, self.engine.members, self._count)
            if settings.multicast_group and self._form is LinkForm.GRE
            else None
        )

    # ------------------------------------------------------------ the loop

    def open(self) -> None:
        self._loop.add_reader(self._socket.fileno(), self._readable)
        if self._hairpins is not None:
            self._loop.add_reader(self._hairpins.fileno(), self._hairpinned)
        self.tell_endpoints()
        self._perform_all(self.engine.start(self._loop.time()))
        for nbma in self._in_clear:
            self.feed(SecurityUp(nbma, None))
        if self._multicast is not None:
            self._multicast.open()

    def close(self) -> None:
        """Neighbour entries and routes stay: the next dmvpnd adopts them, and forwarding never stops."""
        if self._timer is not None:
            self._timer.cancel()
        self._loop.remove_reader(self._socket.fileno())
        self._socket.close()
        if self._multicast is not None:
            self._multicast.close()
        if self._hairpins is not None:
            self._loop.remove_reader(self._hairpins.fileno())
            self._hairpins.close()

    def tell_endpoints(self) -> None:
        """Where our uplinks are now; hubs hear of it when it is something else than before."""
        port = self._doors.settings.ike.nat_port
        self.feed(OwnEndpoints(tuple(Endpoint(one, port) for one in self._doors.uplinks.own(self.settings.uplinks))))

    def feed(self, event: Input) -> None:
        self._perform_all(self.engine.receive(event, self._loop.time()))

    def _perform_all(self, actions: list[Action]) -> None:
        self._perform_some(actions)
        self._end_turn()

    def _perform_some(self, actions: list[Action]) -> None:
        """What entries and packets they ask for may wait for the turn's end. The list grows by what answers ask for."""
        for action in actions:
            answers = self._perform(action)
            if self._turn.is_full:
                answers = (*answers, *self._turn.enter())
                self._send()
            for answer in answers:
                actions += self.engine.receive(answer, self._loop.time())

    def _end_turn(self) -> None:
        if self._lines:
            lines, self._lines = self._lines, []
            log.info("\n".join(lines))
        while refused := self._turn.enter():
            for one in refused:
                self._perform_some(self.engine.receive(one, self._loop.time()))
        self._send()
        self._arm()

    def _send(self) -> None:
        failed = self._turn.send()
        if failed:
            self.drops["send-failed"] += failed

    def _arm(self) -> None:
        deadline = self.engine.next_deadline()
        if self._timer is not None:
            if self._timer.when() == deadline:
                return
            self._timer.cancel()
            self._timer = None
        if deadline is not None:
            self._timer = self._loop.call_at(deadline, self._expired)

    def _expired(self) -> None:
        self._timer = None
        self._perform_all(self.engine.advance(self._loop.time()))

    def _readable(self) -> None:
        """As many as one call gives, so that one flooding peer cannot keep the loop from its timers."""
        name, watching, engine, turn = self.settings.name, self._doors.watching, self.engine, self._turn
        now = self._loop.time()
        for octets, sender in self._socket.receive():
            if sender is None:
                # Nobody's SA stands behind it, so nothing in it can be believed.
                self.drops["no-sender"] += 1
                continue
            watching.received(name, octets, sender)
            answer = engine.repeated(octets, sender, now)
            if answer is None:
                self._perform_some(engine.receive(Received(octets, sender), self._loop.time()))
            else:
                watching.sent(name, answer.octets, sender)
                turn.send_later(answer)
        self._end_turn()

    def _hairpinned(self) -> None:
        if self._hairpins is None:
            return
        for packet in self._hairpins.read():
            if packet.device == self.settings.device and packet.sender is not None:
                self.feed(Hairpin(packet.head, packet.sender))

    def remembered_prefixes(self) -> frozenset[Network]:
        """Prefixes of the shortcuts that the engine takes up again."""
        return frozenset(one.prefix for one in self._restored.shortcuts) if self._restored else frozenset()

    def remembered_neighbours(self) -> frozenset[Address]:
        """Next hops that the engine takes up again, or will bind at once: the hubs."""
        hubs = {address for hub in self.settings.hubs for address in hub.overlay}
        if self._restored is None:
            return frozenset(hubs)
        known = {one.protocol for one in self._restored.bindings} | {one.gateway for one in self._restored.shortcuts}
        return frozenset(known | hubs)

    def neighbour_missing(self, protocol: Address) -> None:
        self.feed(NeighbourMissing(self.overlay_of(protocol)))

    def overlay_of(self, gateway: Address) -> Address:
        """The overlay address that is meant by what routing names as next hop."""
        return overlay_of(gateway, self.settings.overlay) if self.settings.link_local_next_hops else gateway

    def concerns(self, nbma: Address) -> bool:
        """Whether an SA with this NBMA address has to do with this cloud."""
        if not self.settings.encrypted:
            return False
        is_hub = any(hub.nbma == nbma for hub in self.settings.hubs)
        return is_hub or self.authority.is_in(nbma, self.settings.overlay)

    def standing(self, nbma: Address | None) -> Up | None:
        """How the peer is reached, if it is: by its SA, or in clear because the file lists it."""
        if nbma in self._in_clear:
            return Up(nbma, "", Remote(str(nbma), 0))
        return None if nbma is None or not self.settings.encrypted else self._doors.ike.standing(nbma)

    def used(self, gateways: Iterable[Address]) -> None:
        """Traffic went to these next hops lately."""
        for nbma in dict.fromkeys(self.engine.nbma_of(self.overlay_of(gateway)) for gateway in gateways):
            if nbma is not None:
                self.feed(Used(nbma))

    def _count(self, reason: str, packets: int) -> None:
        self.drops[reason] += packets

    def security_up(self, nbma: Address, observed: Remote) -> None:
        endpoint = Endpoint(_address(observed.host), observed.port) if _is_address(observed.host) else None
        self.feed(SecurityUp(nbma, endpoint))
        for action in [one for one in self._undecided.values() if one.nbma == nbma]:
            self._decide(action)

    def security_down(self, nbma: Address, why: str) -> None:
        self.feed(SecurityDown(nbma, why))

    # ------------------------------------------------------------ actions

    def _perform(self, action: Action) -> tuple[Input, ...]:
        """What the engine is told of it at once."""
        match action:
            case Send():
                self._doors.watching.sent(self.settings.name, action.octets, action.nbma)
                self._turn.send_later(action)
            case BindNeighbour() | UnbindNeighbour():
                self._turn.change_later(action)
            case Authorise():
                return self._authorise(action)
            case Log():
                self._remember(action)
            case InstallRoute() | RemoveRoute():
                return tuple(self._turn.route(action))
            case WantSecurity() | RestartSecurity() | ReleaseSecurity():
                self._secure(action)
            case Dropped(reason, sender, detail):
                self.drops[reason.value] += 1
                log.debug("%s: dropped from %s: %s: %s", self.settings.name, sender, reason, detail)
            case _:
                assert_never(action)
        return ()

    def _secure(self, action: WantSecurity | RestartSecurity | ReleaseSecurity) -> None:
        ike = self._doors.ike
        if not self.settings.encrypted:
            self._admit_in_clear(action)
            return
        match action:
            case WantSecurity():
                known = tuple(Remote(str(one.address), one.port) for one in action.candidates)
                if action.nbma not in self._doors.settings.transport_range:
                    known = (Remote(str(action.nbma), self._doors.settings.ike.port),)
                ike.want(action.nbma, self._hub_remotes.get(action.nbma, known))
                standing = ike.standing(action.nbma)
                if standing is not None:
                    self._loop.call_soon(self.security_up, action.nbma, standing.remote)
            case RestartSecurity():
                if any(other.engine.answers(action.nbma) for other in self._others()):
                    # The SA is not to blame: this cloud alone begins anew with the peer.
                    self._loop.call_soon(self.security_down, action.nbma, "path dead")
                else:
                    ike.restart(action.nbma)
            case ReleaseSecurity():
                if not any(other.engine.needs(action.nbma) for other in self._others()):
                    ike.release(action.nbma)

    def _others(self) -> Iterator["Cloud"]:
        """The clouds that share an SA with this one, if they have the peer in common."""
        return (one for one in self._doors.clouds.values() if one is not self and one.settings.encrypted)

    def _admit_in_clear(self, action: WantSecurity | RestartSecurity | ReleaseSecurity) -> None:
        """There is nothing to negotiate; a restart only has the engine begin anew with the peer."""
        if action.nbma not in self._in_clear or isinstance(action, ReleaseSecurity):
            return
        if isinstance(action, RestartSecurity):
            self._loop.call_soon(self.security_down, action.nbma, "path dead")
            self._loop.call_later(IN_CLEAR_AGAIN_S, self.feed, SecurityUp(action.nbma, None))
        else:
            self._loop.call_soon(self.feed, SecurityUp(action.nbma, None))

    def _authorise(self, action: Authorise) -> tuple[Verdict, ...]:
        """A refusal makes a client wait for a minute, so nobody is refused before charon had time to tell who it is."""
        if self.authority.claims(action.nbma) is not None:
            return (self._verdict(action),)
        self._undecided[action.ticket] = action
        self._loop.call_later(CLAIMS_WAIT_S, self._decide, action)
        return ()

    def _decide(self, action: Authorise) -> None:
        if self._undecided.pop(action.ticket, None) is not None:
            self.feed(self._verdict(action))

    def _verdict(self, action: Authorise) -> Verdict:
        refusal = self.authority.refusal(action.nbma, action.protocol, action.prefix)
        if refusal:
            log.warning("%s: %s refused: %s", self.settings.name, action.protocol, refusal)
        return Verdict(action.ticket, not refusal, refusal)

    def _remember(self, action: Log) -> None:
        self._doors.watching.happened(self.settings.name, action)
        self.moments.append(Moment(self._loop.time(), action.happening.value, action.subject, action.detail))
        self._lines.append(f"{self.settings.name}: {action.happening.value} {action.subject} {action.detail}")


def _is_address(host: str) -> bool:
    try:
        _address(host)
    except ValueError:
        return False
    return True


def _address(host: str) -> Address:
    return IPv6Address(host) if ":" in host else IPv4Address(host)
