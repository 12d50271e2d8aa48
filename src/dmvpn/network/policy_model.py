"""The zone policy: zones, rules, NAT and limits; or awall's own files."""

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from dmvpn.network.values import (
    Addresses,
    Count,
    Name,
    Names,
    OneOrMany,
    Path,
    Prefixes,
    Section,
    ServicePorts,
    WholeSeconds,
    Zones,
)


class Action(StrEnum):
    ACCEPT = "accept"
    DROP = "drop"
    REJECT = "reject"


class PolicyZone(Section):
    """A zone of the policy, beyond those the file's networks, clouds and uplinks make."""

    networks: Names = ()
    """Networks of any site, by name."""
    clouds: Names = ()
    """Clouds."""
    uplinks: Names = ()
    """Uplinks of any router, by name."""
    prefixes: Prefixes = ()
    """Only these addresses."""


class PolicyService(Section):
    """A protocol and its ports under a name."""

    protocol: Literal["tcp", "udp", "icmp", "icmpv6", "esp", "gre", "ospf"]
    """The protocol above IP."""
    ports: Annotated[tuple[ServicePorts, ...], OneOrMany(), Field(max_length=64)] = ()
    """Ports and ranges."""


class Limit(Section):
    """So many new connections of one source in so much time; more are dropped."""

    count: Count
    """Connections."""
    interval: WholeSeconds = 1
    """The time they are counted in."""


class Rule(Section):
    """From zones to zones: what is done with it."""

    in_: Zones = ()
    """From these zones; absent: any."""
    out: Zones = ()
    """To these zones; _fw is the router; absent: any."""
    source: Prefixes = ()
    """Only from these addresses."""
    destination: Prefixes = ()
    """Only to these addresses."""
    service: Names = ()
    """Only these services; absent: all."""
    action: Action = Action.ACCEPT
    """What is done."""
    limit: Limit | None = None
    """At most so many."""


class SourceNat(Section):
    """Outgoing traffic takes the uplink's address, or the one given."""

    out: Zones
    """On the way to these zones."""
    source: Prefixes = ()
    """Only from these addresses."""
    to: Addresses = ()
    """The address taken; absent: the uplink's own."""


class DestinationNat(Section):
    """A service of an inner host, reachable from outside."""

    in_: Zones
    """From these zones."""
    service: Names
    """What is forwarded."""
    to: Addresses
    """The inner host."""


class Policy(Section):
    """Zones and rules. What the VPN itself needs is derived and not written here."""

    zones: dict[Name, PolicyZone] = Field(default_factory=dict)
    """Zones by name."""
    services: dict[Name, PolicyService] = Field(default_factory=dict)
    """Services by name, beyond the usual ones."""
    rules: Annotated[tuple[Rule, ...], Field(max_length=5000)] = ()
    """In order; the first that fits decides."""
    default: Annotated[tuple[Rule, ...], Field(max_length=500)] = ()
    """What is done when no rule fits; after all rules."""
    source_nat: Annotated[tuple[SourceNat, ...], Field(max_length=500)] = ()
    """Masquerading."""
    destination_nat: Annotated[tuple[DestinationNat, ...], Field(max_length=500)] = ()
    """Port forwarding."""
    clamp_mss: Zones = ()
    """Zones behind which ICMP is lost: TCP's segment size is clamped on the way there."""
    awall: Annotated[tuple[Path, ...], Field(max_length=64)] = ()
    """awall's files, read instead of the above."""
