"""The lab as data: which nodes there are, what joins them, and how each is addressed. Pure: from the file's lab section
and the Plans of its routers; wiring.py makes it so.

WAN routers forward by static host routes. Their ends of access links are unnumbered towards each other, so any public
address may sit anywhere, and two sites may even be given addresses of one subnet.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Interface

from dmvpn.lab.impairment import Impairment
from dmvpn.network.plan import Address

DEVICE_NAME_OCTETS = 15  # IFNAMSIZ - 1


class NodeKind(StrEnum):
    ROUTER = "router"
    HOST = "host"
    NAT = "nat"
    WAN = "wan"
    SWITCH = "switch"


@dataclass(frozen=True, slots=True)
class Route:
    """One route of ip-route(8). `via` absent is a device route; `onlink` says the gateway needs no route itself."""

    prefix: str
    device: str
    via: Address | None = None
    metric: int = 0
    source: Address | None = None
    onlink: bool = False

    @property
    def family(self) -> int:
        return 6 if ":" in self.prefix or (self.via is not None and self.via.version == 6) else 4


@dataclass(frozen=True, slots=True)
class Session:
    """Whom the ISP lets have a PPPoE session."""

    user: str
    password: str


@dataclass(frozen=True, slots=True)
class LeaseServer:
    """What gives one uplink its address, by the name of its link. The first of `leases` is given first.

    With `session` it is an access concentrator, without one a DHCP server. `mtu_octets` is what it tells the uplink.
    """

    link: str
    device: str
    gateway: IPv4Address
    leases: tuple[IPv4Interface, ...]
    mtu_octets: int
    session: Session | None = None


@dataclass(slots=True)
class Node:
    """One machine of the lab: what it needs before anything of ours runs on it."""

    name: str
    kind: NodeKind
    addresses: list[tuple[str, str]] = field(default_factory=list)  # device, address with its length
    routes: list[Route] = field(default_factory=list)
    bridges: dict[str, list[str]] = field(default_factory=dict)  # bridge, its ports
    sysctls: dict[str, str] = field(default_factory=dict)
    nft: str = ""
    leases: list[LeaseServer] = field(default_factory=list)
    detail: str = ""  # for the picture: what it is, in a few words


@dataclass(frozen=True, slots=True)
class End:
    node: str
    device: str


@dataclass(frozen=True, slots=True)
class Link:
    """A cable. `up` impairs what `a` sends, `down` what `b` sends; both None: a cable that is never impaired."""

    name: str
    a: End
    b: End
    mtu_octets: int
    up: Impairment | None = None
    down: Impairment | None = None

    @property
    def impairable(self) -> bool:
        return self.up is not None


@dataclass(frozen=True, slots=True)
class Topology:
    """All of it. `outside` are the addresses under which the WAN sees each router; `names` is for every /etc/hosts."""

    network: str
    nodes: dict[str, Node]
    links: dict[str, Link]
    outside: dict[str, tuple[Address, ...]]
    names: tuple[tuple[Address, str], ...]
    not_started: tuple[str, ...]  # routers of foreign platforms: the lab has no image of them

    def of_kind(self, kind: NodeKind) -> tuple[Node, ...]:
        return tuple(node for node in self.nodes.values() if node.kind is kind)
