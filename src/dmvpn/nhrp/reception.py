"""A packet's way in: decoded, authenticated, then to the machine of its kind, or on to where it belongs."""

from typing import Final

from dmvpn.nhrp.core import Core
from dmvpn.nhrp.cursor import Malformed
from dmvpn.nhrp.events import Address, DropReason
from dmvpn.nhrp.extensions import CiscoAuthentication
from dmvpn.nhrp.machines import Machines
from dmvpn.nhrp.numbers import ErrorCode, Kind
from dmvpn.nhrp.packet import Packet, decode, decode_head

# In an error about our own request the offending packet is that request: its id tells which.
OWN: Final = "an error about nothing that was asked"


class Reception:
    def __init__(self, core: Core, machines: Machines) -> None:
        self._core = core
        self._machines = machines

    def packet(self, octets: bytes, sender: Address | None) -> None:
        if sender is not None and (answer := self._machines.server.repeated(octets, sender)) is not None:
            self._core.emit(answer)
            return
        try:
            packet = decode(octets)
        except Malformed as fault:
            self._core.drop(fault.reason, sender, str(fault))
            return
        self._core.received[packet.kind] += 1
        if self._core.is_own_nbma(sender) and self._core.is_own_nbma(packet.source_nbma):
            self._core.drop(DropReason.LOOP, sender, "our own packet")
        elif not self._is_authentic(packet):
            # Without a password in the answer: RFC 2332 5.2.7 has no extensions in an error indication.
            code = ErrorCode.AUTHENTICATION_FAILURE
            self._machines.transit.refuse(packet, octets, sender, DropReason.AUTHENTICATION, code)
        else:
            self._deliver(packet, octets, sender)

    def _is_authentic(self, packet: Packet) -> bool:
        """Error indications carry no extensions, so no password either."""
        password = self._core.settings.authentication
        if password is None or packet.kind is Kind.ERROR_INDICATION:
            return True
        given = [extension for extension in packet.extensions if isinstance(extension, CiscoAuthentication)]
        return len(given) == 1 and given[0].matches(password)

    def _deliver(self, packet: Packet, octets: bytes, sender: Address | None) -> None:
        match packet.kind:
            case Kind.RESOLUTION_REQUEST:
                self._machines.resolution.request(packet, octets, sender)
            case Kind.REGISTRATION_REQUEST:
                self._machines.server.request(packet, octets, sender)
            case Kind.PURGE_REQUEST:
                self._machines.purges.request(packet, octets, sender)
            case Kind.RESOLUTION_REPLY | Kind.REGISTRATION_REPLY | Kind.PURGE_REPLY:
                self._reply(packet, octets, sender)
            case Kind.ERROR_INDICATION:
                self._error(packet, octets, sender)
            case Kind.TRAFFIC_INDICATION:
                self._machines.indications.received(packet, sender)

    def _reply(self, packet: Packet, octets: bytes, sender: Address | None) -> None:
        if not self._core.is_own(packet.source_protocol):
            self._machines.transit.forward(packet, octets, sender)
            return
        request = self._core.requests.match(packet)
        if request is None:
            late = self._core.requests.was_open(packet.request_id)
            reason = DropReason.DUPLICATE if late else DropReason.UNSOLICITED
            self._core.drop(reason, sender, f"{packet.kind.name} {packet.request_id}")
            return
        request.on_reply(packet, request.asked if sender is None else sender)

    def _error(self, packet: Packet, octets: bytes, sender: Address | None) -> None:
        """About one of our own requests, from whom it was asked; about others', sent on to them."""
        if not self._core.is_own(packet.destination_protocol):
            self._machines.transit.forward(packet, octets, sender)
            return
        try:
            about = decode_head(packet.payload)
        except Malformed as fault:
            self._core.drop(DropReason.MALFORMED, sender, f"in an error indication: {fault}")
            return
        request = self._core.requests.get(about.request_id)
        if request is None or request.kind is not about.kind or request.source_protocol != about.source_protocol:
            self._core.drop(DropReason.UNSOLICITED, sender, OWN)
        elif sender not in (None, request.asked):
            self._core.drop(DropReason.STRANGER, sender, f"an error about what {request.asked} was asked")
        else:
            request.on_error(packet.error_code, request.asked)
