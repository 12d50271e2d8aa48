"""The node: what joins charon, the data plane, the kernel's routes and the clouds' engines on one router."""

import asyncio
import contextlib
import logging
from collections.abc import Coroutine
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Any

from dmvpn.daemon.authority import Authority
from dmvpn.daemon.cloud import Cloud, Doors
from dmvpn.daemon.guards import Guard, PolicyGuard, RuleGuard
from dmvpn.daemon.ike import Ike
from dmvpn.daemon.memory import Memory
from dmvpn.daemon.security import Down, Up
from dmvpn.daemon.settings import Settings
from dmvpn.daemon.watching import Watching
from dmvpn.errors import Fault
from dmvpn.identity.claims import Claims
from dmvpn.linux.neighbours import Neighbours
from dmvpn.linux.plane_client import PlaneClient, PlaneState
from dmvpn.linux.routes import RouteKind, RouteRow, Routes
from dmvpn.linux.routewatch import BestRoute, LinkChanged, LinkGone, NoRoute, RouteEvent, RouteWatch
from dmvpn.linux.transport_routes import TransportRoutes
from dmvpn.linux.upcalls import NeighbourQuestions
from dmvpn.linux.used_sets import UsedSets
from dmvpn.nhrp.events import Egress, RouteChanged, RouteGone, Used

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
log = logging.getLogger("dmvpnd")

PLANE_POLL_S = 5.0
REMEMBER_S = 1.0
LEAD_AGAIN_S = 0.5  # after a change of links: the tunnel may be one
REMEMBER_SHARE = 50  # thousands of bindings take their time to be written: a fiftieth of ours at most
SETTLED_S = 10.0  # after a start: by then charon has told of every SA that stands
UNREACHABLE = (RouteKind.UNREACHABLE, RouteKind.BLACKHOLE, RouteKind.PROHIBIT)


@dataclass(slots=True)
class PlaneView:
    """The data plane as it was last seen, and the packets sent to each peer then."""

    state: PlaneState | None = None
    trouble: str = "not connected to dmvpn-gre yet"


class Node:
    """Everything of one network on one router. `run` serves until cancelled."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.authority = Authority()
        self.plane_view = PlaneView()
        self.started_at = asyncio.get_running_loop().time()
        self.clouds: dict[str, Cloud] = {}
        self.ike = Ike(settings, self._security_up, self._security_down)
        self.routewatch = RouteWatch()
        self.watching = Watching(settings.transport, self.name_of_nbma, self.overlay_of_nbma)
        paths = settings.paths
        self.rules = RuleGuard(settings.network, paths.swanctl_conf.with_name("nftables.nft"), paths.gre.parent)
        in_kernel = [cloud.device for cloud in settings.clouds if cloud.plane == "kernel" and cloud.encrypted]
        self.policies = PolicyGuard(paths.swanctl_conf.with_name("network.json")) if in_kernel else None
        self._loop = asyncio.get_running_loop()
        self._neighbours = Neighbours(settings.route_protocol)
        self._routes = Routes(settings.shortcut_table, settings.route_protocol)
        self._questions = NeighbourQuestions()
        self._plane = PlaneClient(settings.paths.gre, on_connect=self._permit_all)
        kernel_plane = any(cloud.used_sets for cloud in settings.clouds)
        self._transport = (
            TransportRoutes(settings.ike_table, settings.route_protocol, settings.transport, in_kernel[0])
            if in_kernel
            else None
        )
        self._used = UsedSets(f"dmvpn_{settings.network}") if kernel_plane else None
        self._memories: dict[str, Memory] = {}
        self._sent: dict[tuple[str, Address], int] = {}
        self._swept = False
        self._leading: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def open(self) -> None:
        """Take up what the last dmvpnd left, and begin. Raises Fault if a device is missing."""
        doors = Doors(self.settings, self.authority, self.ike, self._neighbours, self._routes, self.watching)
        for cloud in self.settings.clouds:
            self._memories[cloud.name] = Memory(self.settings.paths.state, cloud.name)
            self.clouds[cloud.name] = Cloud(cloud, doors, self._memories[cloud.name].recall())
        self._sweep()
        self._route_events(self.routewatch.start())
        self._loop.add_reader(self.routewatch.fileno(), self._routes_changed)
        self._loop.add_reader(self._questions.fileno(), self._asked)
        for guard in self._guards():
            guard.open()
        for one in self.clouds.values():
            one.open()

    async def run(self) -> None:
        """Serve until cancelled, then leave forwarding as it is."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self.ike.run())
                for guard in self._guards():
                    group.create_task(guard.run())
                if self._uses_userspace():
                    group.create_task(self._plane.run())
                    group.create_task(self._poll_plane())
                if self._used is not None:
                    group.create_task(self._poll_used(self._used))
                group.create_task(self._remember_often())
        finally:
            self.close()

    def close(self) -> None:
        self._remember()
        for guard in self._guards():
            guard.close()
        for cloud in self.clouds.values():
            cloud.close()
        self._loop.remove_reader(self.routewatch.fileno())
        self._loop.remove_reader(self._questions.fileno())
        for door in (self.routewatch, self._questions, self._neighbours, self._routes):
            door.close()
        if self._leading is not None:
            self._leading.cancel()
        if self._transport is not None:
            self._transport.close()

    def _guards(self) -> tuple[Guard, ...]:
        return (self.rules,) if self.policies is None else (self.rules, self.policies)

    # ------------------------------------------------------------ security

    async def _security_up(self, up: Up, claims: Claims) -> None:
        """The data plane learns what the peer may send before the engine sends anything to it."""
        self.authority.learn(up.nbma, claims)
        self._lead(up)
        for cloud in self.clouds.values():
            if cloud.concerns(up.nbma):
                with contextlib.suppress(Fault):  # an absent plane is told everything when it connects
                    await self._permit(cloud, up.nbma)
        for cloud in self.clouds.values():
            if cloud.concerns(up.nbma):
                cloud.security_up(up.nbma, up.remote)

    def _security_down(self, down: Down) -> None:
        for cloud in self.clouds.values():
            if cloud.concerns(down.nbma):
                cloud.security_down(down.nbma, down.why)
                self._spawn(self._revoke(cloud, down.nbma))
        self.authority.forget(down.nbma)
        if self._transport is not None:
            with contextlib.suppress(Fault):
                self._transport.remove(down.nbma)

    def _lead(self, up: Up) -> None:
        """On the kernel plane GRE to a peer of ours needs a way; dmvpn-gre's socket is bound to one."""
        if self._transport is None or up.nbma not in self.settings.transport_range:
            return
        try:
            self._transport.install(up.nbma)
        except Fault as fault:
            log.warning("%s", fault)
            if self._leading is None:
                self._leading = self._loop.call_later(PLANE_POLL_S, self._lead_all)

    def _lead_all(self) -> None:
        """The device takes its routes along when it goes down, and an SA may outlive that."""
        self._leading = None
        for up in self.ike.admitted():
            self._lead(up)

    async def _permit(self, cloud: Cloud, nbma: Address) -> None:
        if cloud.settings.plane != "userspace":
            return
        await self._plane.allow(cloud.settings.device, nbma, self.authority.inner_sources(nbma))
        met = self.authority.peers_in if cloud.settings.role == "hub" else self.authority.hubs_in
        await self._plane.flood(cloud.settings.device, met(cloud.settings.overlay))

    async def _revoke(self, cloud: Cloud, nbma: Address) -> None:
        if cloud.settings.plane != "userspace" or self.authority.claims(nbma) is not None:
            return
        with contextlib.suppress(Fault):
            await self._plane.forget(cloud.settings.device, nbma)

    def _uses_userspace(self) -> bool:
        return any(cloud.plane == "userspace" for cloud in self.settings.clouds)

    async def _permit_all(self) -> None:
        """A new dmvpn-gre, or a new dmvpnd: what the peers may send is told anew."""
        for cloud in self.clouds.values():
            for nbma in self.authority.peers_in(cloud.settings.overlay):
                with contextlib.suppress(Fault):  # gone again: its successor will be told
                    await self._permit(cloud, nbma)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def name_of(self, overlay: Address) -> str:
        """The name of the router with this overlay address, as far as it is known here."""
        for cloud in self.settings.clouds:
            for hub in cloud.hubs:
                if overlay in hub.overlay:
                    return hub.router
        for one in self.clouds.values():
            for row in one.engine.view(self.now()).bindings:
                if row.protocol == overlay and row.nbma is not None:
                    return self.authority.name(row.nbma)
        return ""

    def name_of_nbma(self, nbma: Address) -> str:
        """The name of the router behind this NBMA address, as far as it is known here."""
        if nbma == self.settings.transport or any(nbma == cloud.underlay_address for cloud in self.settings.clouds):
            return self.settings.router
        for cloud in self.settings.clouds:
            for hub in cloud.hubs:
                if hub.nbma == nbma:
                    return hub.router
            for member in cloud.foreign:
                if member.nbma == nbma:
                    return member.router
        return self.authority.name(nbma)

    def overlay_of_nbma(self, nbma: Address) -> tuple[Address, ...]:
        """The overlay addresses of the router behind this NBMA address, likewise."""
        own = [
            cloud.addresses
            for cloud in self.settings.clouds
            if nbma in (self.settings.transport, cloud.underlay_address)
        ]
        known = [hub.overlay for cloud in self.settings.clouds for hub in cloud.hubs if hub.nbma == nbma]
        claims = self.authority.claims(nbma)
        return tuple(address for group in (*own, *known, claims.overlay if claims else ()) for address in group)

    def now(self) -> float:
        return self._loop.time()

    # ------------------------------------------------------------ kernel

    def _asked(self) -> None:
        for question in self._questions.read():
            # GRE of a second cloud that no policy takes is led into the first one's device; nobody is asked there.
            if question.protocol in self.settings.transport_range:
                continue
            for cloud in self.clouds.values():
                if cloud.settings.device == question.device:
                    cloud.neighbour_missing(question.protocol)

    def _routes_changed(self) -> None:
        self._route_events(self.routewatch.read())

    def _route_events(self, events: tuple[RouteEvent, ...]) -> None:
        for event in events:
            match event:
                case BestRoute():
                    for cloud in self.clouds.values():
                        cloud.feed(route_input(event.row, cloud.settings.device))
                case NoRoute():
                    for cloud in self.clouds.values():
                        cloud.feed(RouteGone(event.prefix))
                case LinkChanged() | LinkGone():
                    if self._transport is not None and self._leading is None:
                        self._leading = self._loop.call_later(LEAD_AGAIN_S, self._lead_all)

    def _sweep(self) -> None:
        """What a former life left and no engine remembers would never expire: take it away."""
        kept_routes: set[Network] = set()
        for cloud in self.clouds.values():
            kept_routes |= cloud.remembered_prefixes()
            for row in self._neighbours.ours(cloud.settings.device):
                if row.protocol not in cloud.remembered_neighbours():
                    self._neighbours.unbind(cloud.settings.device, row.protocol)
        for route in self._routes.ours():
            if route.prefix not in kept_routes:
                self._routes.remove(route.prefix)

    # ------------------------------------------------------------ now and then

    async def _poll_plane(self) -> None:
        while True:
            await self.look_at_plane()
            await asyncio.sleep(PLANE_POLL_S)

    async def look_at_plane(self) -> None:
        """Read the data plane's counters, and tell the engines which peers had traffic since the last look."""
        try:
            state = await self._plane.state()
        except Fault as fault:
            self.plane_view = PlaneView(None, str(fault))
            return
        self.plane_view = PlaneView(state, "")
        await self._forget_strangers(state)
        for cloud in self.clouds.values():
            tunnel = state.tunnels.get(cloud.settings.device)
            for nbma, counters in tunnel.peers.items() if tunnel else ():
                key = (cloud.settings.name, nbma)
                if counters.tx_data_packets != self._sent.get(key, 0):
                    self._sent[key] = counters.tx_data_packets
                    cloud.feed(Used(nbma))

    async def _poll_used(self, sets: UsedSets) -> None:
        """The kernel plane's counterpart: which next hops had traffic."""
        try:
            while True:
                await asyncio.sleep(PLANE_POLL_S)
                self._forget_ways()
                for cloud in self.clouds.values():
                    for name in cloud.settings.used_sets:
                        # Without the table (it is being put back) nothing is known to be used: told again in a moment.
                        with contextlib.suppress(Fault):
                            cloud.used(await asyncio.to_thread(sets.addresses, name))
        finally:
            sets.close()

    def _forget_ways(self) -> None:
        """Routes outlive us: who went while we were away has one still."""
        settled = not self.ike.trouble and self.now() - self.started_at >= SETTLED_S
        if self._transport is None or self._swept or not settled:
            return
        try:
            for nbma in self._transport.peers():
                # Another network of ours has its ways in the same table.
                if nbma in self.settings.transport_range and self.ike.standing(nbma) is None:
                    self._transport.remove(nbma)
        except Fault as fault:
            log.info("%s", fault)  # tried again with the next look
            return
        self._swept = True

    async def _forget_strangers(self, state: PlaneState) -> None:
        """dmvpn-gre's table outlives us: who went while we were away is still allowed there."""
        if self.ike.trouble or self.now() - self.started_at < SETTLED_S:
            return
        for cloud in self.clouds.values():
            tunnel = state.tunnels.get(cloud.settings.device)
            known = self.authority.peers_in(cloud.settings.overlay)
            for nbma in tunnel.allowed if tunnel else ():
                if nbma not in known:
                    with contextlib.suppress(Fault):
                        await self._plane.forget(cloud.settings.device, nbma)

    async def _remember_often(self) -> None:
        pause_s = REMEMBER_S
        while True:
            await asyncio.sleep(pause_s)
            began = self._loop.time()
            self._remember()
            pause_s = max(REMEMBER_S, REMEMBER_SHARE * (self._loop.time() - began))

    def _remember(self) -> None:
        now = self._loop.time()
        for name, cloud in self.clouds.items():
            try:
                self._memories[name].remember(cloud.engine.snapshot(now))
            except Fault as fault:
                log.warning("cannot keep the state of %s: %s", name, fault)


def route_input(row: RouteRow, overlay_device: str) -> RouteChanged:
    """A kernel route as the engine sees it."""
    if row.kind in UNREACHABLE:
        egress = Egress.UNREACHABLE
    elif row.kind is RouteKind.LOCAL:
        egress = Egress.LOCAL
    elif row.device == overlay_device:
        egress = Egress.OVERLAY
    else:
        egress = Egress.ELSEWHERE
    return RouteChanged(row.prefix, egress, row.gateway, row.device or "")
