"""Purges, both ways: what somebody takes back, and what we take back. RFC 2332 5.2.5 and 5.2.6."""

from collections.abc import Callable
from functools import partial
from typing import Final

from dmvpn.nhrp.authorisation import Authorisations
from dmvpn.nhrp.core import Core
from dmvpn.nhrp.events import Address, DropReason, Happening, Network
from dmvpn.nhrp.extensions import Unknown
from dmvpn.nhrp.ids import Request
from dmvpn.nhrp.messages import purge_request, reply_to
from dmvpn.nhrp.numbers import ErrorCode, Kind, PurgeFlag
from dmvpn.nhrp.packet import Packet
from dmvpn.nhrp.rib import Route, host_of, overlaps
from dmvpn.nhrp.security import Security
from dmvpn.nhrp.transit import Transit

ANSWERS_LIMIT: Final = 16_384
WAITS_S: Final = (1.0, 2.0, 4.0)  # after each sending; then the holding time must do

OnPurged = Callable[[Network, Address], None]


class Answered:
    """Who was told what, until it expires there: those are told when it is true no more. Bounded: the oldest go."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._told: dict[tuple[Network, Address], tuple[Address, float]] = {}

    def note(self, prefix: Network, requester: Address, nbma: Address) -> None:
        if prefix.prefixlen == prefix.max_prefixlen and self._core.is_own(prefix.network_address):
            return  # a probe: our own address never moves
        self._told.pop((prefix, requester), None)
        if len(self._told) >= ANSWERS_LIMIT:
            del self._told[next(iter(self._told))]
        self._told[prefix, requester] = (nbma, self._core.now + self._core.settings.holding_time_s)

    def take(self, wrong: Callable[[Network], bool]) -> list[tuple[Network, Address, Address]]:
        """Prefix, requester and its NBMA address of each answer that is `wrong` now; they are forgotten."""
        taken = []
        for (prefix, requester), (nbma, until) in list(self._told.items()):
            expired = until <= self._core.now
            if not expired and not wrong(prefix):
                continue
            del self._told[prefix, requester]
            if not expired:
                taken.append((prefix, requester, nbma))
        return taken


class Purges:
    """`on_purged` is told each prefix that its owner, by NBMA address, takes back."""

    def __init__(
        self,
        core: Core,
        security: Security,
        authorisations: Authorisations,
        transit: Transit,
        answered: Answered,
        on_purged: OnPurged,
    ) -> None:
        self._core = core
        self._security = security
        self._authorisations = authorisations
        self._transit = transit
        self._answered = answered
        self._on_purged = on_purged

    # ------------------------------------------------------------ received

    def request(self, packet: Packet, octets: bytes, sender: Address | None) -> None:
        if not self._core.is_own(packet.destination_protocol):
            self._transit.forward(packet, octets, sender)
            return
        if any(isinstance(ext, Unknown) and ext.compulsory for ext in packet.extensions):
            code = ErrorCode.UNRECOGNISED_EXTENSION
            self._transit.refuse(packet, octets, sender, DropReason.COMPULSORY_EXTENSION, code)
            return
        # A hub vouches for what it passes on; anybody else speaks for itself.
        passed_on = sender is None or self._core.hub_at(sender) is not None
        owner = packet.source_nbma if passed_on or sender is None else sender
        for cie in packet.cies:
            self._purge(cie.network(packet.source_protocol), owner)
        if not packet.flags & PurgeFlag.N:
            reply = reply_to(self._core, packet, Kind.PURGE_REPLY, packet.cies, 0, sender)
            self._core.send(reply, sender or packet.source_nbma)

    def _purge(self, network: Network, owner: Address) -> None:
        binding = self._core.bindings.get(network.network_address)
        is_host = network.prefixlen == network.max_prefixlen
        if is_host and binding is not None and binding.nbma != owner and binding.routes:
            # A client that has moved takes back what it registered from elsewhere; its certificate must say it may.
            protocol, holder = binding.protocol, binding.nbma
            told = partial(self._allowed, network, holder)
            self._authorisations.ask(owner, protocol, None, told)
        else:
            self._on_purged(network, owner)

    def _allowed(self, network: Network, holder: Address, refusal: str | None) -> None:
        if refusal is None:
            self._on_purged(network, holder)

    # ------------------------------------------------------------ sent

    def routes_changed(self, prefix: Network) -> None:
        """Take back what was answered for a part of `prefix` that does not lead here any more."""
        self._take_back(lambda told: overlaps(told, prefix) and not self._still_here(told))

    def binding_gone(self, protocol: Address) -> None:
        """Take back what was answered from the cache."""
        gone = host_of(protocol)
        self._take_back(lambda told: told == gone)

    def take_back_from(self, destination: Address, nbma: Address, purged: Network, *, silent: bool) -> None:
        own = self._core.own_address(destination)
        if own is None or self._core.requests.is_full:
            return
        request_id = self._core.requests.take_id()
        packet = purge_request(self._core, own, destination, request_id, purged, silent=silent, towards=nbma)
        self._core.log(Happening.PURGED, purged, f"asked of {destination}")
        if silent:
            self._core.send(packet, nbma)
            return
        self._core.requests.open(
            Request(
                request_id=request_id,
                kind=Kind.PURGE_REQUEST,
                source_nbma=packet.source_nbma,
                source_protocol=own,
                asked=nbma,
                on_reply=lambda reply, sender: self._replied(request_id, destination, reply, sender),
                on_error=lambda code, sender: self._settled(request_id),
            )
        )
        self._send(packet, nbma, 0)

    def _take_back(self, wrong: Callable[[Network], bool]) -> None:
        for prefix, requester, nbma in self._answered.take(wrong):
            to = nbma if self._security.is_up(nbma) else self._core.next_hop(requester)
            if to is not None:
                self.take_back_from(requester, to, prefix, silent=False)

    def _still_here(self, told: Network) -> bool:
        route: Route | None = self._core.rib.covering(told)
        if route is None or route.prefix.prefixlen == 0:
            # What was answered may be a part of several routes' networks, or wider than each: look inside.
            return any(inside.is_here for inside in self._core.rib.inside(told))
        return route.is_here

    def _send(self, packet: Packet, nbma: Address, sent: int) -> None:
        if sent >= len(WAITS_S):
            self._settled(packet.request_id)
            return
        self._core.send(packet, nbma)
        at = self._core.after(WAITS_S[sent])
        self._core.timers.arm(("purge", packet.request_id), at, lambda: self._send(packet, nbma, sent + 1))

    def _replied(self, request_id: int, asked: Address, reply: Packet, sender: Address) -> None:
        if reply.destination_protocol == asked:
            self._settled(request_id)
        else:
            self._core.drop(DropReason.UNSOLICITED, sender, f"answers what {asked} was asked")

    def _settled(self, request_id: int) -> None:
        self._core.timers.disarm(("purge", request_id))
        self._core.requests.close(request_id)
