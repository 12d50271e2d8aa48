"""The Plan of one router: every derived fact once, for renderers to read. Pure data, no engine's syntax."""

from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Address

from dmvpn.firewall.policy import Policy
from dmvpn.network.plan_links import Address as Address
from dmvpn.network.plan_links import Band as Band
from dmvpn.network.plan_links import Bond as Bond
from dmvpn.network.plan_links import BondMode as BondMode
from dmvpn.network.plan_links import Interface as Interface
from dmvpn.network.plan_links import LacpRate as LacpRate
from dmvpn.network.plan_links import Lan as Lan
from dmvpn.network.plan_links import Network as Network
from dmvpn.network.plan_links import Port as Port
from dmvpn.network.plan_links import Pppoe as Pppoe
from dmvpn.network.plan_links import Target as Target
from dmvpn.network.plan_links import Uplink as Uplink
from dmvpn.network.plan_links import Vlan as Vlan
from dmvpn.network.plan_links import Watch as Watch


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

    ike_table: int  # charon's ways to peers' transport addresses into its TUN, on the userspace plane
    ike_priority: int  # before main (32766)
    ike_mark: Mark  # charon's own sockets, of every network alike: they must not go into any network's TUN
    ipsec_device: str  # another name of charon's TUN, which the kernel calls ipsec0, ipsec1 as they come
    ipsec_group: int  # its device group, ip-link(8): what the guards know it by
    route_protocol: int  # rtm_protocol of all routes of ours but shortcuts (linux/routes.py)
    uplink_priority: int  # of the first of a few rules in a row: ways that main knows, then marks, then sources
    uplink_mask: int  # the field that says which uplink a packet and its connection belong to
    uplink_tables: int  # the first of as many tables as the mask has values: all that uplinks may ever have


@dataclass(frozen=True, slots=True)
class Gateway:
    """A gateway that the routers of a site share, in one network and family: VRRP, RFC 5798."""

    network: str
    device: str
    address: Interface


@dataclass(frozen=True, slots=True)
class Vrrp:
    """This router's part in the gateways of its site. Whoever has no tunnel that works offers `lost` less."""

    group: int  # the virtual router id: the same in every network, each of which is a link of its own
    priority: int  # by the file's order
    lost: int
    advertise_ms: int
    gateways: tuple[Gateway, ...]


@dataclass(frozen=True, slots=True)
class SitePeer:
    """Another router of the site and this one's own address on the network that both have."""

    router: str
    address: Address
    own: Address
    device: str


@dataclass(frozen=True, slots=True)
class SiteSession:
    """iBGP between routers of a site that are in different clouds: each gives the other the ways of its own."""

    asn: int
    router_id: IPv4Address
    peers: tuple[SitePeer, ...]
    keepalive_s: int
    hold_s: int
    port: int
    exported: bool  # False: what a partner's cloud knows ends here. True: a hub's `redistribute` asks for it
    bfd: "Bfd | None"


@dataclass(frozen=True, slots=True)
class StaticRoute:
    """A network behind another router of the site."""

    prefix: Network
    via: Address
    device: str


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
    port: int = 179  # where a hub is called, in the whole network
    beside: tuple[str, ...] = ()  # of a hub: its other clouds that speak BGP, which are kept apart
    specific: bool = False  # hubs tell every network by itself: another cloud's route to it must not win by its length


@dataclass(frozen=True, slots=True)
class Ospf:
    """OSPF over a cloud. Neighbours compare masks (RFC 2328 10.5), so `length` is that of every member's address."""

    length: int
    area: int
    cost: int
    networks: tuple[Network, ...]


@dataclass(frozen=True, slots=True)
class Rip:
    """RIP over a cloud: its neighbours must be on link, RFC 2453 3.9.2, so the address has the overlay's length."""

    length: int
    update_s: int


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
    rip: Rip | None = None
    rank: int | None = None  # 0: the highest bandwidth of the network's clouds; None: nothing to choose between
    redistributes: tuple[str, ...] = ()  # a hub's: clouds whose routes it announces in this one


@dataclass(frozen=True, slots=True)
class Ike:
    """IKE and ESP of this router, in strongSwan's proposal words (swanctl.conf(5)), since the file uses them too."""

    ike_proposal: str
    esp_proposal: str
    rekey_s: int
    identity: str  # router name + domain, the subjectAltName dNSName of its certificate
    port: int  # 500, unless the file says otherwise
    nat_port: int  # 4500, likewise: where our own routers call each other
    dpd_delay_s: int


@dataclass(frozen=True, slots=True)
class Opening:
    """Something the firewall lets in to the router itself. `devices` empty means any."""

    why: str
    protocol: str  # udp, tcp, esp, gre, icmp
    ports: tuple[int, ...]
    devices: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Admin:
    """Somebody who may log in: `key` is a line of authorized_keys, sshd(8)."""

    account: str
    key: str


@dataclass(frozen=True, slots=True)
class Host:
    """What the machine itself is told beyond the VPN; None and empty: left as it is."""

    hostname: str | None
    timezone: str | None
    resolvers: tuple[Address, ...]
    admins: tuple[Admin, ...]

    @property
    def nothing(self) -> bool:
        return self == Host(None, None, (), ())


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
    host: Host = Host(None, None, (), ())
    adopts: tuple[str, ...] = ()  # services of the host's own that are stopped and masked for ours
    policy: Policy | None = None  # None: nothing is filtered beyond the guards
    bonds: tuple[Bond, ...] = ()
    vlans: tuple[Vlan, ...] = ()
    ports: tuple[Port, ...] = ()  # of the machine, that uplinks and networks are on, or VLANs; no members of bonds
    vrrp: Vrrp | None = None
    session: SiteSession | None = None
    routes: tuple[StaticRoute, ...] = ()


@dataclass(frozen=True, slots=True)
class ForeignPlan(Plan):
    """As a Plan, but every NBMA address in it is an underlay address, and `transport` is only a number of its own."""
