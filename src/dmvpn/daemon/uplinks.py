"""Uplinks of this router: what the kernel and the probes say goes in, and routes, hooks and IKE follow the states."""

import asyncio
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address

from dmvpn.daemon.control import UplinkRow
from dmvpn.daemon.restoring import Restoring
from dmvpn.daemon.settings import Settings, UplinkSettings
from dmvpn.daemon.tasks import Tasks
from dmvpn.daemon.uplink_addresses import is_renumbered, lost_of, sources_of
from dmvpn.daemon.uplink_hooks import Hooks
from dmvpn.daemon.uplink_memory import Remembered, UplinkMemory
from dmvpn.daemon.uplink_routes import Gateway, Standing, UplinkRoutes
from dmvpn.errors import Fault
from dmvpn.linux import conntrack
from dmvpn.linux.probes import Probes
from dmvpn.linux.uplink_watch import DeviceFacts, UplinkWatch
from dmvpn.uplink.choice import Candidate, preferred
from dmvpn.uplink.health import Observation, State
from dmvpn.uplink.watch import Action, Answered, Changed, Probe, Seen, Watch

Address = IPv4Address | IPv6Address
log = logging.getLogger("dmvpnd.uplinks")

GATHER_S = 0.01  # a link that goes takes addresses and routes along, each told by itself
AGAIN_S = 2.0  # after what the kernel refused: it may tell of nothing more
GIVEN_UP = frozenset({State.OFFLINE, State.DISABLED})


@dataclass(slots=True)
class _Uplink:
    settings: UplinkSettings
    watch: Watch
    probes: Probes
    recalled: Mapping[Address, Gateway]  # from a former life, by source
    facts: DeviceFacts | None = None
    asking: dict[int, Address] = field(default_factory=dict)  # sources that the probes were opened for
    sources: dict[int, Address] = field(default_factory=dict)
    gateways: dict[int, Gateway] = field(default_factory=dict)
    index: int = 0  # of the device that had its address last
    came: tuple[int, int] | None = None  # its index, and how often it was switched on: seen up so


@dataclass(frozen=True, slots=True)
class Moved:
    """What IKE has to know: addresses that carry nothing any more."""

    dead: frozenset[Address]


class Uplinks:
    """`on_change` is called after the routes are as they should be."""

    def __init__(self, settings: Settings, on_change: Callable[[Moved], None]) -> None:
        self._settings = settings
        self._on_change = on_change
        self._loop = asyncio.get_running_loop()
        self._memory = UplinkMemory(settings.paths.gre.parent)
        known = self._memory.recall()
        now = self._loop.time()
        self._uplinks = {
            one.name: _Uplink(
                one,
                Watch(one.watch, now, known.get(one.name, Remembered()).state),
                Probes(one.device, one.mark, self._answered_by(one.name)),
                known.get(one.name, Remembered()).gateways,
            )
            for one in settings.uplinks
        }
        self._kernel = UplinkWatch([one.device for one in settings.uplinks])
        self._routes = UplinkRoutes(settings)
        self._hooks = Hooks()
        self._timer: asyncio.TimerHandle | None = None
        self._looking: asyncio.TimerHandle | None = None
        self._again: asyncio.TimerHandle | None = None
        self._restoring = Restoring(settings)
        self._tasks = Tasks()
        self._began = False
        self.trouble = ""

    def open(self) -> None:
        """Take the uplinks as they are. Raises Fault if the kernel will not tell."""
        self._look()
        self._loop.add_reader(self._kernel.fileno(), self._told)
        self._restoring.watch([one.settings.device for one in self._uplinks.values() if one.settings.addresses])
        self._began = True

    def close(self) -> None:
        """Routes and rules stay: forwarding goes on without us."""
        self._loop.remove_reader(self._kernel.fileno())
        self._restoring.close()
        for timer in (self._timer, self._looking, self._again):
            if timer is not None:
                timer.cancel()
        for one in self._uplinks.values():
            one.probes.close()
        self._kernel.close()
        self._routes.close()
        self._hooks.close()

    # ------------------------------------------------------------ for IKE and status

    @property
    def are_several(self) -> bool:
        return len(self._uplinks) > 1

    def candidates(self) -> tuple[Candidate, ...]:
        return tuple(
            Candidate(name, one.watch.state, one.watch.is_ready, one.settings.weight)
            for name, one in self._uplinks.items()
        )

    def address(self, over: tuple[str, ...], version: int) -> Address | None:
        """From which address of ours a tunnel over these uplinks is to be built now; None: none of them has one."""
        fitting = tuple(name for name in over if name in self._uplinks and version in self._uplinks[name].sources)
        name = preferred(fitting, self.candidates())
        return None if name is None else self._uplinks[name].sources[version]

    def name_of(self, address: str) -> str:
        """The uplink that has this address."""
        for name, one in self._uplinks.items():
            if any(address == str(source) for source in one.sources.values()):
                return name
        return ""

    def own(self, over: tuple[str, ...]) -> tuple[Address, ...]:
        """Addresses where a peer finds us, in order of preference: those of uplinks that carry traffic first."""
        serving = [name for name in over if name in self._uplinks and self._uplinks[name].watch.state not in GIVEN_UP]
        return tuple(address for name in serving for address in self._uplinks[name].sources.values())

    def rows(self, users: Mapping[str, tuple[str, ...]]) -> tuple[UplinkRow, ...]:
        """`users` are the tunnels over each uplink now."""
        now = self._loop.time()
        return tuple(self._row(name, one, users.get(name, ()), now) for name, one in self._uplinks.items())

    def _row(self, name: str, one: _Uplink, users: tuple[str, ...], now: float) -> UplinkRow:
        watch = one.watch
        return UplinkRow(
            name=name,
            device=one.settings.device,
            state=watch.state.value,
            why=watch.why,
            since_s=now - watch.since,
            loss=watch.loss,
            latency_ms=None if watch.latency_s is None else watch.latency_s * 1000,
            addresses=tuple(map(str, one.facts.addresses)) if one.facts is not None else (),
            gateways=tuple(str(gateway.address or "on link") for gateway in one.gateways.values()),
            probes=tuple(map(str, one.settings.watch.targets)),
            serves=name in self._routes.serving,
            tunnels=users,
        )

    # ------------------------------------------------------------ the kernel

    def _told(self) -> None:
        if self._kernel.changed() and self._looking is None:
            self._looking = self._loop.call_later(GATHER_S, self._look_again)

    def _look_again(self) -> None:
        self._looking = None
        try:
            self._look()
        except Fault as fault:
            self._refused(fault)

    def _refused(self, fault: Fault) -> None:
        if str(fault) != self.trouble:
            log.warning("%s", fault)
        self.trouble = str(fault)
        if self._again is None:
            self._again = self._loop.call_later(AGAIN_S, self._try_again)

    def _try_again(self) -> None:
        self._again = None
        if self._looking is None:
            self._look_again()

    def _look(self) -> None:
        """Read what is there, and let the watches know."""
        facts = self._kernel.look()
        changes: list[tuple[_Uplink, Changed]] = []
        lost: dict[str, frozenset[Address]] = {}
        for name, one in self._uplinks.items():
            lost[name] = lost_of(one.sources, one.index, facts.get(one.settings.device))
            seen = self._see(one, facts.get(one.settings.device))
            changes += [(one, change) for change in self._feed(one, seen)]
        self._settle(changes, lost)

    def _see(self, one: _Uplink, facts: DeviceFacts | None) -> Seen:
        one.facts = facts
        one.sources = sources_of(one.settings, facts, one.sources)
        known: dict[int, Gateway] = {}
        if one.sources:
            known |= {source.version: one.recalled[source] for source in one.sources.values() if source in one.recalled}
            known |= one.gateways
        one.gateways = self._routes.gateways(one.settings, facts, known)
        if facts is None:
            one.came = None
            return Seen(Observation.GONE, f"there is no device {one.settings.device}")
        came = (facts.index, facts.turned_on)
        if one.settings.addresses and came != one.came:
            # The same device, switched off and on: the kernel took what went by it. Of another its addresses tell.
            is_same, one.came = one.came is not None and one.came[0] == facts.index, came
            self._restoring.later(facts.name, came, lambda: is_same or _is_bare(one))
        if not one.sources:
            return Seen(Observation.GONE, f"{facts.name} has no address")
        is_another, one.index = one.index != facts.index, facts.index
        if is_another:
            one.probes.close()
        if not facts.up:
            return Seen(Observation.GONE, f"{facts.name} is switched off")
        if not facts.carrier:
            return Seen(Observation.NO_CARRIER, f"{facts.name} has no carrier")
        fresh = is_another or is_renumbered(one.settings, one.asking, facts)
        if is_another or one.asking != one.sources:
            one.asking = dict(one.sources)
            one.probes.open(one.sources)
        return Seen(Observation.READY, fresh=fresh)

    # ------------------------------------------------------------ the watches

    def _answered_by(self, name: str) -> Callable[[int], None]:
        def answered(sequence: int) -> None:
            one = self._uplinks[name]
            self._settle([(one, change) for change in self._feed(one, Answered(sequence))])

        return answered

    def _feed(self, one: _Uplink, event: Seen | Answered) -> list[Changed]:
        return self._perform(one, one.watch.receive(event, self._loop.time()))

    def _advance(self) -> None:
        self._timer = None
        now = self._loop.time()
        changes: list[tuple[_Uplink, Changed]] = []
        try:
            for one in self._uplinks.values():
                changes += [(one, change) for change in self._perform(one, one.watch.advance(now))]
        finally:  # there is one timer for all: none may cost the others theirs
            self._settle(changes)

    def _perform(self, one: _Uplink, actions: list[Action]) -> list[Changed]:
        changes = []
        for action in actions:
            match action:
                case Probe():
                    target, timeout_s = action.target, one.settings.watch.timeout_s
                    one.probes.ask(action.sequence, target.address, target.port, timeout_s)
                case Changed():
                    changes.append(action)
        return changes

    def _arm(self) -> None:
        times = [at for one in self._uplinks.values() if (at := one.watch.next_deadline()) is not None]
        due = min(times, default=None)
        if self._timer is not None:
            if self._timer.when() == due:
                return
            self._timer.cancel()
            self._timer = None
        if due is not None:
            self._timer = self._loop.call_at(due, self._advance)

    # ------------------------------------------------------------ what follows

    def _settle(
        self, changes: list[tuple[_Uplink, Changed]], lost: Mapping[str, frozenset[Address]] | None = None
    ) -> None:
        """Routes first, since everything else goes by them. `lost` are addresses that went; None: nothing was read."""
        self._arm()
        if not changes and lost is None:
            return
        self._remember()  # first: the default route that told of a gateway may go from main
        self._route()
        for one, change in changes:
            level = logging.INFO if _matters(change) else logging.DEBUG
            log.log(level, "%s: %s, was %s: %s", one.settings.name, change.after, change.before, change.why)
            if self._began and _matters(change):
                self._tell(one, change)
        gone: set[Address] = set()
        for name, one in self._uplinks.items():
            befores = [change.before for other, change in changes if other is one]
            gone |= self._leave(one, befores, (lost or {}).get(name, frozenset()))
        if changes or gone:
            self._on_change(Moved(frozenset(gone)))

    def _leave(self, one: _Uplink, befores: Sequence[State], lost: frozenset[Address]) -> frozenset[Address]:
        """Connections end with what carried them. Returns the addresses that carry nothing any more: all of a link that
        is given up, of any other those that went. A renumbered one is given up for the moment of one look only.
        """
        given_up = bool(befores) and one.watch.state in GIVEN_UP
        carried = any(before not in GIVEN_UP for before in befores)
        families = {0} if given_up and carried else {address.version for address in lost}
        for version in sorted(families):
            self._forget_connections(one, version)
        return lost | frozenset(one.sources.values()) if given_up else lost

    def _route(self) -> None:
        try:
            self._routes.bring(
                tuple(
                    Standing(one.settings, candidate, one.facts, one.sources, one.gateways)
                    for one, candidate in zip(self._uplinks.values(), self.candidates(), strict=True)
                )
            )
            self.trouble = ""
        except Fault as fault:
            self._refused(fault)

    def _forget_connections(self, one: _Uplink, version: int) -> None:
        """What was tracked over it would go on over it: its next packets find a way anew. 0: of both families."""
        if self.are_several:
            self._tasks.begin(self._forget(one.settings.mark, version))

    async def _forget(self, mark: int, version: int) -> None:
        try:
            await asyncio.to_thread(conntrack.forget_marked, mark, self._settings.uplink_mask, version)
        except Fault as fault:
            log.warning("%s", fault)

    def _tell(self, one: _Uplink, change: Changed) -> None:
        event = {
            "network": self._settings.network,
            "router": self._settings.router,
            "uplink": one.settings.name,
            "device": one.settings.device,
            "state": change.after.value,
            "before": change.before.value,
            "why": change.why,
            "addresses": [str(address) for address in one.sources.values()],
            "gateways": [str(gateway.address or "") for gateway in one.gateways.values()],
            "serving": list(self._routes.serving),
        }
        log.info("event %s", json.dumps(event))
        if one.settings.hook is not None:
            self._hooks.run(one.settings.name, one.settings.hook, event)

    def _remember(self) -> None:
        self._memory.keep(
            {
                name: Remembered(
                    one.watch.state,
                    {
                        source: one.gateways[version]
                        for version, source in one.sources.items()
                        if version in one.gateways
                    },
                )
                for name, one in self._uplinks.items()
            }
        )


def _is_bare(one: _Uplink) -> bool:
    return one.facts is not None and not one.sources


def _matters(change: Changed) -> bool:
    """A doubt that passes, or a start that fails, is nothing to wake anybody for."""
    match change.after:
        case State.ONLINE:
            return change.before is not State.DISCONNECTING
        case State.OFFLINE:
            return change.before is not State.CONNECTING
        case _:
            return change.after is State.DISABLED
