"""Traffic indications, Cisco's redirect: sent to clients whose packets go back where they came from, and acted on."""

from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from dmvpn.nhrp.cache import BindingKind
from dmvpn.nhrp.core import Core
from dmvpn.nhrp.events import Address, DropReason, Egress, Hairpin, Happening, Network
from dmvpn.nhrp.messages import traffic_indication
from dmvpn.nhrp.packet import Packet

PAIRS_LIMIT: Final = 8192
TOKENS: Final = 4
SPACING_S: Final = 5.0
SILENCE_S: Final = 60.0  # between further ones, once the tokens are gone
FORGIVEN_S: Final = 360.0  # without traffic: the tokens are back
IPV4_HEAD_OCTETS: Final = 28  # header and 8 octets, as IOS sends
IPV6_HEAD_OCTETS: Final = 48


@dataclass(slots=True)
class _Pair:
    sent: int
    last_sent: float
    last_seen: float


class Limiter:
    """For each pair of addresses: 4 indications at least 5 s apart, then one a minute.

    OpenNHRP falls silent after the fourth until the traffic stops; a constant flow would then never become direct
    once the path that was missing is there.
    """

    def __init__(self) -> None:
        self._pairs: dict[tuple[Address, Address], _Pair] = {}

    def __len__(self) -> int:
        return len(self._pairs)

    def allows(self, source: Address, destination: Address, now: float) -> bool:
        """May one be sent now? Yes counts as sent."""
        pair = self._pairs.pop((source, destination), None)
        if pair is None or now - pair.last_seen >= FORGIVEN_S:
            pair = _Pair(0, -SPACING_S + now, now)
        if len(self._pairs) >= PAIRS_LIMIT:
            del self._pairs[next(iter(self._pairs))]  # the one not seen for longest
        self._pairs[source, destination] = pair
        pair.last_seen = now
        if now - pair.last_sent < (SPACING_S if pair.sent < TOKENS else SILENCE_S):
            return False
        pair.sent += 1
        pair.last_sent = now
        return True

    def forget(self, network: Network | None) -> None:
        """A purge of this network: what was said about it may be said again."""
        for source, destination in list(self._pairs):
            if network is None or source in network or destination in network:
                del self._pairs[source, destination]


class Indications:
    """`wanted` is told each destination that has a shorter way."""

    def __init__(self, core: Core, wanted: Callable[[Address], None]) -> None:
        self._core = core
        self._wanted = wanted
        self.limiter = Limiter()

    def hairpin(self, hairpin: Hairpin) -> None:
        """To the client that delivered the packet, whoever its source may be. nhrp.md 2.6 (4)."""
        ends = ends_of(hairpin.packet)
        if not self._core.settings.redirect or ends is None:
            return
        source, destination = ends
        own = self._core.own_address(source)
        if own is None or not self._is_redirectable(destination, hairpin.sender):
            return
        if not self.limiter.allows(source, destination, self._core.now):
            self._core.drop(DropReason.RATE_LIMIT, hairpin.sender, f"indication for {source} to {destination}")
            return
        head = hairpin.packet[: IPV4_HEAD_OCTETS if source.version == 4 else IPV6_HEAD_OCTETS]
        self._core.send(traffic_indication(self._core, own, source, head, hairpin.sender), hairpin.sender)
        self._core.log(Happening.REDIRECTED, destination, f"from {source} at {hairpin.sender}")

    def _is_redirectable(self, destination: Address, sender: Address) -> bool:
        of_sender = self._core.bindings.of_nbma(sender)
        is_client = any(binding.kind is BindingKind.REGISTERED for binding in of_sender)
        onward = self._core.next_hop(destination)
        return is_client and not destination.is_multicast and onward is not None and onward != sender

    def received(self, packet: Packet, sender: Address | None) -> None:
        """Only from a peer through which our packets to that destination may go: others could send us anywhere."""
        if not self._core.settings.shortcut:
            self._core.drop(DropReason.UNSUPPORTED, sender, "traffic indications are not acted on")
            return
        ends = ends_of(packet.payload)
        if ends is None:
            self._core.drop(DropReason.MALFORMED, sender, "the indication holds no IP header")
            return
        _, destination = ends
        route = self._core.rib.lookup(destination)
        over = (route is not None and route.egress is Egress.OVERLAY) or self._core.in_overlay(destination)
        through = sender is not None and sender in self._core.next_hops(destination)
        if not over or destination.is_multicast or not through:
            self._core.drop(DropReason.STRANGER, sender, f"our packets to {destination} do not go through it")
            return
        self._wanted(destination)


def ends_of(packet: bytes) -> tuple[Address, Address] | None:
    """Source and destination of an IP packet's head; None when it is too short or not IP."""
    version = packet[0] >> 4 if packet else 0
    if version == 4 and len(packet) >= 20:
        return IPv4Address(packet[12:16]), IPv4Address(packet[16:20])
    if version == 6 and len(packet) >= 40:
        return IPv6Address(packet[8:24]), IPv6Address(packet[24:40])
    return None
