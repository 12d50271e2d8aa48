"""Resolution requests from others: answered where this router is the egress, else sent on. RFC 2332 5.2.1-2."""

from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from dmvpn.nhrp.authorisation import Authorisations
from dmvpn.nhrp.cache import Binding, BindingKind
from dmvpn.nhrp.cie import Cie
from dmvpn.nhrp.core import Core
from dmvpn.nhrp.events import Address, DropReason, Egress, Network, Role
from dmvpn.nhrp.extensions import CiscoNat, Unknown
from dmvpn.nhrp.messages import entry, resolution_reply
from dmvpn.nhrp.numbers import CieCode, ErrorCode, ResolutionFlag
from dmvpn.nhrp.packet import Packet
from dmvpn.nhrp.purges import Answered
from dmvpn.nhrp.requesters import Requesters
from dmvpn.nhrp.rib import Route, contains, host_of
from dmvpn.nhrp.security import Security
from dmvpn.nhrp.transit import Transit

STRAIGHT_LIMIT: Final = 4096
DEFAULT_ROUTE: Final = 0  # its length: no reason to answer for anything


@dataclass(frozen=True, slots=True)
class _Question:
    packet: Packet
    octets: bytes
    sender: Address | None
    nbma: Address  # where the requester is

    @property
    def is_straight(self) -> bool:
        """Came from the requester itself, not by way of a hub."""
        return self.sender == self.nbma


class Resolution:
    def __init__(
        self,
        core: Core,
        security: Security,
        authorisations: Authorisations,
        requesters: Requesters,
        transit: Transit,
        answered: Answered,
    ) -> None:
        self._core = core
        self._security = security
        self._authorisations = authorisations
        self._requesters = requesters
        self._transit = transit
        self._answered = answered
        self._straight: dict[Address, int] = {}  # requester: the id last answered straight

    def request(self, packet: Packet, octets: bytes, sender: Address | None) -> None:
        question = _Question(packet, octets, sender, self._whereabouts(packet, sender))
        destination = packet.destination_protocol
        if self._core.is_own(destination):
            self._answer(question, host_of(destination))
            return
        cached = self._cached(packet)
        route = self._core.rib.lookup(destination)
        if cached is not None:
            self._answer_from_cache(question, cached)
        elif route is None or not route.is_here or self._core.in_overlay(destination):
            if self._transit.stands_between(packet, sender):
                self._answer_for_the_far_end(question)
            else:
                self._transit.forward(packet, octets, sender)
        else:
            self._answer(question, self._served(destination, route))

    # ------------------------------------------------------------ what is answered

    def _served(self, destination: Address, route: Route) -> Network | None:
        """The part of the covering route that we may answer for; None: nothing."""
        serves = [network for network in self._core.settings.serves if destination in network]
        if not serves or route.prefix.prefixlen == DEFAULT_ROUTE:
            return None
        mine = max(serves, key=lambda network: network.prefixlen)
        around = self._network_of(route, destination)
        served = around if contains(mine, around) else mine
        return self._core.rib.narrow(served, destination, lambda other: not other.is_here)

    def _network_of(self, route: Route, destination: Address) -> Network:
        """One of our own addresses stands for the network it is in."""
        if route.egress is not Egress.LOCAL:
            return route.prefix
        around = self._core.rib.covering(host_of(destination, destination.max_prefixlen - 1))
        usable = around is not None and around.egress is Egress.ELSEWHERE
        if around is None or not usable or around.prefix.prefixlen == DEFAULT_ROUTE:
            return route.prefix
        return around.prefix

    def _cached(self, packet: Packet) -> Binding | None:
        """A registration answers those who did not insist on the authoritative answer. RFC 2332 5.2.1, flag A."""
        if packet.flags & ResolutionFlag.A:
            return None
        binding = self._core.bindings.get(packet.destination_protocol)
        return binding if binding is not None and binding.kind is BindingKind.REGISTERED else None

    # ------------------------------------------------------------ answering

    def _answer(self, question: _Question, prefix: Network | None) -> None:
        packet = question.packet
        if self._refused_extension(question):
            return
        if not question.is_straight:
            self._allowed(question, prefix, None)
            return
        # A probe, or a refresh without a hub: whoever is not known to be what it says gets no answer.
        if self._authorisations.knows(question.nbma, packet.source_protocol):
            self._allowed(question, prefix, None)
        else:
            told = partial(self._allowed, question, prefix)
            self._authorisations.ask(question.nbma, packet.source_protocol, None, told)

    def _allowed(self, question: _Question, prefix: Network | None, refusal: str | None) -> None:
        if refusal is not None:
            return
        code = CieCode.NO_BINDING if prefix is None or self._is_lost_client(question) else CieCode.OK
        if code is CieCode.OK:
            self._learn(question)
        packet = question.packet
        own = self._core.own_address(packet.source_protocol)
        to = self._way_back(question)
        if to is None:
            return
        place = self._own_place(question, to)
        if code is not CieCode.OK or prefix is None:
            cie = entry(self._core, code=code, holding_time_s=0, nbma=place, protocol=own)
        else:
            cie = entry(self._core, prefix_length=prefix.prefixlen, nbma=place, protocol=own)
            self._answered.note(prefix, packet.source_protocol, question.nbma)
        self._reply(question, cie, to, authoritative=True)

    def _answer_for_the_far_end(self, question: _Question) -> None:
        """The two cannot reach each other: we are as near as it gets, and the requester will see that."""
        packet = question.packet
        to = self._way_back(question)
        if to is None or self._refused_extension(question):
            return
        whole, own = packet.source_protocol.max_prefixlen, self._core.own_address(packet.source_protocol)
        cie = entry(self._core, prefix_length=whole, nbma=self._own_place(question, to), protocol=own)
        self._reply(question, cie, to, authoritative=False)

    def _answer_from_cache(self, question: _Question, binding: Binding) -> None:
        remaining = 0.0 if binding.expires is None else binding.expires - self._core.now
        cie = entry(self._core, holding_time_s=remaining, nbma=binding.claimed_nbma, protocol=binding.protocol)
        to = self._way_back(question)
        if to is not None:
            self._answered.note(host_of(binding.protocol), question.packet.source_protocol, question.nbma)
            self._reply(question, cie, to, authoritative=False, nat=binding)

    def _reply(
        self, question: _Question, cie: Cie, to: Address, *, authoritative: bool, nat: Binding | None = None
    ) -> None:
        reply = resolution_reply(self._core, question.packet, cie, question.nbma, authoritative=authoritative)
        if nat is not None and nat.claimed_nbma != nat.nbma and reply.extension(CiscoNat) is not None:
            real = entry(self._core, holding_time_s=0, nbma=nat.nbma, protocol=nat.protocol)
            reply = reply.with_extension(CiscoNat((real,)))
        if question.is_straight and authoritative and reply.candidates() is not None:
            # It may compare: a NAT that shows another port to every peer is known by that.
            seen = self._security.observed(to)
            reply = reply.with_candidates(replace(self._core.candidates(), observed=seen))
        self._core.send(self._transit.readable(reply, to), to)

    def _way_back(self, question: _Question) -> Address | None:
        """Straight to the requester if possible, else by its hub. None: dropped, since there is neither."""
        if question.is_straight or self._may_go_straight(question):
            return question.nbma
        by = self._core.next_hop(question.packet.source_protocol)
        if by is None:
            self._core.drop(DropReason.UNREACHABLE, question.sender, f"no way to answer {question.nbma}")
        return by

    def _own_place(self, question: _Question, to: Address) -> Address:
        """Where the requester finds us. By a hub of ours a foreign one is told what that hub itself sees.

        Who has no underlay address that foreign routers could use names its transport address: the hub then stands in.
        """
        requester = question.nbma
        if to == requester or self._core.is_ours(requester) or not self._core.is_ours(to):
            return self._core.own_nbma(requester)
        return self._core.underlay_through(to) or self._core.settings.nbma

    def _may_go_straight(self, question: _Question) -> bool:
        """The SA is up, and the same question was not answered over it already: asked again, the answer got lost.

        A peer may have lost its half of an SA that still stands here.
        """
        source, request_id = question.packet.source_protocol, question.packet.request_id
        asked_again = self._straight.pop(source, None) == request_id
        if asked_again or not self._security.is_up(question.nbma):
            return False
        self._straight[source] = request_id
        if len(self._straight) > STRAIGHT_LIMIT:
            del self._straight[next(iter(self._straight))]
        return True

    def _refused_extension(self, question: _Question) -> bool:
        """RFC 2332 5.3: a station that answers must know every compulsory extension."""
        unknown = any(isinstance(ext, Unknown) and ext.compulsory for ext in question.packet.extensions)
        if unknown:
            self._transit.refuse(
                question.packet,
                question.octets,
                question.sender,
                DropReason.COMPULSORY_EXTENSION,
                ErrorCode.UNRECOGNISED_EXTENSION,
            )
        return unknown

    def _is_lost_client(self, question: _Question) -> bool:
        """A client probes a hub that has forgotten it, in a restart: it is told, so that it registers at once."""
        if self._core.settings.role is not Role.HUB or not question.is_straight:
            return False
        binding = self._core.bindings.get(question.packet.source_protocol)
        return binding is None or not binding.routes

    # ------------------------------------------------------------ the requester

    def _whereabouts(self, packet: Packet, sender: Address | None) -> Address:
        """The requester's NBMA address: what the hubs pass on, or where a direct request really comes from."""
        if self._core.in_transport(packet.source_nbma):
            return packet.source_nbma if sender is None or self._core.hub_at(sender) is not None else sender
        if sender is None or self._core.hub_at(sender) is not None:
            nat = packet.extension(CiscoNat)
            for real in nat.cies if nat is not None else ():
                if real.protocol == packet.source_protocol and real.nbma is not None:
                    return real.nbma
            return packet.source_nbma
        return sender

    def _learn(self, question: _Question) -> None:
        """RFC 2332 6.2.1: only a stable source with a holding time may be bound."""
        packet = question.packet
        holding = packet.cies[0].holding_time_s if packet.cies else 0
        if packet.flags & ResolutionFlag.S and holding > 0:
            # Over its own SA it need not say where it is; through a hub it says what the hub has witnessed.
            candidates = None if question.is_straight else packet.candidates()
            self._requesters.learn(packet.source_protocol, question.nbma, candidates, float(holding))
