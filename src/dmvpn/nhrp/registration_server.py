"""The server's side of registration: authorise, bind, answer, expire. RFC 2332 5.2.3 and 5.2.4."""

from dataclasses import dataclass, field
from functools import partial
from ipaddress import IPv4Address
from typing import Final

from dmvpn.nhrp.authorisation import Authorisations
from dmvpn.nhrp.cache import Binding, BindingKind, Key, key_of
from dmvpn.nhrp.candidates import Candidates
from dmvpn.nhrp.cie import Cie
from dmvpn.nhrp.core import Core
from dmvpn.nhrp.events import Address, BindNeighbour, DropReason, Happening, Network, Send, UnbindNeighbour
from dmvpn.nhrp.extensions import CiscoNat, ForwardTransit, Unknown
from dmvpn.nhrp.messages import entry, reply_to
from dmvpn.nhrp.numbers import CieCode, ErrorCode, Kind, RegistrationFlag
from dmvpn.nhrp.packet import Packet
from dmvpn.nhrp.purges import Purges
from dmvpn.nhrp.repeats import ID_AT, Repeats
from dmvpn.nhrp.rib import contains, host_of
from dmvpn.nhrp.security import Security
from dmvpn.nhrp.transit import Transit

PENDING_LIMIT: Final = 1024
ENTRIES_LIMIT: Final = 16
LINK_LOCAL_V4: Final = 0xA9FE  # the first half of 169.254.0.0/16, RFC 3927
UNIQUE: Final = int(RegistrationFlag.U)  # its own operators make an enum of every result
CONFIRM_S: Final = 10.0  # after a restart: clients whose SA is not reported by then are not there


_PendingKey = tuple[int, Key, Key]  # request id, protocol address, NBMA address


def _is_link_local(address: Address) -> bool:
    """As the address itself says, which looks an IPv4 one up in a network object each time."""
    return int(address) >> 16 == LINK_LOCAL_V4 if isinstance(address, IPv4Address) else address.is_link_local


@dataclass(slots=True)
class _Pending:
    """A request whose entries are being authorised; the reply goes out when the last verdict is in."""

    key: _PendingKey
    packet: Packet
    octets: bytes
    nbma: Address
    open: int
    codes: dict[int, CieCode] = field(default_factory=dict)


class RegistrationServer:
    def __init__(
        self, core: Core, security: Security, authorisations: Authorisations, transit: Transit, purges: Purges
    ) -> None:
        self._core = core
        self._security = security
        self._authorisations = authorisations
        self._transit = transit
        self._purges = purges
        self._pending: dict[_PendingKey, _Pending] = {}
        self._repeats = Repeats()

    # ------------------------------------------------------------ requests

    def request(self, packet: Packet, octets: bytes, sender: Address | None) -> None:
        # Who does not know its server sends to itself (RFC, IOS) or to the overlay's broadcast address (OpenNHRP).
        to_us = self._core.is_own(packet.destination_protocol) or self._is_discovery(packet)
        if not to_us:
            self._transit.forward(packet, octets, sender)
            return
        if any(isinstance(extension, Unknown) and extension.compulsory for extension in packet.extensions):
            code = ErrorCode.UNRECOGNISED_EXTENSION
            self._transit.refuse(packet, octets, sender, DropReason.COMPULSORY_EXTENSION, code)
            return
        if not 0 < len(packet.cies) <= ENTRIES_LIMIT:
            self._transit.refuse(packet, octets, sender, DropReason.MALFORMED, ErrorCode.PROTOCOL_ERROR)
            return
        self._begin(packet, octets, sender or packet.source_nbma)

    def repeated(self, octets: bytes, sender: Address) -> Send | None:
        """The answer to a registration that stands and was said again, and is held on by that; None for all else."""
        known = self._repeats.find(octets, sender)
        if known is None:
            return None
        core, binding = self._core, known.binding
        if not binding.bound or core.bindings.get(binding.protocol) is not binding:
            return None
        core.received[Kind.REGISTRATION_REQUEST] += 1
        core.sent[Kind.REGISTRATION_REPLY] += 1
        self._hold(binding, known.holding_time_s)
        return Send(known.answer(octets[ID_AT : ID_AT + 4]), sender)

    def _is_discovery(self, packet: Packet) -> bool:
        if packet.destination_protocol == packet.source_protocol:
            return True
        return any(packet.destination_protocol == network.broadcast_address for network in self._core.settings.overlay)

    def _begin(self, packet: Packet, octets: bytes, nbma: Address) -> None:
        key = packet.request_id, key_of(packet.source_protocol), key_of(nbma)
        if key in self._pending:
            self._core.drop(DropReason.DUPLICATE, nbma, f"registration of {packet.source_protocol} is being checked")
            return
        if len(self._pending) >= PENDING_LIMIT:
            self._core.drop(DropReason.LIMIT, nbma, f"{PENDING_LIMIT} registrations are being checked")
            return
        pending = _Pending(key, packet, octets, nbma, len(packet.cies))
        self._pending[key] = pending
        for number, cie in enumerate(packet.cies):
            claimed = cie.protocol or packet.source_protocol
            refusal = self._refusal(claimed, nbma)
            if not cie.is_host(packet.source_protocol):  # networks are a matter of routing, not of registration
                refusal = CieCode.ADMINISTRATIVELY_PROHIBITED
            elif _is_link_local(claimed) and self._core.settings.link_local_derived:
                refusal = CieCode.ADMINISTRATIVELY_PROHIBITED  # it is another's next hop, or would be taken from it
            elif _is_link_local(claimed):
                # IOS: who may have the header's address may have this one too, which no certificate claims.
                claimed = packet.source_protocol
                refusal = refusal or self._refusal(claimed, nbma)
            if refusal is not None:
                self._settle(pending, number, refusal)
            else:
                told = partial(self._told, pending, number)
                self._authorisations.ask(nbma, claimed, None, told)

    def _refusal(self, protocol: Address, nbma: Address) -> CieCode | None:
        """What no certificate can allow."""
        if self._core.is_own(protocol):
            return CieCode.ADMINISTRATIVELY_PROHIBITED
        binding = self._core.bindings.get(protocol)
        if binding is not None and binding.nbma != nbma:
            if binding.kind is BindingKind.HUB:
                return CieCode.ADMINISTRATIVELY_PROHIBITED
            if _is_link_local(protocol):
                return CieCode.ALREADY_REGISTERED  # nobody vouches for who of the two has it
        return None if self._core.bindings.has_room(protocol, nbma) else CieCode.INSUFFICIENT_RESOURCES

    def _told(self, pending: _Pending, number: int, refusal: str | None) -> None:
        code = CieCode.ADMINISTRATIVELY_PROHIBITED if refusal is not None else self._bind_all(pending, number)
        self._settle(pending, number, code)

    def _settle(self, pending: _Pending, number: int, code: CieCode) -> None:
        pending.codes[number] = code
        pending.open -= 1
        if not pending.open:
            del self._pending[pending.key]
            self._reply(pending)

    # ------------------------------------------------------------ bindings

    def _bind_all(self, pending: _Pending, number: int) -> CieCode:
        """What the entry names; with a link-local address also the header's, which IOS then names nowhere else."""
        packet, nbma = pending.packet, pending.nbma
        cie = packet.cies[number]
        protocol = cie.protocol or packet.source_protocol
        if _is_link_local(protocol):
            code = self._bind(packet, nbma, cie, packet.source_protocol)
            if code is not CieCode.OK:
                return code
        return self._bind(packet, nbma, cie, protocol)

    def _bind(self, packet: Packet, nbma: Address, cie: Cie, protocol: Address) -> CieCode:
        known = self._core.bindings.get(protocol)
        if known is not None and known.kind is BindingKind.HUB:
            return CieCode.OK  # hubs register with each other; what the settings say stands
        unique = bool(packet.flags & UNIQUE)
        registered = known is not None and known.kind is BindingKind.REGISTERED
        if known is not None and registered and known.nbma != nbma and known.unique and unique:
            return CieCode.ALREADY_REGISTERED
        if known is None or not registered or known.nbma != nbma:
            known = self._new(protocol, nbma, cie, packet)
        known.unique = unique
        known.candidates = packet.candidates()
        known.claimed_nbma = cie.nbma or packet.source_nbma
        self._hold(known, float(cie.holding_time_s or self._core.settings.holding_time_s))
        if not known.bound:
            self._bind_neighbour(known)
        return CieCode.OK

    def _new(self, protocol: Address, nbma: Address, cie: Cie, packet: Packet) -> Binding:
        binding = Binding(protocol, nbma, BindingKind.REGISTERED, self._core.now, None, cie.nbma or packet.source_nbma)
        if self._core.bindings.put(binding) is not None:
            self._core.timers.disarm(("requester", protocol.packed))  # what it was until now
        self._core.log(Happening.REGISTERED, protocol, f"at {nbma}")
        return binding

    def _hold(self, binding: Binding, holding_time_s: float) -> None:
        """A refresh moves no timer: the one that is armed looks again when it fires too early."""
        binding.expires = expires = self._core.now + holding_time_s
        if binding.looked_at is None or expires < binding.looked_at:
            self._look(binding, expires)

    def _look(self, binding: Binding, at: float) -> None:
        binding.looked_at = at
        self._core.timers.arm(("registered", binding.protocol.packed), at, partial(self._expire, binding.protocol))

    def _bind_neighbour(self, binding: Binding) -> None:
        binding.bound = True
        self._core.emit(BindNeighbour(binding.protocol, binding.nbma))

    def _unbind_neighbour(self, binding: Binding) -> None:
        if binding.bound:
            binding.bound = False
            self._core.emit(UnbindNeighbour(binding.protocol))

    def _expire(self, protocol: Address) -> None:
        binding = self._core.bindings.get(protocol)
        if binding is not None and binding.expires is not None and binding.expires > self._core.now:
            self._look(binding, binding.expires)
            return
        self._core.log(Happening.EXPIRED, protocol)
        self._drop(protocol)

    def _drop(self, protocol: Address) -> None:
        self._core.timers.disarm(("registered", protocol.packed))
        self._repeats.forget(protocol)
        binding = self._core.bindings.drop(protocol)
        if binding is not None:
            self._unbind_neighbour(binding)
            self._purges.binding_gone(protocol)

    def purged(self, network: Network, owner: Address) -> None:
        for binding in self._core.bindings.of_nbma(owner):
            inside = contains(network, host_of(binding.protocol))
            if inside and binding.kind is BindingKind.REGISTERED:
                self._core.log(Happening.PURGED, binding.protocol, f"by {owner}")
                self._drop(binding.protocol)

    def forget(self, network: Network | None) -> None:
        """The operator's purge."""
        for binding in list(self._core.registered()):
            if network is None or contains(network, host_of(binding.protocol)):
                self._core.log(Happening.PURGED, binding.protocol, "by the operator")
                self._drop(binding.protocol)

    # ------------------------------------------------------------ security, restart

    def security_up(self, nbma: Address) -> None:
        """The peer may come from elsewhere, and be told so; and its certificate may be another."""
        for binding in self._core.bindings.of_nbma(nbma):
            self._repeats.forget(binding.protocol)
            if binding.kind is BindingKind.REGISTERED and not binding.bound:
                self._bind_neighbour(binding)

    def security_down(self, nbma: Address) -> None:
        """The binding stays until it expires: the client will be back, and need not register for it."""
        for binding in self._core.bindings.of_nbma(nbma):
            self._repeats.forget(binding.protocol)
            if binding.kind is BindingKind.REGISTERED:
                self._unbind_neighbour(binding)

    def adopt(self, binding: Binding, remaining_s: float) -> None:
        """From before a restart."""
        self._core.bindings.put(binding)
        self._hold(binding, remaining_s)
        self._bind_neighbour(binding)

    def confirm_later(self) -> None:
        self._core.timers.arm("confirm", self._core.now + CONFIRM_S, self._confirm)

    def _confirm(self) -> None:
        for binding in list(self._core.registered()):
            if not self._security.is_up(binding.nbma):
                self._unbind_neighbour(binding)

    # ------------------------------------------------------------ replies

    def _reply(self, pending: _Pending) -> None:
        """A refused entry has holding time 0. It goes where the request came from, not to the header's address."""
        packet = pending.packet
        cies = tuple(
            entry(
                self._core,
                code=pending.codes[number],
                prefix_length=cie.prefix_length,
                holding_time_s=None if pending.codes[number] is CieCode.OK else 0,
                nbma=cie.nbma,
                protocol=cie.protocol,
            )
            for number, cie in enumerate(packet.cies)
        )
        reply = reply_to(
            self._core,
            packet,
            Kind.REGISTRATION_REPLY,
            (*cies, *self._own_link_local(pending)),
            packet.flags,
            pending.nbma,
            nat=self._nat(pending),
            candidates=Candidates(observed=self._security.observed(pending.nbma)),
            destination=self._answering_address(packet),
        )
        self._core.send(reply, pending.nbma)
        self._remember(pending)

    def _answering_address(self, packet: Packet) -> Address | None:
        """FRR's clients learn their server's address from here; None: they have named it."""
        if self._core.is_own(packet.destination_protocol):
            return None
        return self._core.own_address(packet.source_protocol)

    def _own_link_local(self, pending: _Pending) -> tuple[Cie, ...]:
        """IOS takes a reply about its link-local address only with the server's behind it."""
        own = self._core.settings.link_local
        if own is None or not any(
            cie.protocol is not None and cie.protocol.is_link_local for cie in pending.packet.cies
        ):
            return ()
        nbma = self._core.own_nbma(pending.nbma)
        return (entry(self._core, prefix_length=own.max_prefixlen, nbma=nbma, protocol=own),)

    def _remember(self, pending: _Pending) -> None:
        """What was granted as it was asked, to one address, by a client whose binding leads to it."""
        sent = self._core.actions[-1] if self._core.actions else None
        if len(pending.packet.cies) != 1 or pending.codes[0] is not CieCode.OK or not isinstance(sent, Send):
            return
        cie = pending.packet.cies[0]
        if cie.protocol not in (None, pending.packet.source_protocol):
            return  # two bindings, if it is a link-local address
        binding = self._core.bindings.get(pending.packet.source_protocol)
        if binding is None or binding.kind is not BindingKind.REGISTERED or binding.nbma != pending.nbma:
            return
        holding_time_s = float(cie.holding_time_s or self._core.settings.holding_time_s)
        self._repeats.remember(binding, holding_time_s, pending.octets, sent.octets)

    def _nat(self, pending: _Pending) -> CiscoNat | None:
        """The second entry tells a NATed client its public address; only the first hop sees it. None: as it asked."""
        packet = pending.packet
        nat = packet.extension(CiscoNat)
        transit = packet.extension(ForwardTransit)
        first_hop = transit is None or not transit.cies
        if nat is None or not first_hop or pending.nbma == packet.source_nbma:
            return None
        client = entry(
            self._core,
            prefix_length=packet.source_protocol.max_prefixlen,
            holding_time_s=0,
            nbma=pending.nbma,
            protocol=packet.source_protocol,
        )
        return CiscoNat((*nat.cies[:1], client))
