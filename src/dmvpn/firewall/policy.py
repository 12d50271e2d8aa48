"""A zone policy as data: what a network file's `policy` and awall's files both become, variables resolved.

Everywhere `None` means any and an empty tuple means nothing: a rule that names an empty list applies to no packet.
Every rule has an `origin`, where it was written (`vpnc.json:14:7`, `policy.rules[3]`), which nft shows as its comment.
"""

from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

FIREWALL = "_fw"  # the router itself, as a zone
MARK_MASK = 0x0000FFFF  # the bits of a packet's mark that a policy may use; charon and the uplinks have the others
MARKS = MARK_MASK  # the highest mark


class Action(StrEnum):
    ACCEPT = "accept"
    DROP = "drop"
    REJECT = "reject"  # ICMP port unreachable, whatever the protocol
    PASS = "pass"  # counts, logs and limits; the next rule decides


class Counts(StrEnum):
    """What a limit counts."""

    CONNECTIONS = "connections"  # awall: conn-limit; what no established connection carries
    PACKETS = "packets"  # awall: flow-limit; every packet, before established ones are let through


class Side(StrEnum):
    """Which address of a packet."""

    SOURCE = "source"
    DESTINATION = "destination"


@dataclass(frozen=True, slots=True)
class Zone:
    """Where packets come from or go to: any of the devices, and any of the prefixes.

    A device that ends in `*` stands for all that begin so. `ipsec`: only what came out of ESP or will go into it
    (True), only what did not (False). `route_back`: what came in by a device may leave by it too.
    """

    name: str
    devices: tuple[str, ...] | None = None
    prefixes: tuple[Network, ...] | None = None
    ipsec: bool | None = None
    route_back: bool = False
    origin: str = ""


@dataclass(frozen=True, slots=True)
class PortRange:
    """Ports, the last one included."""

    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Traffic:
    """One kind of traffic: an IP protocol by number; ports for TCP, UDP and SCTP, types for ICMP and ICMPv6.

    Ports are those of the destination; none: all. `family` 4 or 6; None: both. `helper`: a connection tracking helper
    of the kernel, such as `ftp`.
    """

    protocol: int | None
    ports: tuple[PortRange, ...] = ()
    types: tuple[int, ...] = ()
    family: int | None = None
    helper: str | None = None

    def has(self, protocol: int, port: int) -> bool:
        ports = not self.ports or any(one.first <= port <= one.last for one in self.ports)
        return self.protocol in (None, protocol) and ports


@dataclass(frozen=True, slots=True)
class Service:
    """Kinds of traffic under a name."""

    name: str
    traffic: tuple[Traffic, ...]

    def has(self, protocol: int, port: int) -> bool:
        """Whether it concerns a port, of TCP or UDP by number."""
        return any(one.has(protocol, port) for one in self.traffic)


@dataclass(frozen=True, slots=True)
class AddressSet:
    """A named set of addresses: of both families, and at run time with `nft add element`, of more than are written."""

    name: str
    prefixes: tuple[Network, ...] = ()
    origin: str = ""


@dataclass(frozen=True, slots=True)
class InSet:
    """One address of the packet is in a set."""

    set: str
    side: Side


@dataclass(frozen=True, slots=True)
class Log:
    """How something is logged: to the kernel's log, or to an NFLOG group; at most `rate_per_s` entries a second."""

    name: str
    prefix: str = ""  # as written; what stands before the packet's own text
    rate_per_s: int | None = 1
    group: int | None = None  # NFLOG; None: the kernel's log
    level: str = "info"  # syslog(3), lower case
    snaplen_octets: int | None = None  # NFLOG: so much of each packet


DEFAULT_LOG = Log("_default")


@dataclass(frozen=True, slots=True)
class Limit:
    """So many in so much time, one count for each source or destination, or for all together.

    `source_v4` and the like are prefix lengths: hosts of one prefix are counted together; None: not told apart by it.
    All four None: one count for everybody. What is over is dropped, and logged with `log` when it is not None.
    `name`: rules with one name share a count.
    """

    count: int  # 0: nothing is let through
    interval_s: int
    counts: Counts = Counts.CONNECTIONS
    source_v4: int | None = 32
    source_v6: int | None = 128
    destination_v4: int | None = None
    destination_v6: int | None = None
    log: str | None = None
    name: str | None = None


@dataclass(frozen=True, slots=True)
class Match:
    """Which packets a rule means. `in_zones` and `out_zones` name zones, or FIREWALL; `services` name services."""

    in_zones: tuple[str, ...] | None = None
    out_zones: tuple[str, ...] | None = None
    source: tuple[Network, ...] | None = None
    destination: tuple[Network, ...] | None = None
    services: tuple[str, ...] | None = None
    sets: tuple[InSet, ...] = ()
    families: tuple[int, ...] = (4, 6)


@dataclass(frozen=True, slots=True)
class Rule:
    """A filter rule. `log`: a Log's name, or None."""

    match: Match
    action: Action
    origin: str
    limit: Limit | None = None
    log: str | None = None


@dataclass(frozen=True, slots=True)
class Translation:
    """Where NAT translates to: addresses of one family, and ports; the last ones included.

    No addresses: the device's own (masquerade), for the destination the router's own (redirect).
    """

    first: Address | None = None
    last: Address | None = None
    ports: PortRange | None = None


@dataclass(frozen=True, slots=True)
class Nat:
    """One rule of source or destination NAT, first match decides. `to`: None: what matches is not translated.

    At most one translation for each family. `accepts`: what is translated is let through as well (destination NAT).
    `own_address`: only what is addressed to the router itself (destination NAT).
    """

    match: Match
    to: tuple[Translation, ...] | None
    origin: str
    accepts: bool = False
    own_address: bool = False


@dataclass(frozen=True, slots=True)
class Clamp:
    """TCP's segment size: to what the way's MTU allows (None), or to at most so many octets."""

    match: Match
    mss_octets: int | None
    origin: str


@dataclass(frozen=True, slots=True)
class MarkRule:
    """A mark on packets, in the bits of MARK_MASK. `tracks`: on whole connections, both directions (route-track)."""

    match: Match
    mark: int
    origin: str
    tracks: bool = False


class Icmp(StrEnum):
    """When ICMP's errors and IPv6's neighbours are let through, which no rule has to say."""

    FIRST = "first"  # before the rules: none of them can break path MTU discovery or a link
    AFTER_RULES = "after rules"  # awall: a rule may stop them; and all ICMPv6 of the router's own


@dataclass(frozen=True, slots=True)
class Policy:
    """A whole policy for one router. Names in rules are keys here; a check has seen to it that they exist."""

    zones: tuple[Zone, ...] = ()
    services: tuple[Service, ...] = ()
    sets: tuple[AddressSet, ...] = ()
    logs: tuple[Log, ...] = ()
    rules: tuple[Rule, ...] = ()  # awall: filter
    defaults: tuple[Rule, ...] = ()  # awall: policy; after all rules
    source_nat: tuple[Nat, ...] = ()
    destination_nat: tuple[Nat, ...] = ()
    clamps: tuple[Clamp, ...] = ()
    marks: tuple[MarkRule, ...] = ()  # awall: mark and route-track, in order
    icmp: Icmp = Icmp.FIRST
