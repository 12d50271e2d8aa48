"""Rules as the kernel is given them: chains of entries, each with one match and one effect. No engine's syntax yet.

What a policy means is decided when it is expanded into this; nft text and the answer of `firewall test` are both made
from it, so that they cannot disagree on more than the kernel's own part.
"""

from dataclasses import dataclass, field
from enum import StrEnum

from dmvpn.firewall.policy import AddressSet, InSet, Limit, Log, Network, PortRange, Traffic, Translation


class Hook(StrEnum):
    """Where in a packet's way a chain stands, and what it is for."""

    FILTER_IN = "filter_in"
    FILTER_THROUGH = "filter_through"
    FILTER_OUT = "filter_out"
    MARK_BEFORE = "mark_before"  # before routing
    MARK_IN = "mark_in"
    MARK_THROUGH = "mark_through"
    MARK_OUT = "mark_out"  # the router's own, routed anew afterwards
    MARK_AFTER = "mark_after"  # after routing
    CLAMP_THROUGH = "clamp_through"
    CLAMP_AFTER = "clamp_after"
    NAT_BEFORE = "nat_before"
    NAT_OUT = "nat_out"
    NAT_AFTER = "nat_after"


class State(StrEnum):
    """What connection tracking says of a packet."""

    NEW = "new"
    ESTABLISHED = "established"
    RELATED = "related"
    INVALID = "invalid"


@dataclass(frozen=True, slots=True)
class Ports:
    """Destination ports of protocols that have some."""

    protocol: int
    ports: tuple[PortRange, ...]


@dataclass(frozen=True, slots=True)
class Packets:
    """A match: everything that is not None must hold. Addresses are of one family, which `family` then names.

    `pairs` are devices in and out, together. Of `traffic` one must fit: all with ports, all with types, or all without.
    """

    device_in: tuple[str, ...] | None = None
    device_out: tuple[str, ...] | None = None
    pairs: tuple[tuple[str, str], ...] | None = None
    group_in: int | None = None
    group_out: int | None = None
    family: int | None = None
    source: tuple[Network, ...] | None = None
    destination: tuple[Network, ...] | None = None
    traffic: tuple[Traffic, ...] | None = None
    source_ports: Ports | None = None
    sets: tuple[InSet, ...] = ()
    ipsec_in: bool | None = None
    ipsec_out: bool | None = None
    states: tuple[State, ...] | None = None
    translated: bool = False  # by destination NAT
    own_address: bool = False  # addressed to the router itself
    unmarked: bool = False
    connection_mark: int | None = None


class Verdict(StrEnum):
    ACCEPT = "accept"
    DROP = "drop"
    REJECT = "reject"
    RETURN = "return"  # the rest of the chain does not concern it


@dataclass(frozen=True, slots=True)
class Over:
    """Drop what exceeds a limit; everything else goes on to the next entry. Entries of one `name` share the count."""

    name: str
    limit: Limit
    log: Log | None = None


@dataclass(frozen=True, slots=True)
class Logged:
    """An entry in a log; the packet goes on."""

    log: Log


@dataclass(frozen=True, slots=True)
class Marked:
    """A mark on the packet, `tracks` on its connection too."""

    mark: int
    tracks: bool


@dataclass(frozen=True, slots=True)
class SourceTo:
    to: Translation


@dataclass(frozen=True, slots=True)
class DestinationTo:
    to: Translation


@dataclass(frozen=True, slots=True)
class Clamped:
    """None: to what the way's MTU allows."""

    mss_octets: int | None


Effect = Verdict | Over | Logged | Marked | SourceTo | DestinationTo | Clamped


@dataclass(frozen=True, slots=True)
class Entry:
    """One rule of a chain. `counter`: the name it counts under."""

    packets: Packets
    effect: Effect
    origin: str
    counter: str | None = None


@dataclass(frozen=True, slots=True)
class Ruleset:
    """All chains that have entries; a filter chain's last entry leaves nothing undecided."""

    chains: dict[Hook, tuple[Entry, ...]]
    sets: tuple[AddressSet, ...] = ()
    limits: tuple[Over, ...] = ()
    counters: tuple[str, ...] = field(default=())
