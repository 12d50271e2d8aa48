"""The zone policy: zones, rules, NAT, limits and marks; or awall's own files."""

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from dmvpn.network.values import (
    Address,
    Addresses,
    Count,
    IcmpType,
    LogPrefix,
    Name,
    Names,
    NflogGroup,
    OneOrMany,
    Path,
    PolicyMark,
    PortNumber,
    Prefix,
    Prefixes,
    Section,
    ServicePorts,
    V4Length,
    V6Length,
    WholeSeconds,
    Zone,
    Zones,
)


class Action(StrEnum):
    ACCEPT = "accept"
    DROP = "drop"
    REJECT = "reject"
    PASS = "pass"


class PolicyZone(Section):
    """A zone of the policy, beside those the file's networks, clouds and uplinks make, or instead of one of them."""

    networks: Names = ()
    """Networks of a router's own site, by name."""
    clouds: Names = ()
    """Clouds."""
    uplinks: Names = ()
    """Uplinks of any router, by name."""
    prefixes: Prefixes = ()
    """Only these addresses."""
    ipsec: bool | None = None
    """true: only what comes out of ESP or will go into it; false: only what does not (kernel plane)."""
    route_back: bool | None = None
    """What came in by a device of the zone may leave by it again; absent: true for clouds."""


class PolicyService(Section):
    """Protocols and their ports under a name."""

    protocol: Annotated[
        tuple[Literal["tcp", "udp", "sctp", "icmp", "icmpv6", "esp", "ah", "gre", "ospf", "vrrp", "igmp"], ...],
        OneOrMany(),
        Field(min_length=1, max_length=8),
    ]
    """The protocols above IP."""
    ports: Annotated[tuple[ServicePorts, ...], OneOrMany(), Field(max_length=64)] = ()
    """Ports and ranges, of the destination; absent: all."""
    types: Annotated[tuple[IcmpType, ...], OneOrMany(), Field(max_length=64)] = ()
    """ICMP types; absent: all."""


class LimitCounts(StrEnum):
    CONNECTIONS = "connections"
    PACKETS = "packets"


class LimitEach(StrEnum):
    SOURCE = "source"
    DESTINATION = "destination"
    PAIR = "pair"
    ALL = "all"


class Limit(Section):
    """So many in so much time; more are dropped."""

    count: Count
    """So many, at once or spread over the interval."""
    interval: WholeSeconds = 1
    """The time they are counted in."""
    counts: LimitCounts = LimitCounts.CONNECTIONS
    """connections: new ones; packets: every one, of connections that were let through too."""
    each: LimitEach = LimitEach.SOURCE
    """Whose count it is: of each source, each destination, each pair of both, or one of all together."""
    ipv4_length: V4Length = 32
    """Hosts of one prefix of this length share a count."""
    ipv6_length: V6Length = 128
    """The same for IPv6; an attacker there has a /64."""
    log: Name | None = None
    """How what is dropped is logged: a name of `logs`, or default."""


class PolicyLog(Section):
    """A log."""

    prefix: LogPrefix = ""
    """Stands before each entry."""
    rate: Count = 1
    """At most so many entries a second, for each rule that uses it."""
    group: NflogGroup | None = None
    """NFLOG group; absent: the kernel's log."""


class Rule(Section):
    """From zones to zones: what is done with it."""

    in_: Zones = ()
    """From these zones; absent: any. From zones only: what is forwarded and what is for the router."""
    out: Zones = ()
    """To these zones; _fw is the router; absent: any."""
    source: Prefixes = ()
    """Only from these addresses."""
    destination: Prefixes = ()
    """Only to these addresses."""
    source_set: Name | None = None
    """Only from addresses of this set."""
    destination_set: Name | None = None
    """Only to addresses of this set."""
    service: Names = ()
    """Only these services; absent: all."""
    action: Action = Action.ACCEPT
    """What is done; pass: the next rule decides."""
    limit: Limit | None = None
    """At most so many."""
    log: Name | None = None
    """How it is logged: a name of `logs`, or default (the kernel's log, one entry a second); absent: not at all."""


class SourceNat(Section):
    """Outgoing traffic takes the uplink's address, or the one given."""

    out: Zones
    """On the way to these zones."""
    in_: Zones = ()
    """Only from these zones."""
    source: Prefixes = ()
    """Only from these addresses."""
    destination: Prefixes = ()
    """Only to these addresses."""
    service: Names = ()
    """Only these services."""
    to: Addresses = ()
    """The address taken, one for each family; absent: the uplink's own, IPv4 only."""
    exclude: bool = False
    """true: what fits is not translated, and rules after this one do not see it."""


class DestinationNat(Section):
    """A service of an inner host, reachable from outside at the router's own address."""

    in_: Zones
    """From these zones."""
    source: Prefixes = ()
    """Only from these addresses."""
    destination: Prefixes = ()
    """Only to these addresses; absent: any of the router's own."""
    service: Names
    """What is forwarded."""
    to: Addresses = ()
    """The inner host, one for each family; absent: the router itself."""
    to_port: PortNumber | None = None
    """Its port, where it differs."""


class Marking(Section):
    """A mark on packets, for ip rules and tc of the machine's own."""

    in_: Zones = ()
    """From these zones."""
    out: Zones = ()
    """To these zones: it is set after routing."""
    source: Prefixes = ()
    """Only from these addresses."""
    destination: Prefixes = ()
    """Only to these addresses."""
    service: Names = ()
    """Only these services."""
    mark: PolicyMark
    """The mark, in the lower 16 bits; the others are left as they are."""


class RouteTrack(Section):
    """A mark on whole connections, in both directions, whoever began them."""

    zone: Zones
    """Connections from or to these zones."""
    mark: PolicyMark
    """The mark."""


class PacketState(StrEnum):
    NEW = "new"
    ESTABLISHED = "established"
    INVALID = "invalid"


class PolicyTest(Section):
    """A packet, and what is to become of it: `dmvpn firewall test` asks the rules."""

    in_: Zone
    """From this zone; _fw is the router."""
    out: Zone
    """To this zone."""
    source: Address | None = None
    """Its source; absent: one of the zone, IPv4 if the service has it."""
    destination: Address | None = None
    """Its destination; absent: one of the zone."""
    service: Name
    """What it is: every kind of traffic and port of the service is asked about, of a range its ends."""
    state: PacketState = PacketState.NEW
    """What connection tracking says of it."""
    protected: bool = False
    """Whether it came out of ESP, or will go into it."""
    router: Name | None = None
    """Only on this router; absent: on all that have both zones."""
    expect: Literal["accept", "drop", "reject"]
    """The verdict."""


class Policy(Section):
    """Zones and rules. What the VPN itself needs is derived and not written here."""

    zones: dict[Name, PolicyZone] = Field(default_factory=dict)
    """Zones by name."""
    services: dict[Name, PolicyService] = Field(default_factory=dict)
    """Services by name, beyond the usual ones."""
    sets: dict[Name, Annotated[tuple[Prefix, ...], OneOrMany(), Field(max_length=10000)]] = Field(default_factory=dict)
    """Sets of addresses by name; nft can add to them while they are in force."""
    logs: dict[Name, PolicyLog] = Field(default_factory=dict)
    """Logs by name."""
    rules: Annotated[tuple[Rule, ...], Field(max_length=5000)] = ()
    """In order; the first that fits decides."""
    default: Annotated[tuple[Rule, ...], Field(max_length=500)] = ()
    """What is done when no rule fits; absent: what docs/firewall.md says. What nothing lets through is dropped."""
    source_nat: Annotated[tuple[SourceNat, ...], Field(max_length=500)] = ()
    """Source NAT; absent: internal addresses are masqueraded towards the Internet, IPv4 only."""
    destination_nat: Annotated[tuple[DestinationNat, ...], Field(max_length=500)] = ()
    """Port forwarding. What is forwarded is let through as well."""
    clamp_mss: Zones = ()
    """Zones behind which ICMP is lost: TCP's segment size is clamped on the way there; absent: internet."""
    marks: Annotated[tuple[Marking, ...], Field(max_length=500)] = ()
    """Marks."""
    route_track: Annotated[tuple[RouteTrack, ...], Field(max_length=64)] = ()
    """Marks of connections."""
    tests: Annotated[tuple[PolicyTest, ...], Field(max_length=5000)] = ()
    """Packets and their verdicts, for `dmvpn firewall test`."""
    awall: Annotated[tuple[Path, ...], OneOrMany(), Field(max_length=64)] = ()
    """awall's files, read instead of the above."""
