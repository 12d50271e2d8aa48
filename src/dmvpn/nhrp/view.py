"""What status shows of one engine. Times are seconds: `age_s` since the state was entered, `expires_s` from now."""

from dataclasses import dataclass

from dmvpn.nhrp.cache import BindingKind
from dmvpn.nhrp.events import Address, DropReason, Endpoint, Network
from dmvpn.nhrp.numbers import Kind
from dmvpn.nhrp.registration_client import HubState
from dmvpn.nhrp.shortcut import ShortcutState, WhyNot


@dataclass(frozen=True, slots=True)
class HubRow:
    """`observed` is where the hub sees our IKE packets come from, `rtt_s` the last answered probe's."""

    name: str
    protocol: tuple[Address, ...]
    nbma: Address
    ours: bool
    state: HubState
    reason: str
    age_s: float
    is_up: bool
    observed: Endpoint | None
    rtt_s: float | None


@dataclass(frozen=True, slots=True)
class BindingRow:
    """A row of the cache; `bound` when the kernel has its neighbour entry."""

    protocol: Address
    nbma: Address | None
    kind: BindingKind
    state: str
    bound: bool
    age_s: float | None
    expires_s: float | None
    claimed_nbma: Address | None
    public: tuple[Endpoint, ...]
    private: tuple[Endpoint, ...]
    observed: Endpoint | None


@dataclass(frozen=True, slots=True)
class ShortcutRow:
    """`why` is why packets for the prefix do not go directly; WhyNot.DIRECT when they do.

    `public` and `private` are the peer's endpoints as the answer named them, `candidates` those that are tried, also
    after the attempt was given up and `nbma` with it. `seen_as` is where the peer sees us over the direct path.
    """

    prefix: Network
    destination: Address
    gateway: Address | None
    nbma: Address | None
    state: ShortcutState
    why: WhyNot
    age_s: float
    expires_s: float | None
    rtt_s: float | None
    public: tuple[Endpoint, ...]
    private: tuple[Endpoint, ...]
    candidates: tuple[Endpoint, ...]
    seen_as: Endpoint | None


@dataclass(frozen=True, slots=True)
class View:
    hubs: tuple[HubRow, ...]
    bindings: tuple[BindingRow, ...]
    shortcuts: tuple[ShortcutRow, ...]
    sent: dict[Kind, int]
    received: dict[Kind, int]
    dropped: dict[DropReason, int]
