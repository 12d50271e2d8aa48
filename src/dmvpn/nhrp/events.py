"""The engine's doors: what it is told (inputs) and what it asks for (actions). Both unions are closed."""

from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from dmvpn.nhrp.value import value

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network


class Role(StrEnum):
    HUB = "hub"
    SPOKE = "spoke"


@value
class Endpoint:
    """Where IKE may reach a peer: an underlay address and a UDP port."""

    address: Address
    port: int


@value
class HubSetting:
    """A next hop server as its client must know it. `protocol` has one address for each family of the overlay."""

    name: str
    protocol: tuple[Address, ...]
    nbma: Address
    ours: bool  # ours: candidates and direct probes; else plain RFC 2332 and Cisco


@value
class EngineSettings:
    """One cloud on one router. Times are seconds. The defaults are those of docs/nhrp.md."""

    role: Role
    phase: int  # 1: hub relays; 2: next hops are resolved; 3: indications and shortcuts
    protocol: tuple[Address, ...]  # own overlay addresses, first is the one that registers
    overlay: tuple[Network, ...]
    nbma: Address
    hubs: tuple[HubSetting, ...]
    serves: tuple[Network, ...]  # networks this router may answer for
    mtu_octets: int
    holding_time_s: float
    registration_s: float
    authentication: bytes | None
    redirect: bool  # sends traffic indications
    shortcut: bool  # acts on them
    probe_interval_s: float = 1.0
    probe_limit: int = 3  # probes unanswered in a row before a direct path is given up
    negative_s: float = 180.0
    transport: tuple[Network, ...] = ()  # NBMA addresses of our own routers: no underlay addresses, no others' claims
    underlay_nbma: Address | None = None  # our NBMA address to foreign routers; None: they cannot reach us
    link_local: Address | None = None  # our own on the tunnel device: IOS wants it in replies about its own
    link_local_derived: bool = False  # they follow from overlay addresses here, so nobody registers any
    security_wait_s: float = 20.0  # how long a shortcut waits for its SA before it is given up for negative_s


# ---------------------------------------------------------------- inputs


@value
class Received:
    """An NHRP PDU from the tunnel. `sender` is the outer source address (None: the kernel did not say)."""

    octets: bytes
    sender: Address | None


@value
class SecurityUp:
    """An SA with this NBMA address is up and the peer's claims are known to the data plane.

    `observed` is where its IKE packets come from: what a hub tells a registering spoke about itself.
    """

    nbma: Address
    observed: Endpoint | None


@value
class SecurityDown:
    nbma: Address
    reason: str


@value
class Verdict:
    """The answer to an Authorise action, by its ticket. `reason` is empty when allowed."""

    ticket: int
    allowed: bool
    reason: str


class Egress(StrEnum):
    """Where a route leads, as far as NHRP cares."""

    OVERLAY = "overlay"  # through this cloud's device, to `gateway` (None: on-link)
    ELSEWHERE = "elsewhere"  # through another device: this router is the egress
    LOCAL = "local"  # an address of this router
    UNREACHABLE = "unreachable"  # unreachable, blackhole or prohibit


@value
class RouteChanged:
    """The best route of a prefix but for shortcuts; a whole dump is the same input for each row.

    `more` are gateways that are as good as the first: the kernel sends each flow to one of them.
    """

    prefix: Network
    egress: Egress
    gateway: Address | None
    device: str
    more: tuple[Address, ...] = ()


@value
class RouteGone:
    prefix: Network


@value
class Hairpin:
    """A packet came in from the overlay and leaves by it again. `packet` is its head, from the IP header on."""

    packet: bytes
    sender: Address  # NBMA address that delivered it


@value
class NeighbourMissing:
    """The kernel asks who this next hop is (RTM_GETNEIGH)."""

    protocol: Address


@value
class Used:
    """Traffic went to this NBMA address since the last report."""

    nbma: Address


@value
class OwnEndpoints:
    """This router's own candidates beside the public one that a hub reports: its uplink addresses."""

    private: tuple[Endpoint, ...]


@value
class Refused:
    """The kernel refused to perform an action; the engine must not believe in it."""

    action: "BindNeighbour | InstallRoute"
    reason: str


@value
class Forget:
    """An operator's purge: drop what is known about this prefix or address (None: all that was learned)."""

    prefix: Network | None


Input = (
    Received
    | SecurityUp
    | SecurityDown
    | Verdict
    | RouteChanged
    | RouteGone
    | Hairpin
    | NeighbourMissing
    | Used
    | OwnEndpoints
    | Refused
    | Forget
)


# ---------------------------------------------------------------- actions


@value
class Send:
    octets: bytes
    nbma: Address


@value
class BindNeighbour:
    protocol: Address
    nbma: Address


@value
class UnbindNeighbour:
    """`refused` answers the kernel's question with "nobody" (NUD_FAILED) instead of taking an entry away."""

    protocol: Address
    refused: bool = False


@value
class InstallRoute:
    """A shortcut: `prefix` via `gateway` (whose neighbour entry is bound), before any other of this length."""

    prefix: Network
    gateway: Address
    mtu_octets: int | None


@value
class RemoveRoute:
    prefix: Network


@value
class WantSecurity:
    """An SA with this peer is wanted; asked again it is a no-op. Answered by SecurityUp or SecurityDown."""

    nbma: Address
    candidates: tuple[Endpoint, ...]


@value
class RestartSecurity:
    """The path is dead although the SA stands: terminate and initiate. Followed by SecurityDown, then Up or not."""

    nbma: Address


@value
class ReleaseSecurity:
    """Nothing needs this SA any more."""

    nbma: Address


@value
class Authorise:
    """May the peer behind `nbma` have `protocol` bound to it and, where given, traffic for `prefix`?"""

    ticket: int
    nbma: Address
    protocol: Address
    prefix: Network | None


class DropReason(StrEnum):
    """Why a packet was not acted on: counted and shown, never silent."""

    MALFORMED = "malformed"
    CHECKSUM = "checksum"
    VERSION = "version"
    OVERSIZED = "oversized"
    AUTHENTICATION = "authentication"
    HOP_COUNT = "hop-count"
    LOOP = "loop"
    UNREACHABLE = "unreachable"
    UNSOLICITED = "unsolicited"  # a reply to nothing that was asked, or from whom nothing was asked
    DUPLICATE = "duplicate"
    NOT_AUTHORISED = "not-authorised"
    STRANGER = "stranger"  # an indication or error from a peer through which nothing was sent
    COMPULSORY_EXTENSION = "compulsory-extension"
    RATE_LIMIT = "rate-limit"
    NO_SECURITY = "no-security"
    UNSUPPORTED = "unsupported"
    CANDIDATE = "candidate"  # a place where no peer can be: IKE is not tried there
    LIMIT = "limit"  # a table is full


@value
class Dropped:
    reason: DropReason
    sender: Address | None
    detail: str


class Happening(StrEnum):
    """What an operator wants in the log and `nhrp watch` shows."""

    HUB_UP = "hub-up"
    HUB_DOWN = "hub-down"
    REGISTERED = "registered"  # a client registered here
    EXPIRED = "expired"
    SHORTCUT_WANTED = "shortcut-wanted"
    SHORTCUT_CONNECTING = "shortcut-connecting"
    SHORTCUT_UP = "shortcut-up"
    SHORTCUT_DOWN = "shortcut-down"
    NEGATIVE = "negative"
    PURGED = "purged"
    REDIRECTED = "redirected"


@value
class Log:
    happening: Happening
    subject: str  # the prefix, address or name it is about
    detail: str


Action = (
    Send
    | BindNeighbour
    | UnbindNeighbour
    | InstallRoute
    | RemoveRoute
    | WantSecurity
    | RestartSecurity
    | ReleaseSecurity
    | Authorise
    | Dropped
    | Log
)
