"""Many engines in virtual time: a wire that loses, delays, doubles and reorders, and a model of forwarding."""

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv4Network, ip_address, ip_network
from itertools import count
from random import Random
from typing import Any, assert_never

from simulated_ike import Ike, endpoint_of

from dmvpn.nhrp.engine import Engine
from dmvpn.nhrp.events import (
    Action,
    Authorise,
    BindNeighbour,
    Dropped,
    Egress,
    Endpoint,
    EngineSettings,
    Hairpin,
    HubSetting,
    Input,
    InstallRoute,
    Log,
    NeighbourMissing,
    OwnEndpoints,
    Received,
    ReleaseSecurity,
    RemoveRoute,
    RestartSecurity,
    Role,
    RouteChanged,
    SecurityUp,
    Send,
    UnbindNeighbour,
    Used,
    Verdict,
    WantSecurity,
)
from dmvpn.nhrp.snapshot import Snapshot

OVERLAY = ip_network("10.255.1.0/24")
INTERNAL = ip_network("10.0.0.0/8")
DEVICE = "acme-blue"
VERDICT_S = 0.01


def hub_number(number: int) -> int:
    return number


def spoke_number(number: int) -> int:
    return 10 + number


def nbma_of(number: int) -> IPv4Address:
    return IPv4Address(f"100.64.0.{number}")


def overlay_of(number: int) -> IPv4Address:
    return IPv4Address(f"10.255.1.{number}")


def lan_of(number: int) -> IPv4Network:
    return IPv4Network(f"10.1.{number}.0/24")


def host_of(number: int) -> IPv4Address:
    return lan_of(number)[10]


@dataclass
class Wire:
    """Of each link; rates are probabilities. Delay is uniform between the two, so packets overtake each other."""

    loss: float = 0.0
    doubled: float = 0.0
    delay_s: tuple[float, float] = (0.02, 0.02)


@dataclass
class Node:
    """A router: its engine and the kernel as the engine left it. `claims` is what its certificate says."""

    number: int
    settings: EngineSettings
    engine: Engine
    claims: tuple[Any, ...]
    alive: bool = True
    neighbours: dict[Any, Any] = field(default_factory=dict)
    shortcuts: dict[Any, Any] = field(default_factory=dict)
    routes: list[RouteChanged] = field(default_factory=list)
    sas: set[Any] = field(default_factory=set)
    wanted: set[Any] = field(default_factory=set)
    logs: list[tuple[float, Log]] = field(default_factory=list)
    drops: list[tuple[float, Dropped]] = field(default_factory=list)
    sent: list[tuple[float, Send]] = field(default_factory=list)
    tapped: list[Action] = field(default_factory=list)

    @property
    def nbma(self) -> Any:
        return self.settings.nbma

    def kernel(self, action: BindNeighbour | UnbindNeighbour | InstallRoute | RemoveRoute) -> None:
        match action:
            case BindNeighbour(protocol, nbma):
                self.neighbours[protocol] = nbma
            case UnbindNeighbour(protocol):
                assert protocol not in self.shortcuts.values(), "a neighbour went before its route: a black hole"
                self.neighbours.pop(protocol, None)
            case InstallRoute(prefix, gateway):
                assert gateway in self.neighbours, "a route before its neighbour is a black hole"
                self.shortcuts[prefix] = gateway
            case RemoveRoute(prefix):
                self.shortcuts.pop(prefix, None)


class Simulation:
    def __init__(self, seed: int, *, hubs: int = 1, spokes: int = 3, wire: Wire | None = None, **settings: Any) -> None:
        self.random = Random(seed)
        self.wire = wire or Wire()
        self.now = 0.0
        self.trace: list[str] = []
        self.cut: set[frozenset[Any]] = set()
        self.nodes: dict[Any, Node] = {}
        self.by_number: dict[int, Node] = {}
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._serial = count()
        self.ike = Ike(self)
        self._extra = settings
        self.hub_numbers = list(range(1, hubs + 1))
        self.spoke_numbers = [spoke_number(number) for number in range(1, spokes + 1)]
        for number in self.hub_numbers:
            self._add(number, Role.HUB)
        for number in self.spoke_numbers:
            self._add(number, Role.SPOKE)

    # ------------------------------------------------------------ building

    def _settings(self, number: int, role: Role) -> EngineSettings:
        others = [hub for hub in self.hub_numbers if hub != number]
        hubs = tuple(HubSetting(f"hub{hub}", (overlay_of(hub),), nbma_of(hub), ours=True) for hub in others)
        base = EngineSettings(
            role=role,
            phase=3,
            protocol=(overlay_of(number),),
            overlay=(OVERLAY,),
            nbma=nbma_of(number),
            hubs=hubs,
            serves=(lan_of(number),),
            mtu_octets=1372,
            holding_time_s=600.0,
            registration_s=200.0,
            authentication=b"secret",
            redirect=role is Role.HUB,
            shortcut=role is Role.SPOKE,
        )
        return replace(base, **self._extra)

    def _add(self, number: int, role: Role) -> None:
        settings = self._settings(number, role)
        engine = Engine(settings, Random(self.random.random()), now=self.now, first_request_id=number << 16)
        claims = (OVERLAY, INTERNAL) if role is Role.HUB else (ip_network(overlay_of(number)), lan_of(number))
        node = Node(number, settings, engine, claims)
        node.routes = self._routes(number, role)
        self.nodes[settings.nbma] = self.by_number[number] = node

    def _routes(self, number: int, role: Role) -> list[RouteChanged]:
        lan = lan_of(number)
        routes = [
            RouteChanged(ip_network("0.0.0.0/0"), Egress.ELSEWHERE, ip_address("192.0.2.1"), "eth0"),
            RouteChanged(ip_network(overlay_of(number)), Egress.LOCAL, None, "lo"),
            RouteChanged(lan, Egress.ELSEWHERE, None, "lan0"),
            RouteChanged(ip_network(lan[1]), Egress.LOCAL, None, "lan0"),
        ]
        if role is Role.HUB:
            routes.append(RouteChanged(OVERLAY, Egress.OVERLAY, None, DEVICE))
            routes += [
                RouteChanged(lan_of(spoke), Egress.OVERLAY, overlay_of(spoke), DEVICE) for spoke in self.spoke_numbers
            ]
        else:
            routes += [
                RouteChanged(ip_network(overlay_of(hub)), Egress.OVERLAY, None, DEVICE) for hub in self.hub_numbers
            ]
            routes.append(RouteChanged(INTERNAL, Egress.OVERLAY, overlay_of(self.hub_numbers[0]), DEVICE))
        return routes

    def start(self) -> None:
        for node in list(self.nodes.values()):
            self.at(self.random.uniform(0, 0.5), lambda node=node: self.boot(node))

    def boot(self, node: Node) -> None:
        node.alive = True
        self.perform(node, node.engine.start(self.now))
        for route in node.routes:
            self.tell(node, route)
        own = Endpoint(IPv4Address(f"192.168.1.{node.number}"), 4500)
        self.tell(node, OwnEndpoints((own,)))
        for peer in sorted(node.sas):
            self.tell(node, SecurityUp(peer, endpoint_of(peer)))

    def restart(self, number: int, *, with_snapshot: bool, outage_s: float = 1.0) -> None:
        """kill -9 of the daemon: neighbours, routes and SAs stay in the kernel and the keying daemon."""
        node = self.by_number[number]
        snapshot = Snapshot.from_text(node.engine.snapshot(self.now).to_text()) if with_snapshot else None
        node.alive = False

        def back() -> None:
            node.engine = Engine(
                node.settings,
                Random(self.random.random()),
                now=self.now,
                restored=snapshot,
                first_request_id=(node.number << 16) + int(self.now * 1000),
            )
            self.boot(node)

        self.at(outage_s, back)

    def die(self, number: int) -> None:
        """The machine is gone, and peers learn nothing of it but silence."""
        node = self.by_number[number]
        node.alive = False
        for other in self.nodes.values():
            self.cut.add(frozenset((node.nbma, other.nbma)))

    def cut_between(self, one: int, other: int) -> None:
        self.cut.add(frozenset((nbma_of(one), nbma_of(other))))

    def heal(self) -> None:
        self.cut.clear()

    # ------------------------------------------------------------ time

    def at(self, after_s: float, then: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self.now + after_s, next(self._serial), then))

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        while True:
            due = self._next(end)
            if due is None:
                break
            due()
        self.now = end

    def run_until(self, condition: Callable[[], bool], within_s: float, step_s: float = 0.1) -> float:
        """Seconds until the condition held; raises AssertionError if it did not within the bound."""
        begun = self.now
        while not condition():
            assert self.now - begun < within_s, f"not within {within_s} s"
            self.run(step_s)
        return self.now - begun

    def _next(self, end: float) -> Callable[[], None] | None:
        timers = [
            (deadline, node.number, node)
            for node in self.nodes.values()
            if node.alive and (deadline := node.engine.next_deadline()) is not None
        ]
        first = min(timers, key=lambda timer: timer[:2], default=None)
        event = self._events[0][0] if self._events else None
        if event is not None and event <= end and (first is None or event <= first[0]):
            self.now = max(self.now, event)
            return heapq.heappop(self._events)[2]
        if first is not None and first[0] <= end:
            self.now = max(self.now, first[0])
            node = first[2]
            return lambda: self.perform(node, node.engine.advance(self.now))
        return None

    # ------------------------------------------------------------ doing what engines ask for

    def tell(self, node: Node, received: Input) -> None:
        if node.alive:
            self.perform(node, node.engine.receive(received, self.now))

    def perform(self, node: Node, actions: list[Action]) -> None:
        for action in actions:
            self.trace.append(f"{self.now:.6f} {node.number} {action}")
            node.tapped.append(action)
            self._perform(node, action)

    def _perform(self, node: Node, action: Action) -> None:
        match action:
            case Send():
                node.sent.append((self.now, action))
                self._transmit(node, action)
            case WantSecurity() | RestartSecurity() | ReleaseSecurity():
                self.ike.perform(node, action)
            case Authorise():
                self.at(VERDICT_S, lambda: self.tell(node, self._verdict(action)))
            case Dropped():
                node.drops.append((self.now, action))
            case Log():
                node.logs.append((self.now, action))
            case BindNeighbour() | UnbindNeighbour() | InstallRoute() | RemoveRoute():
                node.kernel(action)
            case _:
                assert_never(action)

    def _verdict(self, question: Authorise) -> Verdict:
        peer = self.nodes.get(question.nbma)
        wanted = [ip_network(question.protocol)] + ([question.prefix] if question.prefix else [])
        allowed = peer is not None and all(any(part.subnet_of(claim) for claim in peer.claims) for part in wanted)
        return Verdict(question.ticket, allowed, "" if allowed else "not claimed")

    def path_is_up(self, one: Any, other: Any) -> bool:
        return frozenset((one, other)) not in self.cut

    def _transmit(self, node: Node, send: Send) -> None:
        receiver = self.nodes.get(send.nbma)
        if receiver is None or send.nbma not in node.sas:
            return  # fails closed: nothing leaves without an SA
        for _ in range(2 if self.random.random() < self.wire.doubled else 1):
            lost = self.random.random() < self.wire.loss or not self.path_is_up(node.nbma, send.nbma)
            delay = self.random.uniform(*self.wire.delay_s)
            if not lost:
                self.at(delay, lambda: self._deliver(receiver, send.octets, node.nbma))

    def _deliver(self, receiver: Node, octets: bytes, sender: Any) -> None:
        if sender in receiver.sas:
            self.tell(receiver, Received(octets, sender))

    # ------------------------------------------------------------ a model of forwarding

    def packet(self, source: Any, destination: Any) -> list[int] | None:
        """The routers a packet between two hosts goes through, by number; None if it falls into a black hole."""
        node = next(node for node in self.by_number.values() if source in lan_of(node.number))
        head = _ipv4(source, destination)
        path = [node.number]
        came_from = None
        while destination not in lan_of(node.number):
            nbma = self._next_hop(node, destination)
            onward = self.nodes.get(nbma)
            if onward is None or nbma not in node.sas or node.nbma not in onward.sas:
                return None
            if not self.path_is_up(node.nbma, nbma) or len(path) > 8:
                return None
            self.at(0.0, lambda node=node, nbma=nbma: self.tell(node, Used(nbma)))
            if came_from is not None:
                self.at(0.0, lambda node=node, by=came_from: self.tell(node, Hairpin(head, by)))
            came_from, node = node.nbma, onward
            path.append(node.number)
        return path

    def _next_hop(self, node: Node, destination: Any) -> Any:
        """Shortcuts go before routes; none is wider than a route inside it."""
        direct = [prefix for prefix in node.shortcuts if destination in prefix]
        if direct:
            return node.neighbours.get(node.shortcuts[max(direct, key=lambda prefix: prefix.prefixlen)])
        route = max(
            (route for route in node.routes if destination in route.prefix), key=lambda route: route.prefix.prefixlen
        )
        gateway = route.gateway or destination
        if gateway not in node.neighbours:
            self.at(0.0, lambda: self.tell(node, NeighbourMissing(gateway)))
        return node.neighbours.get(gateway)

    def flow(self, source: int, destination: int, seconds: float, every_s: float = 0.1) -> list[list[int] | None]:
        """The path of each packet of a steady flow, in order."""
        paths = []
        for _ in range(round(seconds / every_s)):
            paths.append(self.packet(host_of(source), host_of(destination)))
            self.run(every_s)
        return paths


def _ipv4(source: Any, destination: Any) -> bytes:
    return bytes((0x45, 0, 0, 84)) + bytes(8) + source.packed + destination.packed + bytes(8)
