"""Packets for others: hop by hop, recorded, never in a circle. RFC 2332 5.2 and 5.3; and what the sender is told."""

from dataclasses import replace
from typing import Final

from dmvpn.nhrp.authorisation import Authorisations
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
            self._vouching.vouch(packet, sender, lambda heard: self._core.send(self._recorded(heard), nbma))

    def _has_been_here(self, packet: Packet) -> bool:
        own = self._core.settings
        record = _record(packet)
        cies = () if record is None else record.cies
        return any(cie.nbma == own.nbma or cie.protocol in own.protocol for cie in cies)

    def _recorded(self, packet: Packet) -> Packet:
        """One hop less, with our own CIE in the record of its direction, if it has one."""
        onward = replace(packet, hop_count=packet.hop_count - 1)
        own = own_entry(self._core, packet.source_protocol)
        match _record(packet):
            case ForwardTransit(cies) | ReverseTransit(cies) as record:
                onward = onward.with_extension(replace(record, cies=(*cies, own)))
            case None:
                pass  # asked for by nobody: not added
        return self._with_real_address(onward)

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
        self._core.send(error_indication(self._core, own, octets, packet, code, offset), sender)


def _record(packet: Packet) -> ForwardTransit | ReverseTransit | None:
    """The record of the packet's own direction."""
    return packet.extension(ReverseTransit) if packet.kind in REPLIES else packet.extension(ForwardTransit)
