"""One shortcut, the table of them, and why a pair is not direct."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from dmvpn.nhrp.candidates import Candidates
from dmvpn.nhrp.events import Address, Endpoint, Network
from dmvpn.nhrp.rib import Route, host_of

SHORTCUTS_LIMIT: Final = 4096


class ShortcutState(StrEnum):
    RESOLVING = "resolving"  # asking for the egress; after a loss also: waiting to ask again
    CONNECTING = "connecting"  # both ends initiate IKE
    AUTHORISING = "authorising"
    PROBING = "probing"
    UP = "up"
    NEGATIVE = "negative"


class WhyNot(StrEnum):
    """Why packets take the hub: closed, since `explain` prints it. DIRECT is none."""

    DIRECT = "direct"
    ASKING = "asking"
    NO_HUB = "no-hub"  # nobody to ask
    NO_ANSWER = "no-answer"
    UNREACHABLE = "unreachable"  # a router on the way has no route
    NO_BINDING = "no-binding"  # the egress answers for nothing there
    REFUSED_BY_PEER = "refused-by-peer"
    VIA_HUB = "hub-is-egress"  # the hub's own network: the way through it is the direct one
    CONNECTING = "connecting"
    NO_SECURITY = "no-security"  # IKE does not get through; symmetric NAT on both sides, for one
    NOT_AUTHORISED = "not-authorised"
    PROBING = "probing"
    NO_PROBE_ANSWER = "no-probe-answer"
    PATH_DEAD = "path-dead"
    KERNEL_REFUSED = "kernel-refused"


IN_PROGRESS: Final = {
    ShortcutState.RESOLVING: WhyNot.ASKING,
    ShortcutState.CONNECTING: WhyNot.CONNECTING,
    ShortcutState.AUTHORISING: WhyNot.CONNECTING,
    ShortcutState.PROBING: WhyNot.PROBING,
    ShortcutState.UP: WhyNot.DIRECT,
}


@dataclass(slots=True, eq=False)
class Shortcut:
    """`prefix` is the host that was asked for until the peer is authorised for what it offers."""

    number: int
    destination: Address
    prefix: Network
    next_hop_only: bool  # phase 2: the destination is a next hop, so a neighbour entry and no route
    since: float
    wanted_until: float
    state: ShortcutState = ShortcutState.RESOLVING
    why: WhyNot = WhyNot.ASKING
    gateway: Address | None = None
    nbma: Address | None = None
    offered: Network | None = None
    candidates: tuple[Endpoint, ...] = ()
    whereabouts: Candidates | None = None  # what the answer said of the peer's; the candidates are those worth trying
    ours: bool = True  # a peer that speaks our extension is probed
    mtu_octets: int | None = None  # of its tunnel, where that is less than ours
    holding_time_s: float = 0.0
    expires: float | None = None
    refresh_at: float = 0.0
    refreshing: bool = False
    used: bool = False
    up_once: bool = False
    authorised: bool = False
    confirm: bool = False  # adopted from before a restart
    failures: int = 0
    route: Route | None = None  # what covered the prefix when it came up
    peer: Address | None = None  # the last egress named, kept when `nbma` is let go
    refused: set[Address] = field(default_factory=set)  # peers that answered what is not theirs

    def turn(self, state: ShortcutState, now: float, why: WhyNot | None = None) -> None:
        self.state = state
        self.since = now
        self.why = why or IN_PROGRESS[state]

    @property
    def user(self) -> tuple[str, int]:
        """Its name among the users of an SA."""
        return ("shortcut", self.number)


class ShortcutTable:
    """By prefix; bounded."""

    def __init__(self) -> None:
        self._by_prefix: dict[Network, Shortcut] = {}
        self._lengths: Counter[tuple[int, int]] = Counter()  # how many of each version and prefix length
        self._serial = 0

    def __iter__(self) -> Iterator[Shortcut]:
        return iter(list(self._by_prefix.values()))

    def __contains__(self, shortcut: Shortcut) -> bool:
        return self._by_prefix.get(shortcut.prefix) is shortcut

    @property
    def is_full(self) -> bool:
        return len(self._by_prefix) >= SHORTCUTS_LIMIT

    def next_number(self) -> int:
        self._serial += 1
        return self._serial

    def get(self, prefix: Network) -> Shortcut | None:
        return self._by_prefix.get(prefix)

    def covering(self, destination: Address) -> Shortcut | None:
        lengths = [length for version, length in self._lengths if version == destination.version]
        for length in sorted(lengths, reverse=True):
            shortcut = self._by_prefix.get(host_of(destination, length))
            if shortcut is not None:
                return shortcut
        return None

    def of_nbma(self, nbma: Address, *states: ShortcutState) -> tuple[Shortcut, ...]:
        return tuple(s for s in self if s.nbma == nbma and (not states or s.state in states))

    def put(self, shortcut: Shortcut) -> None:
        """Under its prefix, which must be free."""
        self._by_prefix[shortcut.prefix] = shortcut
        self._lengths[shortcut.prefix.version, shortcut.prefix.prefixlen] += 1

    def drop(self, shortcut: Shortcut) -> None:
        if shortcut in self:
            del self._by_prefix[shortcut.prefix]
            kind = (shortcut.prefix.version, shortcut.prefix.prefixlen)
            self._lengths[kind] -= 1
            if not self._lengths[kind]:
                del self._lengths[kind]

    def move(self, shortcut: Shortcut, prefix: Network) -> None:
        self.drop(shortcut)
        shortcut.prefix = prefix
        self.put(shortcut)
