"""What a client may have passed on: only what it says of itself, since the far end believes what its hub hands it.

A hub of ours is trusted for what it passes on: it has held its own clients to the same rules.
"""

from collections.abc import Callable
from typing import Final

from dmvpn.nhrp.authorisation import Authorisations
from dmvpn.nhrp.cache import BindingKind
from dmvpn.nhrp.core import Core
from dmvpn.nhrp.cursor import Malformed
from dmvpn.nhrp.events import Address, DropReason
from dmvpn.nhrp.extensions import CiscoNat
from dmvpn.nhrp.numbers import CieCode, Kind
from dmvpn.nhrp.packet import Packet, decode_head
from dmvpn.nhrp.rib import host_of
from dmvpn.nhrp.security import Security

REPLIES: Final = (Kind.RESOLUTION_REPLY, Kind.REGISTRATION_REPLY, Kind.PURGE_REPLY)


class _Lie(Exception):
    """What in a packet is not its sender's to say."""

    def __init__(self, what: str, reason: DropReason = DropReason.NOT_AUTHORISED) -> None:
        super().__init__(what)
        self.reason = reason


class Vouching:
    def __init__(self, core: Core, security: Security, authorisations: Authorisations) -> None:
        self._core = core
        self._security = security
        self._authorisations = authorisations

    def vouch(self, packet: Packet, sender: Address | None, then: Callable[[Packet], None]) -> None:
        """`then` gets the packet as it may go on; else it is dropped, by its reason."""
        if sender is None or self._core.hub_at(sender) is not None:
            then(packet)
            return
        try:
            self._check(packet, sender)
            subject = _subject(packet)
        except _Lie as lie:
            self._core.drop(lie.reason, sender, f"{packet.kind.name} for {packet.destination_protocol}: {lie}")
            return
        seen = self._as_seen(packet, sender)

        def told(refusal: str | None) -> None:
            if refusal is None:
                then(seen)

        who = speaker(packet)
        binding = self._core.bindings.get(who)
        known = binding is not None and binding.nbma == sender
        # Else who has seen one request of a router could guess its next id, and answer "no" in the egress's place.
        asked = subject is None or subject == who or self._core.next_hop(subject) == sender
        if known and asked:
            told(None)
        else:
            prefix = None if asked or subject is None else host_of(subject)
            self._authorisations.ask(sender, who, prefix, told)

    def _as_seen(self, packet: Packet, sender: Address) -> Packet:
        candidates = self._security.witnessed(packet.candidates(), sender)
        return packet if candidates is None else packet.with_candidates(candidates)

    # ------------------------------------------------------------ its own addresses

    def _check(self, packet: Packet, sender: Address) -> None:
        """Raises _Lie. Whether the sender is the speaker is asked of its certificate, not here."""
        own = self._addresses(sender)
        if packet.kind is Kind.REGISTRATION_REPLY:
            raise _Lie("a client is nobody's server")
        if packet.kind not in REPLIES and packet.source_nbma not in own:
            raise _Lie(f"its source is at {packet.source_nbma}")
        # The entries of a purge reply are those of the request: an echo, and read by nobody.
        if packet.kind is not Kind.PURGE_REPLY:
            _check_entries(packet, own)
        _check_nat(packet, own)

    def _addresses(self, sender: Address) -> frozenset[Address]:
        """Where it sends from and, for a foreign client behind NAT, where it registered that it is.

        What it registered is its own word, so it counts only as long as it cannot be another's address.
        """
        if self._core.in_transport(sender):
            # To foreign routers it is where its IKE comes from.
            seen = self._security.observed(sender)
            return frozenset((sender,) if seen is None else (sender, seen.address))
        of_sender = self._core.bindings.of_nbma(sender)
        claimed = {one.claimed_nbma for one in of_sender if one.kind is BindingKind.REGISTERED}
        return frozenset((sender, *(one for one in claimed if not self._is_of_another(one))))

    def _is_of_another(self, claimed: Address) -> bool:
        core = self._core
        taken = core.is_own_nbma(claimed) or core.hub_at(claimed) is not None or core.in_transport(claimed)
        return taken or self._security.is_up(claimed) or bool(core.bindings.of_nbma(claimed))


def speaker(packet: Packet) -> Address:
    """Whose packet it is: the requester's, and for a resolution reply the responder's."""
    if packet.kind is Kind.RESOLUTION_REPLY and packet.cies:
        return packet.cies[0].protocol or packet.destination_protocol
    if packet.kind in REPLIES:
        return packet.destination_protocol
    return packet.source_protocol


def _check_entries(packet: Packet, own: frozenset[Address]) -> None:
    """Raises _Lie. An absent address is the header's, which in a reply is the requester's."""
    is_reply = packet.kind in REPLIES
    if is_reply and not packet.cies:
        raise _Lie("a reply without an entry", DropReason.MALFORMED)
    who = speaker(packet)
    for cie in packet.cies:
        may_be_absent = not is_reply or cie.code != CieCode.OK
        if cie.nbma not in own and not (cie.nbma is None and may_be_absent):
            raise _Lie(f"an entry is at {cie.nbma}")
        # What a purge takes back is a network; at its receiver only what came from the purger's address counts.
        absent = packet.destination_protocol if is_reply else packet.source_protocol
        if packet.kind is not Kind.PURGE_REQUEST and (cie.protocol or absent) != who:
            raise _Lie(f"an entry is for {cie.protocol}, not {who}")


def _check_nat(packet: Packet, own: frozenset[Address]) -> None:
    """Raises _Lie. A reply may still have the requester's rows, which only the requester gets to read."""
    echoed = packet.source_protocol if packet.kind in REPLIES else None
    server = packet.destination_protocol if packet.kind is Kind.REGISTRATION_REQUEST else None
    who = speaker(packet)
    for extension in packet.extensions:
        for row in extension.cies if isinstance(extension, CiscoNat) else ():
            of_itself = row.protocol == who and row.nbma in own
            if not of_itself and (row.protocol is None or row.protocol not in (echoed, server)):
                raise _Lie(f"its NAT extension has {row.protocol} at {row.nbma}")


def _subject(packet: Packet) -> Address | None:
    """The destination that a reply or error is about. Raises _Lie where it cannot be read."""
    if packet.kind in REPLIES:
        return packet.destination_protocol
    if packet.kind is not Kind.ERROR_INDICATION:
        return None
    try:
        return decode_head(packet.payload).destination_protocol
    except Malformed as fault:
        raise _Lie(f"about nothing readable: {fault}", DropReason.MALFORMED) from fault
