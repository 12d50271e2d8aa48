"""Between the rules of `security` and the charon that `ike` speaks to: orders to it, and what became of whom."""

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

Address = IPv4Address | IPv6Address


@dataclass(frozen=True, slots=True)
class Remote:
    """Where IKE is tried: an address or DNS name, and a UDP port."""

    host: str
    port: int


# ---------------------------------------------------------------- orders to charon


@dataclass(frozen=True, slots=True)
class Connect:
    """Load a connection of this name to this peer, and initiate its child."""

    connection: str
    nbma: Address
    remote: Remote


@dataclass(frozen=True, slots=True)
class Disconnect:
    """Unload a connection: what it was for is over."""

    connection: str


@dataclass(frozen=True, slots=True)
class Terminate:
    """Until the peer has answered, its SA takes what is under way."""

    unique_id: str
    why: str


@dataclass(frozen=True, slots=True)
class TerminateNow:
    """Of a peer that may do nothing here, and need not answer."""

    unique_id: str
    why: str


Order = Connect | Disconnect | Terminate | TerminateNow


@dataclass(frozen=True, slots=True)
class Up:
    """`source` is the address of ours that the SA is over."""

    nbma: Address
    remote_id: str
    remote: Remote
    source: str = ""


@dataclass(frozen=True, slots=True)
class Down:
    nbma: Address
    why: str
