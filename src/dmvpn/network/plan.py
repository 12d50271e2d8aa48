"""The Plan of one router: every derived fact once, for renderers to read. Pure data, no engine's syntax."""

from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
Interface = IPv4Interface | IPv6Interface


class Plane(StrEnum):
    KERNEL = "kernel"
    USERSPACE = "userspace"


class Role(StrEnum):
    HUB = "hub"
    SPOKE = "spoke"


class Platform(StrEnum):
    DEBIAN = "debian"
    ALPINE = "alpine"
    FRR = "frr"  # FRR's nhrpd on any Linux
    VYOS = "vyos"  # from 1.5 on, the same nhrpd
    CISCO_IOS = "cisco-ios"


class Protocol(StrEnum):
    BGP = "bgp"
    OSPF = "ospf"
    RIP = "rip"


@dataclass(frozen=True, slots=True)
class Mark:
    """A firewall mark as a masked bit field, so that several owners share the 32 bits."""

    value: int
    mask: int


@dataclass(frozen=True, slots=True)
class Registry:
    """Every routing table, rule priority and mark we use, once. Tables and priorities are numbers as in ip-rule(8)."""

    shortcut_table: int
    shortcut_priority: int  # before main (32766), after charon's
    ike_table: int  # charon routes peers' transport addresses into ipsec0 here
    ike_priority: int
    ike_mark: Mark  # charon's own sockets: they must not go into ipsec0
    route_protocol: int  # rtm_protocol of everything dmvpnd installs


@dataclass(frozen=True, slots=True)
class Uplink:
    """One ISP link of this router. `device` is the kernel's name; `public` is what the far side sees, when known."""

    name: str
    device: str
    addresses: tuple[Interface, ...]
    gateways: tuple[Address, ...]
    dhcp: bool
    public: Address | None
    mtu_octets: int
    metric: int  # of its default route; order in the file


@dataclass(frozen=True, slots=True)
class Lan:
    """A network of the site on this router: `address` is the router's own in it."""

    name: str
    device: str
    prefix: Network
    address: Interface
    zone: str


@dataclass(frozen=True, slots=True)
class Hub:
    """A hub of a cloud as another router of the cloud must know it."""

    router: str
    ours: bool  # False: a foreign platform, under the other CA
    overlay: tuple[Address, ...]
    nbma: Address  # transport address when ours, else the public underlay address
    endpoints: tuple[Address | str, ...]  # where IKE reaches it: addresses, or DNS names
    asn: int


@dataclass(frozen=True, slots=True)
class Nhrp:
    holding_time_s: int
    registration_s: int
    authentication: bytes | None  # RFC 2332 5.3.4, Cisco's clear text; at most 8 octets
    phase: int  # 1, 2 or 3
    redirect: bool  # this router indicates (phase 3 hub)
    shortcut: bool  # this router acts on indications


@dataclass(frozen=True, slots=True)
class BgpNeighbor:
    address: Address
    asn: int
    name: str


@dataclass(frozen=True, slots=True)
class Bgp:
    """eBGP over a cloud. A hub listens for spokes; a spoke has its hubs as neighbours."""

    asn: int
    router_id: IPv4Address
    neighbors: tuple[BgpNeighbor, ...]  # spoke: the hubs; hub: the other hubs
    listen: tuple[Network, ...]  # hub: the overlay ranges spokes may come from
    announce: tuple[Network, ...]  # spoke: its networks; hub: the network's prefixes
    accept: tuple[Network, ...]  # spoke: exactly these from hubs; hub: these and longer from spokes
    refuse: tuple[Network, ...]  # hub: never from a spoke (overlays, transport, its own site)
    keepalive_s: int
    hold_s: int


@dataclass(frozen=True, slots=True)
class Ospf:
    """OSPF over a cloud. Neighbours compare masks (RFC 2328 10.5), so `length` is that of every member's address."""

    length: int
    area: int
    cost: int
    networks: tuple[Network, ...]


@dataclass(frozen=True, slots=True)
class Bfd:
    """How fast a dead routing neighbour is noticed: RFC 5880 6.8.4, both directions alike."""

    interval_ms: int
    multiplier: int


@dataclass(frozen=True, slots=True)
class ForeignPeer:
    """A router for which the file vouches, because no certificate of ours does. See `claims: {from: file}`."""

    router: str
    identity: str  # in its certificate: ROUTER.DOMAIN
    nbma: Address | None  # its underlay address, where it is fixed
    overlay: tuple[Address, ...]
    prefixes: tuple[Network, ...]  # what it may announce; a hub: all that is internal
    asn: int
    role: Role


@dataclass(frozen=True, slots=True)
class Cloud:
    """One mGRE network as this router takes part in it."""

    name: str
    device: str  # carries the network's name, at most 15 octets
    role: Role
    plane: Plane
    gre_key: int | None
    ttl: int
    mtu_octets: int
    mss_v4_octets: int
    mss_v6_octets: int
    overlay: tuple[Network, ...]
    addresses: tuple[Address, ...]  # this router's own, one for each family it has
    uplinks: tuple[str, ...]  # in order of preference
    hubs: tuple[Hub, ...]  # all hubs of the cloud but this router
    nhrp: Nhrp
    routing: Protocol
    bgp: Bgp | None
    ospf: Ospf | None
    bandwidth_bps: int | None
    nflog_group: int  # hairpins of this cloud, for dmvpnd
    foreign: tuple[ForeignPeer, ...] = ()  # members that are known by the file alone
    encrypted: bool = True  # False: crypto: none, GRE in clear over a trusted underlay
    multicast_group: int = 0  # NFLOG: what the kernel cannot send to many, for dmvpnd (kernel plane)
    underlay_address: Address | None = None  # this router's own on its first fixed uplink: its NBMA to foreign peers
    bfd: Bfd | None = None


@dataclass(frozen=True, slots=True)
class Ike:
    """IKE and ESP of this router, in strongSwan's proposal words (swanctl.conf(5)), since the file uses them too."""

    ike_proposal: str
    esp_proposal: str
    rekey_s: int
    identity: str  # router name + domain, the subjectAltName dNSName of its certificate
    port: int  # 500
    nat_port: int  # 4500
    dpd_delay_s: int


@dataclass(frozen=True, slots=True)
class Opening:
    """Something the firewall lets in to the router itself. `devices` empty means any."""

    why: str
    protocol: str  # udp, tcp, esp, gre, icmp
    ports: tuple[int, ...]
    devices: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything the renderers of one router need."""

    network: str
    domain: str
    router: str
    site: str
    platform: Platform
    asn: int
    prefixes: tuple[Network, ...]  # all that is ever internal
    transport: Address  # this router's own
    transport_range: Network
    serves: tuple[Network, ...]  # the site's networks: what it announces and answers for
    uplinks: tuple[Uplink, ...]
    lans: tuple[Lan, ...]
    clouds: tuple[Cloud, ...]
    ike: Ike
    registry: Registry
    openings: tuple[Opening, ...]
    not_rendered: tuple[str, ...]  # sections of the file that no engine renders yet, as "sites.hq.services.dns"


@dataclass(frozen=True, slots=True)
class ForeignPlan(Plan):
    """As a Plan, but every NBMA address in it is an underlay address, and `transport` is only a number of its own."""
