"""The operator's file: network, clouds, sites, routers, uplinks and tunnels. What can be derived is not in it."""

from enum import StrEnum
from ipaddress import IPv4Network
from typing import Annotated, Literal

from pydantic import Field

from dmvpn.network.lab_model import Lab
from dmvpn.network.plan import BondMode, LacpRate, Platform, Protocol, Role
from dmvpn.network.policy_model import Policy
from dmvpn.network.services_model import Dhcp, RoadWarriors, Services, System
from dmvpn.network.uplink_model import ProbeTargets, ProbeTimes, Program, Weight
from dmvpn.network.values import (
    Account,
    Address,
    Addresses,
    Asn,
    BfdInterval,
    BfdMultiplier,
    BitsPerSecond,
    Domain,
    GreKey,
    HoldingTime,
    Host,
    Interfaces,
    Milliseconds,
    Name,
    Names,
    Octet,
    Octets,
    OneOrMany,
    Port,
    PortNumber,
    Prefix,
    Prefix4,
    Prefixes,
    Proposal,
    Secret,
    Section,
    ServiceNames,
    TrueForDefaults,
    VendorInterface,
    VlanId,
    WholeSeconds,
    Zone,
)


class PlaneChoice(StrEnum):
    AUTO = "auto"
    KERNEL = "kernel"
    USERSPACE = "userspace"


class Underlay(StrEnum):
    IPV4 = "ipv4"
    IPV6 = "ipv6"


class ClaimsFrom(StrEnum):
    CERTIFICATE = "certificate"
    FILE = "file"


class CryptoProfile(Section):
    """IKE and ESP proposals, in strongSwan's words (swanctl.conf(5)), and how often keys change."""

    ike: Proposal = "aes256gcm16-prfsha384-ecp384"
    """The IKE proposal."""
    esp: Proposal = "aes256gcm16"
    """The ESP proposal."""
    rekey: WholeSeconds = 7200
    """The life of a key."""
    dpd_delay: WholeSeconds = 2
    """A silent peer is asked after this long."""


class Ports(Section):
    """What every router of the network listens on. Two networks on one machine need different ones."""

    ike: PortNumber = 500
    """UDP: where foreign routers call and are called, so 500 where there are some."""
    ike_nat: PortNumber = 4500
    """UDP, ESP too: where our routers call each other, NAT or not; forward it to a hub behind NAT."""
    bgp: PortNumber = 179
    """TCP: where a hub is called by its spokes."""


class CloudNhrp(Section):
    """NHRP in one cloud."""

    holding_time: HoldingTime = 600
    """How long others may remember a binding; a spoke registers three times in it."""
    secret: Secret | None = None
    """Cisco's clear-text authentication, at most 8 octets; only for foreign routers that ask for it."""


class Bfd(Section):
    """How soon a routing neighbour that fell silent is missed: interval times multiplier."""

    interval: BfdInterval = 0.25
    """Between two packets, in both directions."""
    multiplier: BfdMultiplier = 3
    """So many packets missing in a row end the session."""


class Cloud(Section):
    """One mGRE network. Two clouds are two independent DMVPNs."""

    overlay: Prefixes
    """The prefixes of the tunnel addresses: at most one for each family."""
    gre_key: GreKey | None = None
    """The GRE key; clouds that share a router need different ones."""
    phase: Literal[1, 2, 3] = 3
    """1: everything through the hub; 2: spokes resolve by next hop; 3: shortcuts by redirect."""
    routing: Protocol = Protocol.BGP
    """The routing protocol over the cloud."""
    redistribute: Names = ()
    """Clouds whose routes the hubs of this one announce here, for sites that are in those alone; never both ways."""
    bfd: Annotated[Bfd | None, TrueForDefaults()] = None
    """BFD between spokes and hubs: a death is noticed in less than a second, not in 30 s (BGP) or 40 s (OSPF)."""
    bandwidth: BitsPerSecond | None = None
    """Not measured, chosen: of a site's clouds the one with the highest is taken while it works; OSPF's cost too."""
    hubs: Host | None = None
    """A DNS name that has an address record for each hub; used after the addresses the file gives."""
    nhrp: CloudNhrp = CloudNhrp()
    """NHRP's times and secret."""
    crypto: Name | None = None
    """A profile of `crypto`; absent: the built-in one; `none`: no IPsec at all, on an underlay that is trusted."""
    underlay: Underlay = Underlay.IPV4
    """The family of the addresses IKE and ESP use."""
    underlay_mtu: Octets = 1500
    """The smallest MTU on the way between any two routers of the cloud."""
    nat_traversal: bool = True
    """false: no router of the cloud is behind NAT, so ESP needs no UDP header (kernel plane)."""
    plane: PlaneChoice = PlaneChoice.AUTO
    """auto: kernel where the machine has it. A hub in a cloud with foreign routers needs kernel."""
    ttl: Octet = 64
    """The TTL of the outer packet."""


class SiteNetwork(Section):
    """One network of a site: a LAN, a DMZ, a guest network."""

    prefix: Prefixes
    """Its prefix: at most one for each family."""
    port: Port | None = None
    """The port it is on; absent: the router's `lan-port`, or its only bond."""
    vlan: VlanId | None = None
    """The VLAN on that port; the device is then PORT.VLAN."""
    gateway: Addresses = ()
    """The hosts' default gateway; with two routers it is shared (VRRP). Absent: the router's own address."""
    zone: Zone = "lan"
    """The zone of the policy. The zone internet-only is not announced to the clouds, and no tunnel carries it."""
    mtu: Octets | None = None
    """Its MTU; absent: the port's."""
    dhcp: Dhcp | None = None
    """A DHCP server for it."""


class Bond(Section):
    """A port made of several."""

    members: Annotated[tuple[Port, ...], OneOrMany(), Field(min_length=1, max_length=8)]
    """The physical ports, in order of preference."""
    mode: BondMode = BondMode.ACTIVE_BACKUP
    """active-backup works with two switches; 802.3ad needs one that speaks LACP."""
    miimon: Milliseconds = 0.1
    """How often the carrier of each member is looked at."""
    updelay: Milliseconds = 0.2
    """A member whose carrier came back is used after this long; a multiple of miimon."""
    lacp_rate: LacpRate = LacpRate.SLOW
    """802.3ad only: slow, or fast, where a partner that fell silent is missed after 3 s instead of 90 s."""
    mtu: Octets | None = None
    """Its MTU, and the most that a VLAN on it may have; absent: what the widest of them needs, or 1500."""


class Pppoe(Section):
    """A PPPoE session; the uplink's MTU is then 1492 unless the file says otherwise."""

    user: Account
    """The user name at the ISP."""
    password: Secret
    """Its password."""


class Uplink(Section):
    """One ISP link of a router."""

    port: Port | None = None
    """The Linux port; exactly one of port and interface."""
    vlan: VlanId | None = None
    """The VLAN on that port."""
    interface: VendorInterface | None = None
    """The interface's name on a Cisco or VyOS router."""
    address: Interfaces = ()
    """Its addresses, with prefix length; exactly one of address, dhcp and pppoe."""
    gateway: Addresses = ()
    """The ISP's router, one for each family."""
    dhcp: bool = False
    """The ISP gives the address, gateway and MTU (IPv4)."""
    autoconf: bool = False
    """IPv6 as the ISP's router advertises it (SLAAC), beside whatever IPv4 there is."""
    pppoe: Pppoe | None = None
    """The link is a PPPoE session."""
    public: Address | None = None
    """The address the Internet sees, when a 1:1 NAT hides ours."""
    mtu: Octets | None = None
    """Its MTU; absent: 1500, PPPoE 1492."""
    probes: ProbeTargets = ()
    """Who answers as long as the ISP works: a ping, or where a port is given a TCP connection."""
    probe: ProbeTimes = ProbeTimes()
    """When it counts as down."""
    weight: Weight | None = None
    """Two or more with a weight share the traffic to the Internet by it; absent: the first that works has all."""
    hook: Program | None = None
    """Runs when its state changes, without any privilege; told by its environment, and in JSON on its input."""


class Tunnel(Section):
    """A router's part in a cloud."""

    role: Role = Role.SPOKE
    """hub or spoke."""
    address: Addresses
    """Its addresses in the overlay, one for each family it has."""
    over: Names = ()
    """Uplinks in order of preference; absent: all of the router, as listed."""
    interface: VendorInterface | None = None
    """The tunnel interface's name on a Cisco or VyOS router."""


class StaticRoute(Section):
    """A network behind another router of the site, which the clouds may reach as the site's own."""

    prefix: Prefix
    """Where to."""
    via: Address
    """That router's address, in one of the site's networks."""


class Claims(Section):
    """Where a router's claims (addresses, prefixes, ASN, role) are proved."""

    from_: ClaimsFrom = ClaimsFrom.CERTIFICATE
    """certificate (ours), or file (a foreign router, whose certificate cannot carry them)."""


class Router(Section):
    """One router of a site."""

    platform: Platform = Platform.DEBIAN
    """debian and alpine are ours; frr (its nhrpd, on any Linux), vyos and cisco-ios are foreign."""
    plane: PlaneChoice | None = None
    """Its data plane, for all its clouds; absent: what they say."""
    transport: Address | None = None
    """Its transport address; absent: the range with the last bits of its first tunnel address."""
    ports: dict[Port, Bond] = Field(default_factory=dict)
    """Bonds to make."""
    lan_port: Port | None = None
    """The port of the site's networks that name none."""
    addresses: dict[Name, Addresses] = Field(default_factory=dict)
    """Its own addresses in the site's networks; absent: the gateway's, or the first of the prefix."""
    routes: Annotated[tuple[StaticRoute, ...], Field(max_length=64)] = ()
    """Networks behind other routers of the site."""
    uplinks: Annotated[dict[Name, Uplink], Field(min_length=1)]
    """ISP links; the order is the order of their default routes."""
    tunnels: Annotated[dict[Name, Tunnel], Field(min_length=1)]
    """Its part in each cloud, by the cloud's name."""
    claims: Claims = Claims()
    """Where its claims are proved."""
    services: Services = Services()
    """Services that differ from the site's."""
    adopt: ServiceNames = ()
    """Services of the machine's own, such as frr, that systemd stops and masks while ours are there."""


class Site(Section):
    """A place with networks and one or more routers."""

    asn: Asn | None = None
    """Its autonomous system; needed in a cloud that speaks BGP."""
    networks: dict[Name, SiteNetwork] = Field(default_factory=dict)
    """Its networks."""
    routers: Annotated[dict[Name, Router], Field(min_length=1)]
    """Its routers. A router's name is unique in the whole network."""
    services: Services = Services()
    """Services each of its routers gives."""


class Network(Section):
    """The whole file."""

    version: Literal[1]
    """Of this format: 1."""
    network: Name
    """The network's name: devices, tables, units and directories carry it."""
    domain: Domain
    """Routers are ROUTER.DOMAIN in their certificates."""
    prefixes: Prefixes
    """All that is ever internal. Hubs announce exactly these to spokes."""
    transport: Prefix4 = IPv4Network("100.64.0.0/16")
    """The range of the routers' transport addresses; nothing else may use it."""
    ports: Ports = Ports()
    """The ports it uses."""
    crypto: dict[Name, CryptoProfile] = Field(default_factory=dict)
    """Crypto profiles by name."""
    clouds: Annotated[dict[Name, Cloud], Field(min_length=1)]
    """Clouds by name."""
    sites: Annotated[dict[Name, Site], Field(min_length=1)]
    """Sites by name."""
    road_warriors: RoadWarriors | None = None
    """People who connect from anywhere (OpenVPN)."""
    system: System = System()
    """What all our routers have in common."""
    policy: Policy | None = None
    """The zone policy."""
    lab: Lab = Lab()
    """What only the lab reads."""
