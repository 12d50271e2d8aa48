"""What was carried for whom, and what was dropped and why. Nothing here is shown by the loop; `state` hands it out."""

from collections import Counter
from enum import StrEnum
from typing import Final

PEERS_LIMIT: Final = 16384


class Drop(StrEnum):
    """Why a packet was not carried."""

    # either way
    OVERSIZED = "oversized"  # larger than a slot of the batch
    TRUNCATED = "truncated"  # the inner packet says that it is longer than what came
    MALFORMED = "malformed"  # not even a header
    PROTOCOL = "protocol"  # neither IPv4, IPv6 nor NHRP; ARP above all
    # to the underlay
    NO_SECURITY = "no-security"  # charon's device is not there: fail closed
    NEXT_HOP = "next-hop"  # the destination MAC does not spell an NBMA address
    NO_FLOOD = "no-flood"  # multicast, and nobody to flood to
    TOO_BIG = "too-big"  # EMSGSIZE
    UNREACHABLE = "unreachable"  # EHOSTUNREACH and its kin
    NO_BUFFERS = "no-buffers"  # ENOBUFS, EAGAIN
    FORBIDDEN = "forbidden"  # EPERM: the rule set refused it
    SEND_ERROR = "send-error"  # any other error of the send
    # from the underlay
    VERSION = "version"  # GRE version other than 0
    ROUTING = "routing"  # RFC 1701 source routing, or a bit that RFC 2784 2.3 wants zero
    CHECKSUM = "checksum"
    KEY = "key"  # no tunnel has this key
    NOT_ALLOWED = "not-allowed"  # nobody has authorised this sender
    SOURCE = "source"  # the inner source is outside the sender's prefixes
    CONGESTION = "congestion"  # congestion marked outside, not possible inside: RFC 6040 4.2
    DEVICE = "device"  # the TAP is down or gone


class Carried:
    """What went both ways. Octets are those of the inner packets; times are monotonic seconds, None for never."""

    __slots__ = ("rx_at", "rx_octets", "rx_packets", "tx_at", "tx_octets", "tx_packets")

    def __init__(self) -> None:
        self.tx_packets = 0
        self.tx_octets = 0
        self.tx_at: float | None = None
        self.rx_packets = 0
        self.rx_octets = 0
        self.rx_at: float | None = None


class Peer:
    """One NBMA address seen through one tunnel: NHRP apart, because a probe is not a use of the path."""

    __slots__ = ("data", "nhrp")

    def __init__(self) -> None:
        self.data = Carried()
        self.nhrp = Carried()


class Counters:
    """The peers and drops of one tunnel."""

    def __init__(self, peers_limit: int = PEERS_LIMIT) -> None:
        self.peers: dict[bytes, Peer] = {}
        self.drops: Counter[Drop] = Counter()
        self._peers_limit = peers_limit

    def is_full(self) -> bool:
        return len(self.peers) >= self._peers_limit

    def peer(self, nbma: bytes) -> Peer:
        """The peer of this NBMA address (4 octets); a new one takes the place of the oldest when the table is full."""
        peer = self.peers.get(nbma)
        if peer is None:
            if self.is_full():
                del self.peers[next(iter(self.peers))]
            peer = self.peers[nbma] = Peer()
        return peer
