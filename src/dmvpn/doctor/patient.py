"""Who is examined: the router's Plan, where its things are, and what was asked of others before."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from dmvpn.daemon.control import NodeStatus
from dmvpn.linux.netlink import Address
from dmvpn.linux.services import ServiceStatus
from dmvpn.network.plan import Plan


@dataclass(frozen=True, slots=True)
class Places:
    """Files and sockets of this network on this router. `rules` and `state` are the files in force."""

    vici: Path
    frr: Path
    rules: Path
    state: Path
    table: str  # nftables, family inet


@dataclass(frozen=True, slots=True)
class Papers:
    """This router's certificate. `trouble`: it is missing, cannot be read, or nobody vouches for it."""

    trouble: str = ""
    not_before: datetime | None = None
    not_after: datetime | None = None
    revoked: str = ""
    overdue: tuple[str, ...] = ()  # revocation lists whose successor is due, in words
    unclaimed: tuple[str, ...] = ()  # what this router is or announces, and the certificate does not have


@dataclass(frozen=True, slots=True)
class Target:
    """A destination to look at in particular; `address` is what is sent to."""

    name: str
    router: str
    address: Address


@dataclass(frozen=True, slots=True)
class Passage:
    """What the zone policy does with a ping from a network of this router to the target; `by` which rule."""

    network: str
    target: str
    accepted: bool
    by: str


@dataclass(frozen=True, slots=True)
class Patient:
    """`status` is None where dmvpnd does not answer, and `silent` says how. `needs_octets`: by cloud, the packet on the
    underlay that a packet of the tunnel's MTU becomes.
    """

    plan: Plan
    places: Places
    status: NodeStatus | None
    silent: str
    services: tuple[ServiceStatus, ...]
    services_trouble: str
    papers: Papers
    needs_octets: Mapping[str, int]
    look_again: Callable[[], NodeStatus | None]
    announce: Callable[[str], None]  # what takes a while now
    now: datetime
    applied: datetime | None  # when the revision in force was written, by this machine's clock then
    target: Target | None = None
    passages: tuple[Passage, ...] = ()
    asked_of_frr: tuple[str, ...] = ()  # dmvpn.linux.frr_release has the words
