"""The node: what joins charon, the data plane, the kernel's routes and the clouds' engines on one router."""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from dmvpn.daemon.authority import Authority
from dmvpn.daemon.cloud import Cloud, Doors
from dmvpn.daemon.credentials import Credentials, forget_router
from dmvpn.daemon.guards import Guard, PolicyGuard, RuleGuard
from dmvpn.daemon.ike import Ike
from dmvpn.daemon.learned import Learned
from dmvpn.daemon.memory import Memory
from dmvpn.daemon.names import Names
from dmvpn.daemon.orders import Down, Up
from dmvpn.daemon.orphans import Orphans
from dmvpn.daemon.route_input import route_input
from dmvpn.daemon.settings import Settings
from dmvpn.daemon.tasks import Tasks
from dmvpn.daemon.uplinks import Moved, Uplinks
from dmvpn.daemon.watching import Watching
from dmvpn.errors import Fault
from dmvpn.identity.claims import Claims, Role
from dmvpn.linux.neighbours import Neighbours
from dmvpn.linux.plane_client import PlaneClient, PlaneState
from dmvpn.linux.routes import RouteRow, Shortcuts, is_shortcut
from dmvpn.linux.routewatch import BestRoute, LinkChanged, LinkGone, NoRoute, RouteEvent, RouteWatch
from dmvpn.linux.transport_routes import TransportRoutes, is_transport_route
from dmvpn.linux.upcalls import NeighbourQuestions
from dmvpn.linux.used_sets import UsedSets
from dmvpn.nhrp.events import RouteGone, Used

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
log = logging.getLogger("dmvpnd")

PLANE_POLL_S = 5.0
FLOOD_GATHER_S = 0.05  # peers that come and go within it are told of together
REMEMBER_S = 1.0
MEND_S = 0.5  # after a change of links, or when a route of ours went
REMEMBER_SHARE = 50  # thousands of bindings take their time to be written: a fiftieth of ours at most
ENDPOINTS_AFTER_S = 0.5  # by then an SA over another uplink stands, for what hubs are told
SETTLED_S = 10.0  # after a start: by then charon has told of every SA that stands


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
        self.learned = Learned(settings)
        self.orphans = Orphans(settings)
        self.plane_view = PlaneView()
        self.started_at = asyncio.get_running_loop().time()
        self.clouds: dict[str, Cloud] = {}
        self.credentials = Credentials(settings)
        self.uplinks = Uplinks(settings, self._uplinks_changed)
        vouching, source = self.credentials.vouching, self._source
        self.ike = Ike(settings, vouching, self._security_up, self._security_down, source)
        ours = partial(self.authority.ours, settings.transport_range)
        hubs = partial(ours, Role.HUB)
        # Spokes hear from hubs: what one said to another would be traffic for which a shortcut is made and kept.
        self.is_hub = any(cloud.role == "hub" for cloud in settings.clouds)
        self.credentials.serve(self.ike, ours if self.is_hub else hubs, hubs, self.learned.revoked)
        self.names = Names(settings, self.authority, self.clouds)
        self.routewatch = RouteWatch(without=self._is_own_way)
        self.watching = Watching(settings.transport, self.names.of_nbma, self.names.overlay_of_nbma)
        paths = settings.paths
        self.rules = RuleGuard(settings.network, paths.swanctl_conf.with_name("nftables.nft"), paths.gre.parent)
        in_kernel = [cloud.device for cloud in settings.clouds if cloud.plane == "kernel" and cloud.encrypted]
        self.policies = PolicyGuard(paths.swanctl_conf.with_name("network.json")) if in_kernel else None
        self._loop = asyncio.get_running_loop()
        self._neighbours = Neighbours(settings.route_protocol)
        self._shortcuts = Shortcuts(cloud.device for cloud in settings.clouds)
        self._questions = NeighbourQuestions()
        self._plane = PlaneClient(settings.paths.gre, on_connect=self._permit_all)
        kernel_plane = any(cloud.used_sets for cloud in settings.clouds)
        ways = (settings.transport_range, settings.route_protocol, settings.transport, tuple(in_kernel))
        self._transport = TransportRoutes(*ways) if in_kernel else None
        self._used = UsedSets(f"dmvpn_{settings.network}") if kernel_plane else None
        self._memories: dict[str, Memory] = {}
        self._sent: dict[tuple[str, Address], int] = {}
        self._mending: asyncio.TimerHandle | None = None
        self._to_flood: set[str] = set()  # clouds whose list of multicast's receivers has changed
        self._flooding: asyncio.TimerHandle | None = None
        self._tasks = Tasks()

    def open(self) -> None:
        """Take up what the last dmvpnd left, and begin. Raises Fault if a device is missing."""
        self.uplinks.open()
        to_kernel = (self._neighbours, self._shortcuts, self.watching, self.uplinks)
        doors = Doors(self.settings, self.authority, self.ike, *to_kernel, self.clouds)
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
                group.create_task(self.credentials.run())
                group.create_task(self.learned.run())
                group.create_task(self.orphans.run())
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
        self.uplinks.close()
        for guard in self._guards():
            guard.close()
        for cloud in self.clouds.values():
            cloud.close()
        self._loop.remove_reader(self.routewatch.fileno())
        self._loop.remove_reader(self._questions.fileno())
        for door in (self.routewatch, self._questions, self._neighbours, self._shortcuts):
            door.close()
        for timer in (self._mending, self._flooding):
            if timer is not None:
                timer.cancel()
        if self._transport is not None:
            self._transport.close()

    def _guards(self) -> tuple[Guard, ...]:
        return (self.rules,) if self.policies is None else (self.rules, self.policies)

    # ------------------------------------------------------------ security

    async def _security_up(self, up: Up, claims: Claims) -> None:
        """The data plane learns what the peer may send before the engine sends anything to it."""
        before = [cloud for cloud in self.clouds.values() if cloud.concerns(up.nbma)]
        self.authority.learn(up.nbma, claims)
        for cloud in before:
            if not cloud.concerns(up.nbma):
                cloud.security_down(up.nbma, "its certificate names no address here any more")
        self.learned.learn(up.nbma, claims)
        if self._transport is not None and up.nbma in self.settings.transport_range:
            self._try_way(self._transport.restore)
            self._try_way(partial(self._transport.lead, up.nbma))
        for cloud in self.clouds.values():
            if cloud.concerns(up.nbma):
                with contextlib.suppress(Fault):  # an absent plane is told everything when it connects
                    await self._permit(cloud, up.nbma)
        for cloud in self.clouds.values():
            if cloud.concerns(up.nbma):
                cloud.security_up(up.nbma, up.remote)
        if self.uplinks.are_several:
            self._loop.call_soon(self.ike.prefer, up.nbma)
        if up.nbma in self.settings.transport_range and (self.is_hub or claims.role is Role.HUB):
            self.credentials.met(claims.overlay)

    def _security_down(self, down: Down) -> None:
        claims = self.authority.claims(down.nbma)
        for cloud in self.clouds.values():
            if cloud.concerns(down.nbma):
                cloud.security_down(down.nbma, down.why)
                self._tasks.begin(self._revoke(cloud, down.nbma))
        self.authority.forget(down.nbma)
        if claims is not None and down.nbma in self.ike.refused:
            forget_router(self.clouds.values(), claims)
        (self.learned.forget if down.nbma in self.ike.refused else self.learned.departed)(down.nbma)
        if self._transport is not None:
            self._try_way(partial(self._transport.leave, down.nbma))

    def _source(self, nbma: Address, version: int) -> Address | None:
        """From where a peer is called: the best uplink of its cloud that works. Of a single one charon takes care."""
        if not self.uplinks.are_several:
            return None
        clouds = [cloud for cloud in self.clouds.values() if cloud.settings.encrypted]
        # Whom a shortcut is for is known by its certificate only: until then it may be any cloud's.
        chosen = next((cloud for cloud in clouds if cloud.concerns(nbma)), clouds[0] if clouds else None)
        return None if chosen is None else self.uplinks.address(chosen.settings.uplinks, version)

    def _uplinks_changed(self, moved: Moved) -> None:
        if not self.uplinks.are_several or not self.clouds:
            return
        if moved.dead:
            self.ike.leave(moved.dead)
        self.ike.prefer()
        self._loop.call_later(ENDPOINTS_AFTER_S, self._tell_endpoints)

    def _tell_endpoints(self) -> None:
        for cloud in self.clouds.values():
            cloud.tell_endpoints()

    def _is_own_way(self, row: RouteRow) -> bool:
        return is_shortcut(row) or is_transport_route(row, self.settings.transport_range)

    def _mend_later(self) -> None:
        if self._mending is None:
            self._mending = self._loop.call_later(MEND_S, self._mend)

    def _mend(self) -> None:
        """Routes of ours that somebody took, or the kernel with a device that went down, come back.

        On the kernel plane GRE to peers needs a way, and an SA may outlive it; dmvpn-gre's socket is bound to one.
        """
        self._mending = None
        try:
            if self._transport is not None:
                self._transport.install()
            mended = self._shortcuts.mend()
        except Fault as fault:
            log.warning("%s", fault)
            self._mending = self._loop.call_later(PLANE_POLL_S, self._mend)
        else:
            if mended:
                log.info("%d shortcut routes were gone and are back", mended)

    def _try_way(self, task: Callable[[], None]) -> None:
        try:
            task()
        except Fault as fault:
            log.warning("%s", fault)

    async def _permit(self, cloud: Cloud, nbma: Address) -> None:
        if cloud.settings.plane != "userspace":
            return
        link_local = cloud.settings.overlay if cloud.settings.link_local_next_hops else ()
        sources = self.authority.inner_sources(nbma, link_local)
        await self._plane.allow(cloud.settings.device, nbma, sources)
        self._flood_later(cloud)

    def _flood_later(self, cloud: Cloud) -> None:
        """Whom multicast goes to is one list: a hub that meets many peers at once tells it once."""
        self._to_flood.add(cloud.settings.name)
        if self._flooding is None:
            self._flooding = self._loop.call_later(FLOOD_GATHER_S, lambda: self._tasks.begin(self._flood_all()))

    async def _flood_all(self) -> None:
        self._flooding = None
        names, self._to_flood = self._to_flood, set()
        for name in names:
            with contextlib.suppress(Fault):  # an absent plane is told everything when it connects
                await self._flood(self.clouds[name])

    async def _flood(self, cloud: Cloud) -> None:
        met = self.authority.peers_in if cloud.settings.role == "hub" else self.authority.hubs_in
        await self._plane.flood(cloud.settings.device, met(cloud.settings.overlay))

    async def _revoke(self, cloud: Cloud, nbma: Address) -> None:
        if cloud.settings.plane != "userspace" or self.authority.claims(nbma) is not None:
            return
        self._flood_later(cloud)
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
        before = self.routewatch.taken
        self._route_events(self.routewatch.read())
        if self.routewatch.taken != before:
            self._mend_later()

    def _route_events(self, events: tuple[RouteEvent, ...]) -> None:
        for event in events:
            match event:
                case BestRoute():
                    for cloud in self.clouds.values():
                        cloud.feed(route_input(event.row, cloud.settings.device, cloud.overlay_of))
                case NoRoute():
                    for cloud in self.clouds.values():
                        cloud.feed(RouteGone(event.prefix))
                case LinkChanged() | LinkGone():
                    self._mend_later()

    def _sweep(self) -> None:
        """What a former life left and no engine remembers would never expire: take it away."""
        kept_routes: set[Network] = set()
        for cloud in self.clouds.values():
            kept_routes |= cloud.remembered_prefixes()
            kept = cloud.remembered_neighbours()
            for row in self._neighbours.ours(cloud.settings.device):
                if cloud.overlay_of(row.protocol) not in kept:
                    self._neighbours.unbind(cloud.settings.device, row.protocol)
        for route in self._shortcuts.ours():
            if route.prefix not in kept_routes and route.device is not None:
                self._shortcuts.remove(route.prefix, route.device)

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
                if self._transport is not None and self._mending is None:  # an address of lo may have come back
                    self._try_way(self._transport.restore)
                for cloud in self.clouds.values():
                    for name in cloud.settings.used_sets:
                        # Without the table (it is being put back) nothing is known to be used: told again in a moment.
                        with contextlib.suppress(Fault):
                            cloud.used(await asyncio.to_thread(sets.addresses, name))
        finally:
            sets.close()

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
