"""charon, kept as `security` decides: one worker thread speaks vici, another listens to its events."""

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import TypeVar

from dmvpn.daemon.foreign import Foreign
from dmvpn.daemon.security import Connect, Disconnect, Down, Order, Remote, Security, Terminate, Up
from dmvpn.daemon.settings import Settings
from dmvpn.daemon.standing import standing_peers
from dmvpn.errors import Fault
from dmvpn.identity.claims import Claims
from dmvpn.identity.issuer import Issuers
from dmvpn.linux.pace import patience
from dmvpn.linux.socket_buffers import enlarge_udp
from dmvpn.linux.vici_client import IkeEvent, IkeSa, Mode, PeerConnection, ViciSession, watch_events

Address = IPv4Address | IPv6Address
T = TypeVar("T")
log = logging.getLogger("dmvpnd.ike")

RECONNECT_S = 0.3
FIRST_LOAD_S = 3.0
FIRST_LOAD_LOOK_S = 0.02
LOOK_EVERY_S = 10.0  # events tell of changes; this is for what an event lost
DYNAMIC = "dynamic[gre]"  # the addresses that IKE itself runs between
EVENT_GATHER_S = 0.02  # a rekey makes several events: one look serves them all


class Ike:
    """Owns the vici connection. `on_up` is called with the claims of the certificate that charon verified."""

    def __init__(
        self,
        settings: Settings,
        on_up: Callable[[Up, Claims], Awaitable[None]],
        on_down: Callable[[Down], None],
    ) -> None:
        self._settings = settings
        self._on_up = on_up
        self._on_down = on_down
        self._loop = asyncio.get_running_loop()
        hubs = frozenset(hub.nbma for cloud in settings.clouds for hub in cloud.hubs)
        self._security = Security(settings.transport, hubs, settings.transport_range)
        self._foreign = Foreign(settings)
        self._known: dict[bytes, Claims | None] = {}  # by certificate: read once
        self._traffic: dict[Address, tuple[int, int]] | None = None
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="vici")
        self._session: ViciSession | None = None
        self._wake = asyncio.Event()
        self._running: set[asyncio.Task[None]] = set()
        self._admitted: dict[Address, Up] = {}
        self._at_the_door: dict[Address, Up] = {}  # an SA stands, and who it is with is not known yet
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
        self._spawn(self._security.release(nbma))

    def restart(self, nbma: Address) -> None:
        self._spawn(self._security.restart(nbma, self._loop.time()))

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
        events = threading.Thread(target=self._listen, name="vici-events", daemon=True)
        events.start()

    def _open(self) -> ViciSession:
        paths = self._settings.paths
        session = ViciSession(paths.vici)
        self.version = session.version()
        _await_first_load(session)
        session.load_all(paths.swanctl_conf, paths.swanctl_dir, scratch=paths.gre.parent)
        try:
            enlarge_udp(session.peer_pid())
        except Fault as fault:
            log.info("charon keeps its small buffers, bursts will lose packets: %s", fault)
        return session

    def _listen(self) -> None:
        """In a thread of its own: vici's event stream blocks."""
        try:
            watch_events(self._settings.paths.vici, self._event)
        except Fault as fault:
            log.info("charon's events ended: %s", fault)
        if not self._closing:
            # The loop may be closing at this very moment.
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._event_stream_ended)

    def _event(self, _event: IkeEvent) -> None:
        self._loop.call_soon_threadsafe(self._wake.set)

    def _event_stream_ended(self) -> None:
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
        self.sas = await self._call(session.list_sas)
        self._traffic = None
        ups, downs, orders = self._security.observe(self.sas, self._loop.time())
        for down in downs:
            log.info("%s: SA down: %s", down.nbma, down.why)
            self._dismiss(down)
        self._at_the_door = {nbma: up for nbma, up in self._at_the_door.items() if self._security.standing(nbma) == up}
        self._at_the_door |= {up.nbma: up for up in ups}
        if self._at_the_door:
            claims = await self._call(lambda: self._claims(session))
            for up in list(self._at_the_door.values()):
                await self._admit(up, claims)
        await self._perform(orders)

    async def _admit(self, up: Up, known: dict[str, Claims]) -> None:
        try:
            claims = self._claims_of(up, known)
        except Fault as fault:
            if not self._security.is_refused(up):
                log.warning("%s: %s: refused", up.nbma, fault)
            await self._perform(self._security.refuse(up, self._loop.time()))
            return
        self._security.admit(up)
        log.info("%s: SA up with %s at %s port %d", up.nbma, claims.router, up.remote.host, up.remote.port)
        await self._on_up(up, claims)
        self._admitted[up.nbma] = up
        self._at_the_door.pop(up.nbma, None)

    def _claims_of(self, up: Up, known: dict[str, Claims]) -> Claims:
        """Raises Fault, saying why nobody vouches for the peer."""
        where = f"SA with {up.remote_id}"
        if up.nbma in self._settings.transport_range:
            claims = known.get(up.remote_id)
            if claims is None or claims.transport != up.nbma or claims.network != self._settings.network:
                raise Fault(where, "its certificate carries no claims for this address")
            return claims
        claims = self._foreign.claims(up.remote_id, up.nbma)
        if claims is None:
            raise Fault(where, "the file does not name it")
        return claims

    def _dismiss(self, down: Down) -> None:
        self._admitted.pop(down.nbma, None)
        self._on_down(down)

    def _spawn(self, orders: list[Order]) -> None:
        task = self._loop.create_task(self._perform_quietly(orders))
        # The loop keeps only a weak reference to a task; hold it until it is done.
        self._running.add(task)
        task.add_done_callback(self._running.discard)

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
                session.load_conn(self._connection(order))
                session.initiate(order.connection, "gre")
            case Disconnect():
                session.unload_conn(order.connection)
            case Terminate():
                log.info("ending SA %s: %s", order.unique_id, order.why)
                session.terminate(order.unique_id)

    def _connection(self, order: Connect) -> PeerConnection:
        """To one of ours in tunnel mode between transport addresses; to a foreign router as they all do it."""
        settings, ike = self._settings, self._settings.ike
        bits = order.nbma.max_prefixlen
        ours = order.nbma in settings.transport_range
        return PeerConnection(
            name=order.connection,
            local_port=ike.port if order.remote.port == ike.port else ike.nat_port,
            remote_address=order.remote.host,
            remote_port=order.remote.port,
            remote_identity=None if ours else self._foreign.identity(order.nbma),
            local_identity=settings.identity,
            certificate=settings.paths.pki / "router.pem",
            authority=settings.paths.pki / ("ca.pem" if ours else "foreign-ca.pem"),
            mode=Mode.TUNNEL if ours else Mode.TRANSPORT,
            local_ts=f"{settings.transport}/{bits}[gre]" if ours else DYNAMIC,
            remote_ts=f"{order.nbma}/{bits}[gre]" if ours else DYNAMIC,
            ike_proposal=ike.ike_proposal,
            esp_proposal=ike.esp_proposal,
            rekey_s=ike.rekey_s,
            dpd_delay_s=ike.dpd_delay_s,
        )

    def _claims(self, session: ViciSession) -> dict[str, Claims]:
        return claims_by_identity(session, self._settings.paths.pki / "ca.pem", self._known)

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


def claims_by_identity(session: ViciSession, authority: Path, known: dict[bytes, Claims | None]) -> dict[str, Claims]:
    """The newest claims of every peer certificate that our CA issued, by the identities it may be known under.

    The CA of the foreign peers is trusted to name those, not to make claims. `known` is kept between calls.
    """
    certificates = session.peer_certificates()
    fresh = [certificate.der for certificate in certificates if certificate.der not in known]
    if fresh:
        issuers = Issuers(authority.read_bytes())
        known |= {der: _claims_in(der, issuers) for der in fresh}
    for der in known.keys() - {certificate.der for certificate in certificates}:
        del known[der]
    found: dict[str, tuple[float, Claims]] = {}
    for certificate in certificates:
        claims = known[certificate.der]
        for identity in certificate.identities if claims is not None else ():
            if claims is not None and (identity not in found or found[identity][0] < certificate.not_before):
                found[identity] = (certificate.not_before, claims)
    return {identity: claims for identity, (_, claims) in found.items()}


def _claims_in(der: bytes, issuers: Issuers) -> Claims | None:
    try:
        return Claims.from_certificate(der) if issuers.issued(der) else None
    except Fault as fault:
        log.debug("certificate without claims: %s", fault)
        return None


def traffic_of(sas: tuple[IkeSa, ...], settings: Settings) -> dict[Address, tuple[int, int]]:
    """Octets out and in for each peer, over all its children."""
    found: dict[Address, tuple[int, int]] = {}
    for sa in sas:
        sent = sum(child.octets_out for child in sa.children)
        received = sum(child.octets_in for child in sa.children)
        for nbma in standing_peers(sa, settings.transport, settings.transport_range):
            before = found.get(nbma, (0, 0))
            found[nbma] = (before[0] + sent, before[1] + received)
    return found
