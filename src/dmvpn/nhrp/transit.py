"""Packets for others: hop by hop, recorded, never in a circle. RFC 2332 5.2 and 5.3; and what the sender is told."""

from dataclasses import replace
from typing import Final

from dmvpn.nhrp.authorisation import Authorisations
from dmvpn.nhrp.cie import Cie
from dmvpn.nhrp.core import Core
from dmvpn.nhrp.events import Address, DropReason
from dmvpn.nhrp.extensions import CiscoNat, ForwardTransit, ReverseTransit
from dmvpn.nhrp.messages import entry, error_indication, own_entry
from dmvpn.nhrp.numbers import ErrorCode, Kind
from dmvpn.nhrp.packet import Packet
from dmvpn.nhrp.security import Security
from dmvpn.nhrp.vouching import REPLIES, Vouching, speaker

INDICATIONS: Final = (Kind.ERROR_INDICATION, Kind.TRAFFIC_INDICATION)


class Transit:
    """Requests travel towards their destination, replies towards their source."""

    def __init__(self, core: Core, security: Security, authorisations: Authorisations) -> None:
        self._core = core
        self._security = security
        self._vouching = Vouching(core, security, authorisations)

    # ------------------------------------------------------------ forwarding

    def forward(self, packet: Packet, octets: bytes, sender: Address | None) -> None:
        """Drops it, with an error indication where the RFC asks for one, if it cannot go on."""
        if self._has_been_here(packet):
            self.refuse(packet, octets, sender, DropReason.LOOP, ErrorCode.LOOP)
            return
        if packet.hop_count <= 1:
            self.refuse(packet, octets, sender, DropReason.HOP_COUNT, ErrorCode.HOP_COUNT_EXCEEDED)
            return
        target = packet.source_protocol if packet.kind in REPLIES else packet.destination_protocol
        nbma = self._core.next_hop(target)
        if nbma is None or nbma == sender:
            self.refuse(packet, octets, sender, DropReason.UNREACHABLE, ErrorCode.UNREACHABLE)
        elif not self._security.is_up(nbma):
            self._core.drop(DropReason.NO_SECURITY, sender, f"{packet.kind.name} for {target}: no SA with {nbma}")
        else:
            self._vouching.vouch(packet, sender, lambda heard: self._core.send(self._recorded(heard, nbma), nbma))

    def _has_been_here(self, packet: Packet) -> bool:
        record = _record(packet)
        cies = () if record is None else record.cies
        own = self._core.settings.protocol
        return any(self._core.is_own_nbma(cie.nbma) or cie.protocol in own for cie in cies)

    def _recorded(self, packet: Packet, nbma: Address) -> Packet:
        """One hop less, with our own CIE in the record of its direction, if it has one."""
        onward = replace(packet, hop_count=packet.hop_count - 1)
        own = own_entry(self._core, packet.source_protocol, nbma)
        match _record(packet):
            case ForwardTransit(cies) | ReverseTransit(cies) as record:
                onward = onward.with_extension(replace(record, cies=(*cies, own)))
            case None:
                pass  # asked for by nobody: not added
        return self.readable(self._with_real_address(onward), nbma)

    def _with_real_address(self, packet: Packet) -> Packet:
        """An empty NAT extension is filled from our cache: its sender does not know that it is behind NAT."""
        nat = packet.extension(CiscoNat)
        if nat is None or nat.cies:
            return packet
        who = speaker(packet)
        binding = self._core.bindings.get(who)
        if binding is None or binding.claimed_nbma == binding.nbma:
            return packet
        real = entry(self._core, prefix_length=who.max_prefixlen, holding_time_s=0, nbma=binding.nbma, protocol=who)
        return packet.with_extension(replace(nat, cies=(real,)))

    # ------------------------------------------------------------ between ours and foreign routers

    def stands_between(self, packet: Packet, sender: Address | None) -> bool:
        """A request of one of ours that foreign routers cannot reach, for what is behind a foreign router."""
        nbma = self._core.next_hop(packet.destination_protocol)
        if nbma is None or self._core.is_ours(nbma) or not self._core.in_transport(packet.source_nbma):
            return False
        if sender not in (None, packet.source_nbma) and self._core.hub_at(sender) is None:
            return False  # not the sender's to say
        nat = packet.extension(CiscoNat)
        return nat is None or all(row.protocol != packet.source_protocol for row in nat.cies)

    def readable(self, packet: Packet, nbma: Address) -> Packet:
        """As the foreign router at `nbma` can use it: without our extension, an answer with an address it can reach.

        A responder of ours that has none is reached through us: so we name ourselves in its place.
        """
        if self._core.is_ours(nbma) or not self._core.settings.transport:
            return packet
        own = own_entry(self._core, packet.source_protocol, nbma)
        if packet.kind is Kind.RESOLUTION_REPLY and not self._core.in_transport(own.nbma):
            packet = replace(packet, cies=tuple(self._in_place_of(cie, own) for cie in packet.cies))
        return packet.without_candidates()

    def _in_place_of(self, cie: Cie, own: Cie) -> Cie:
        if not self._core.in_transport(cie.nbma):
            return cie
        return replace(cie, nbma=own.nbma, protocol=own.protocol, mtu_octets=own.mtu_octets)

    # ------------------------------------------------------------ errors

    def refuse(
        self,
        packet: Packet,
        octets: bytes,
        sender: Address | None,
        reason: DropReason,
        code: ErrorCode,
        offset: int = 0,
    ) -> None:
        """Count it, and tell its source. Not about an indication or a reply: nobody waits for it."""
        self._core.drop(reason, sender, f"{packet.kind.name} for {packet.destination_protocol}")
        own = self._core.own_address(packet.source_protocol)
        if packet.kind in INDICATIONS or packet.kind in REPLIES or own is None or sender is None:
            return
        # Back the way it came: its source may be behind the sender.
        self._core.send(error_indication(self._core, own, octets, packet, code, offset, sender), sender)


def _record(packet: Packet) -> ForwardTransit | ReverseTransit | None:
    """The record of the packet's own direction."""
    return packet.extension(ReverseTransit) if packet.kind in REPLIES else packet.extension(ForwardTransit)
