"""charon, kept as `security` decides: one worker thread speaks vici, another listens to its events."""

import asyncio
import contextlib
import logging
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Address, IPv6Address
from typing import TypeVar, assert_never

from dmvpn.daemon.connections import connection_to
from dmvpn.daemon.foreign import Foreign
from dmvpn.daemon.orders import Connect, Disconnect, Down, Order, Remote, Terminate, TerminateNow, Up
from dmvpn.daemon.papers import Pair
from dmvpn.daemon.security import Security
from dmvpn.daemon.settings import Settings
from dmvpn.daemon.tasks import Tasks
from dmvpn.daemon.traffic import traffic_of
from dmvpn.daemon.vouched import Refused, Unvouched
from dmvpn.daemon.vouching import Known, Refusal, Vouching
from dmvpn.errors import Fault
from dmvpn.identity.claims import Claims, Role
from dmvpn.identity.revocation import RevocationList
from dmvpn.linux.pace import patience
from dmvpn.linux.socket_buffers import enlarge_udp
from dmvpn.linux.vici_client import IkeEvent, IkeSa, ViciSession, watch_events

Address = IPv4Address | IPv6Address
T = TypeVar("T")
log = logging.getLogger("dmvpnd.ike")

RECONNECT_S = 0.3
FIRST_LOAD_S = 3.0
FIRST_LOAD_LOOK_S = 0.02
LOOK_EVERY_S = 10.0  # events tell of changes; this is for what an event lost
EVENT_GATHER_S = 0.02  # a rekey makes several events: one look serves them all
NAMED_LIMIT = 32  # SAs that are asked for one by one: of more, all are


class Ike:
    """Owns the vici connection. `on_up` is called with the claims of the certificate that charon verified."""

    def __init__(
        self,
        settings: Settings,
        vouching: Vouching,
        on_up: Callable[[Up, Claims], Awaitable[None]],
        on_down: Callable[[Down], None],
        source: Callable[[Address, int], Address | None],
    ) -> None:
        """`source` is from where a peer is to be called, by the family of its address; None: charon may choose."""
        self._settings = settings
        self._vouching = vouching
        self._on_up = on_up
        self._on_down = on_down
        self._source_for = source
        self._loop = asyncio.get_running_loop()
        self._hubs = {hub.nbma: hub for cloud in settings.clouds for hub in cloud.hubs if hub.ours}
        hubs = frozenset(hub.nbma for cloud in settings.clouds for hub in cloud.hubs)
        self._security = Security(settings.transport, hubs, settings.transport_range)
        self.unvouched: Counter[str] = Counter()  # SAs with whom nobody vouches for, by reason
        self.why_refused = Refused()
        self._foreign = Foreign(settings)
        self.refused: dict[Address, Refusal] = {}  # whose certificate is revoked, by its NBMA address
        self._traffic: dict[Address, tuple[int, int]] | None = None
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="vici")
        self._session: ViciSession | None = None
        self._wake = asyncio.Event()
        self._named: set[str] = set()  # SAs that events were about since the last look
        self._looked_at = 0.0  # at all SAs
        self._tasks = Tasks()
        self._admitted: dict[Address, Up] = {}
        self._at_the_door: dict[Address, Up] = {}  # an SA stands, and who it is with is not known yet
        self.has_told = False  # charon, since we started: of its SAs, and who each is with
        self._lost = False
        self._closing = False
        self.version = ""
        self.trouble = "not connected to charon yet"
        self.sas: tuple[IkeSa, ...] = ()

    # ------------------------------------------------------------ for the node

    def want(self, nbma: Address, remotes: tuple[Remote, ...]) -> None:
        self._security.want(nbma, remotes, self._loop.time())
        self._wake.set()

    def release(self, nbma: Address) -> None:
        self._tasks.begin(self._perform_quietly(self._security.release(nbma)))

    def restart(self, nbma: Address) -> None:
        self._tasks.begin(self._perform_quietly(self._security.restart(nbma, self._loop.time())))

    def leave(self, dead: frozenset[Address]) -> None:
        """These addresses of ours carry nothing any more: what was over them is made anew over others."""
        self._tasks.begin(self._perform_quietly(self._security.leave(frozenset(map(str, dead)), self._loop.time())))

    def prefer(self, only: Address | None = None) -> None:
        """Where another uplink is preferred now, an SA over it is made before the old one goes."""
        now = self._loop.time()
        for nbma, up in self._admitted.items() if only is None else ((only, self._admitted.get(only)),):
            if up is not None and nbma in self._settings.transport_range:
                wanted = self._source_for(nbma, 6 if ":" in up.remote.host else 4)
                self._security.prefer(nbma, None if wanted is None else str(wanted), now)
        self._wake.set()

    def standing(self, nbma: Address) -> Up | None:
        """The SA with this peer, if the peer was admitted: authority and data plane know its claims."""
        return self._admitted.get(nbma)

    def admitted(self) -> tuple[Up, ...]:
        """All peers with an SA whose claims are known."""
        return tuple(self._admitted.values())

    def octets(self, nbma: Address) -> tuple[int, int]:
        """Octets to and from the peer through its SAs, as charon said at the last look."""
        if self._traffic is None:
            self._traffic = traffic_of(self.sas, self._settings)
        return self._traffic.get(nbma, (0, 0))

    def tried(self, nbma: Address) -> tuple[int, tuple[Remote, ...]]:
        return self._security.tried(nbma)

    async def run(self) -> None:
        """Keep charon connected and its SAs as wanted, until cancelled."""
        try:
            while True:
                await self._connect()
                try:
                    await self._serve()
                except Fault as fault:
                    log.warning("%s", fault)
                self._disconnected()
        finally:
            self._closing = True
            self._close_session()
            self._worker.shutdown(wait=False, cancel_futures=True)

    # ------------------------------------------------------------ connecting

    async def _connect(self) -> None:
        warned = False
        while self._session is None:
            try:
                self._session = await self._call(self._open)
            except Fault as fault:
                self.trouble = str(fault)
                if not warned:
                    log.warning("waiting for charon: %s", fault)
                    warned = True
                await asyncio.sleep(RECONNECT_S)
        self.trouble = ""
        self._lost = False
        events = threading.Thread(target=self._listen, args=(self._session,), name="vici-events", daemon=True)
        events.start()

    def _open(self) -> ViciSession:
        paths = self._settings.paths
        session = ViciSession(paths.vici)
        self.version = session.version()
        _await_first_load(session)
        session.load_all(paths.swanctl_conf, paths.swanctl_dir)
        try:
            enlarge_udp(session.peer_pid())
        except Fault as fault:
            log.info("charon keeps its small buffers, bursts will lose packets: %s", fault)
        return session

    def _listen(self, session: ViciSession) -> None:
        """In a thread of its own, one for each session: vici's event stream blocks."""
        try:
            watch_events(self._settings.paths.vici, self._event)
        except Fault as fault:
            log.info("charon's events ended: %s", fault)
        if not self._closing:
            # The loop may be closing at this very moment.
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._event_stream_ended, session)

    def _event(self, event: IkeEvent) -> None:
        self._loop.call_soon_threadsafe(self._happened, event.unique_id)

    def _happened(self, unique_id: str) -> None:
        self._named.add(unique_id)
        self._wake.set()

    def _event_stream_ended(self, session: ViciSession) -> None:
        """That of a charon before this one may end late, and says nothing of this one's SAs."""
        if self._session is session:
            self._lost = True
            self._wake.set()

    def _disconnected(self) -> None:
        self._close_session()
        self.sas = ()
        self.trouble = "charon stopped"
        for down in self._security.lost_charon():
            self._dismiss(down)

    def _close_session(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            session.close()

    # ------------------------------------------------------------ serving

    async def _serve(self) -> None:
        while not self._lost:
            self._wake.clear()
            await self._look()
            await self._perform(self._security.due(self._loop.time()))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), self._pause_s())
                await asyncio.sleep(EVENT_GATHER_S)

    def _pause_s(self) -> float:
        now = self._loop.time()
        times = [self._security.next_due(), self._security.next_settle(), now + LOOK_EVERY_S]
        return max(0.05, min(time for time in times if time is not None) - now)

    async def _look(self) -> None:
        session = self._need_session()
        self.sas = await self._listed(session)
        self._traffic = None
        ups, downs, orders = self._security.observe(self.sas, self._loop.time())
        for down in downs:
            log.info("%s: SA down: %s", down.nbma, down.why)
            self._dismiss(down)
        self._at_the_door = {nbma: up for nbma, up in self._at_the_door.items() if self._security.standing(nbma) == up}
        self._at_the_door |= {up.nbma: up for up in ups}
        if self._at_the_door:
            known = await self._call(lambda: self._vouching.known(session))
            for up in list(self._at_the_door.values()):
                await self._admit(up, known)
        self.has_told = self.has_told or not self._at_the_door
        await self._perform(orders)

    async def _listed(self, session: ViciSession) -> tuple[IkeSa, ...]:
        """All SAs. A hub with a thousand does not have them all told for one: then only those are that events named.

        Whoever waits for something to settle compares their counters and misses some: that takes a whole list.
        """
        named, self._named = self._named, set()
        now = self._loop.time()
        few = self.sas and 0 < len(named) <= NAMED_LIMIT and "" not in named
        if few and self._security.next_settle() is None and now - self._looked_at < LOOK_EVERY_S:
            found = await self._call(lambda: {one: session.list_sas(one) for one in named})
            return (
                *(sa for sa in self.sas if sa.unique_id not in named),
                *(sa for sas in found.values() for sa in sas),
            )
        self._looked_at = now
        return await self._call(session.list_sas)

    async def _admit(self, up: Up, known: dict[str, Known]) -> None:
        if revoked := await self._shut_out(up, known):
            self.refused[up.nbma] = revoked
            return
        try:
            claims = self._claims_of(up, known)
        except Fault as fault:
            if not self._security.is_refused(up):
                log.warning("%s: %s: refused", up.nbma, fault)
                self.why_refused.note(up.nbma, fault.what)
            orders = self._security.refuse(up, self._loop.time())
            if orders:  # until then charon's list of certificates may lag behind
                self.unvouched[fault.reason if isinstance(fault, Unvouched) else "claims"] += 1
            await self._perform(orders)
            return
        self._security.admit(up)
        log.info("%s: SA up with %s at %s port %d", up.nbma, claims.router, up.remote.host, up.remote.port)
        await self._on_up(up, claims)
        self._admitted[up.nbma] = up
        self._at_the_door.pop(up.nbma, None)
        self.refused.pop(up.nbma, None)
        self.why_refused.pop(up.nbma, None)

    async def _shut_out(self, up: Up, known: dict[str, Known]) -> Refusal | None:
        """A revoked peer's SA ends at once: charon may not know yet, if a renewal authority has signed it."""
        found = known.get(up.remote_id)
        if found is None or found.revoked is None:
            return None
        await self._perform(self._security.end(up.remote_id, str(found.revoked)))
        return Refusal(found.vouched.claims.router if found.vouched else up.remote_id, found.revoked)

    async def enforce(self, lists: tuple[RevocationList, ...]) -> None:
        """charon learns these lists, and who is in them loses its SAs at once. Without charon there is none to lose."""
        session = self._session
        if session is None:
            return
        try:
            for one in lists:
                await self._call(lambda one=one: session.load_revocation_list(one.der))  # type: ignore[misc]
            known = await self._call(lambda: self._vouching.known(session))
        except Fault as fault:
            log.warning("%s", fault)
            return
        for identity, found in known.items():
            if found.revoked is None:
                continue
            if found.vouched is not None:
                refusal = Refusal(found.vouched.claims.router, found.revoked)
                self.refused[found.vouched.claims.transport] = refusal
            await self._perform(self._security.end(identity, str(found.revoked)))
        self._wake.set()

    async def install(self, new: Pair | None) -> None:
        """Papers of ours that changed: charon has the new key before it meets the new certificate; SAs stay.

        None: they are on disk already. Raises Fault.
        """
        session = self._need_session()
        await self._call(lambda: self._install(session, new))

    def _install(self, session: ViciSession, new: Pair | None) -> None:
        paths = self._settings.paths
        if new is not None:
            self._vouching.papers.swap(new, session.load_key)
        session.load_all(paths.swanctl_conf, paths.swanctl_dir)

    def _claims_of(self, up: Up, known: dict[str, Known]) -> Claims:
        """Raises Unvouched, saying why."""
        where = f"SA with {up.remote_id}"
        if up.nbma in self._settings.transport_range:
            found = known.get(up.remote_id)
            claims = found.vouched.claims if found is not None and found.vouched is not None else None
            if claims is None or claims.transport != up.nbma or claims.network != self._settings.network:
                raise Unvouched(where, "its certificate carries no claims for this address", "claims")
            hub = self._hubs.get(up.nbma)
            if hub is not None and not (claims.role is Role.HUB and set(hub.overlay) <= set(claims.overlay)):
                what = f"its certificate makes it the {claims.role} {claims.router}, not the hub {hub.router}"
                raise Unvouched(where, what, "role")
            return claims
        claims = self._foreign.claims(up.remote_id, up.nbma)
        if claims is None:
            raise Unvouched(where, "the file does not name it", "claims")
        return claims

    def _dismiss(self, down: Down) -> None:
        self._admitted.pop(down.nbma, None)
        self._on_down(down)

    async def _perform_quietly(self, orders: list[Order]) -> None:
        with contextlib.suppress(Fault):
            await self._perform(orders)
        self._wake.set()

    async def _perform(self, orders: list[Order]) -> None:
        for order in orders:
            session = self._session
            if session is None:
                return
            try:
                await self._call(lambda order=order, session=session: self._order(session, order))  # type: ignore[misc]
            except Fault as fault:
                # charon refuses what has changed meanwhile (an SA that is gone); the next look decides anew.
                log.info("%s", fault)

    def _order(self, session: ViciSession, order: Order) -> None:
        match order:
            case Connect():
                source = self._source_for(order.nbma, 6 if ":" in order.remote.host else 4)
                session.load_conn(connection_to(order, self._settings, self._foreign, source))
                session.initiate(order.connection, "gre")
            case Disconnect():
                session.unload_conn(order.connection)
            case Terminate():
                log.info("ending SA %s: %s", order.unique_id, order.why)
                session.terminate(order.unique_id)
            case TerminateNow():
                log.info("ending SA %s at once: %s", order.unique_id, order.why)
                session.terminate_now(order.unique_id)
            case _:
                assert_never(order)

    def _need_session(self) -> ViciSession:
        if self._session is None:
            raise Fault("charon", "not connected")
        return self._session

    async def _call(self, function: Callable[[], T]) -> T:
        return await self._loop.run_in_executor(self._worker, function)


def _await_first_load(session: ViciSession) -> None:
    """A charon that has just started loads the file itself: when that ends it unloads what it did not know as it began.
    So nothing of ours may be loaded before. If it fails, there is nothing to wait for, and we load the file.
    """
    deadline = time.monotonic() + patience(FIRST_LOAD_S)
    while not session.connections() and time.monotonic() < deadline:
        time.sleep(FIRST_LOAD_LOOK_S)
