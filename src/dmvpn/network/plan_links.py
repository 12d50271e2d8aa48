"""The links of one router in its Plan: bonds, VLANs, ports, uplinks and how they are watched, the site's networks."""

from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
Interface = IPv4Interface | IPv6Interface


class BondMode(StrEnum):
    ACTIVE_BACKUP = "active-backup"
    LACP = "802.3ad"
    BALANCE_TLB = "balance-tlb"


class LacpRate(StrEnum):
    """How often the partner is asked to speak: every 30 s, or every second. IEEE 802.1AX."""

    SLOW = "slow"
    FAST = "fast"


@dataclass(frozen=True, slots=True)
class Target:
    """Who is asked whether the ISP works: by ICMP echo, or by TCP to `port`."""

    address: Address
    port: int | None

    def __str__(self) -> str:
        if self.port is None:
            return str(self.address)
        return f"[{self.address}]:{self.port}" if self.address.version == 6 else f"{self.address}:{self.port}"


@dataclass(frozen=True, slots=True)
class Band:
    """More than `worst` is bad; to be good again it takes no more than `good`."""

    worst: float
    good: float

    def __str__(self) -> str:
        return f"{self.worst:g} (again {self.good:g})"


@dataclass(frozen=True, slots=True)
class Watch:
    """How an uplink is watched; `loss` is a share of `window` probes. Without targets: carrier and address alone."""

    targets: tuple[Target, ...]
    interval_s: float
    again_s: float
    timeout_s: float
    required: int
    attempts: int
    answers: int
    down: int
    up: int
    window: int
    loss: Band | None
    latency_s: Band | None


@dataclass(frozen=True, slots=True)
class Bond:
    """A port made of several. The times are those of the kernel's Documentation/networking/bonding.rst.

    `mtu_octets` None: the kernel's own. The first member is the preferred one where only one works at a time.
    """

    name: str
    members: tuple[str, ...]
    mode: BondMode
    miimon_ms: int  # how often each member's carrier is looked at
    updelay_ms: int  # a member whose carrier came back is trusted after this long
    lacp_rate: LacpRate
    mtu_octets: int | None


@dataclass(frozen=True, slots=True)
class Vlan:
    """A VLAN on a port or bond, as a device of its own. IEEE 802.1Q; `mtu_octets` None: the port's."""

    name: str
    port: str
    vlan_id: int
    mtu_octets: int | None


@dataclass(frozen=True, slots=True)
class Port:
    """A port of the machine, which must exist; `mtu_octets` None: as it is."""

    name: str
    mtu_octets: int | None


@dataclass(frozen=True, slots=True)
class Pppoe:
    """A PPPoE session, RFC 2516: who we are to the ISP."""

    user: str
    password: bytes


@dataclass(frozen=True, slots=True)
class Uplink:
    """One ISP link of this router. `device` is the kernel's name; `public` is what the far side sees, when known.

    `carrier` is the Ethernet device below a PPPoE session, else the same device. `autoconf`: IPv6 as the ISP's router
    advertises it, RFC 4862.
    """

    name: str
    device: str
    addresses: tuple[Interface, ...]
    gateways: tuple[Address, ...]
    dhcp: bool
    public: Address | None
    mtu_octets: int
    metric: int  # of its default route; order in the file
    table: int  # the routing table of what belongs to this uplink
    mark: int  # in the registry's field
    watch: Watch
    weight: int = 0  # 0: takes no part in sharing
    hook: str | None = None
    carrier: str = ""
    pppoe: Pppoe | None = None
    autoconf: bool = False

    @property
    def leased(self) -> bool:
        """A DHCP client brings its address, its route, or both."""
        return self.pppoe is None and (self.dhcp or self.autoconf)

    def is_beside(self, gateway: Address) -> bool:
        """Whether the ISP's router is in none of our subnets, and yet on the link: with a /32 of our own, say."""
        return not gateway.is_link_local and not any(gateway in address.network for address in self.addresses)


@dataclass(frozen=True, slots=True)
class Lan:
    """A network of the site on this router: `address` is the router's own in it."""

    name: str
    device: str
    prefix: Network
    address: Interface
    zone: str
    dhcp: bool = False  # hosts get their addresses from this router
