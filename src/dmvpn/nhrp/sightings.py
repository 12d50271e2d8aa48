"""What passes by, for `nhrp watch`: each packet in a few words, and how long an answer took. Pure, bounded memory.

The authentication value is in none of them.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv6Address
from typing import Final, TypeVar

from dmvpn.nhrp import packet as nhrp_packet
from dmvpn.nhrp.cursor import Malformed
from dmvpn.nhrp.events import Address, Log
from dmvpn.nhrp.numbers import CieCode, ErrorCode, Kind, RegistrationFlag
from dmvpn.nhrp.packet import INDICATIONS, Packet, decode_head

OPEN_LIMIT: Final = 4096  # requests that wait for their answer
STATIONS_LIMIT: Final = 4096
LEGS_LIMIT: Final = 16
ANSWER_LATEST_S: Final = 120.0
REQUEST_OF: Final = {
    Kind.RESOLUTION_REPLY: Kind.RESOLUTION_REQUEST,
    Kind.REGISTRATION_REPLY: Kind.REGISTRATION_REQUEST,
    Kind.PURGE_REPLY: Kind.PURGE_REQUEST,
}
REFUSALS: Final = {
    CieCode.ADMINISTRATIVELY_PROHIBITED: "prohibited",
    CieCode.INSUFFICIENT_RESOURCES: "no resources",
    CieCode.NO_BINDING: "knows nobody there",
    CieCode.NOT_UNIQUE: "several are there",
    CieCode.ALREADY_REGISTERED: "somebody else is registered",
}
Key = TypeVar("Key")
Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class Sighting:
    """One packet on its way from `source` to `target`, or something that happened (then both are empty).

    `what` is packet, malformed, happening or lost. `at_s` is since 1970. Addresses are NBMA addresses; names are empty
    where nobody knows them. `answer_s` is the time since the request was first seen where this one was.
    """

    what: str
    at_s: float | None
    cloud: str = ""
    source: str = ""
    source_name: str = ""
    target: str = ""
    target_name: str = ""
    kind: str = ""
    about: str = ""
    request_id: int | None = None
    good: bool = True
    answer_s: float | None = None
    probe: bool = False  # asks a station about itself, straight: a path's pulse
    again: bool = False  # was seen on this leg before
    relayed: bool = False  # was seen on another leg before
    count: int = 0


@dataclass(slots=True)
class _Asked:
    at: float
    source: Address | None
    legs: set[tuple[Address | None, Address | None]]
    probe: bool


class Observer:
    """Sees packets in their order. Octets of a peer never make it raise."""

    def __init__(
        self,
        name: Callable[[Address], str] = lambda _: "",
        overlay: Callable[[Address], tuple[Address, ...]] = lambda _: (),
    ) -> None:
        """`name` and `overlay` tell of the station at an NBMA address what is known beside its packets."""
        self._name = name
        self._known_overlay = overlay
        self._asked: OrderedDict[tuple[Kind, int, Address], _Asked] = OrderedDict()
        self._overlay: OrderedDict[Address, Address] = OrderedDict()  # of the station at an NBMA address

    def packet(
        self, octets: bytes, source: Address | None, target: Address | None, at_s: float | None, *, cloud: str = ""
    ) -> Sighting:
        seen = Sighting(
            "packet",
            at_s,
            cloud,
            source=str(source or ""),
            source_name=self._name(source) if source else "",
            target=str(target or ""),
            target_name=self._name(target) if target else "",
        )
        try:
            decoded = nhrp_packet.decode(octets)
        except Malformed as fault:
            return replace(seen, what="malformed", about=str(fault), good=False)
        seen = replace(seen, kind=_words(decoded.kind), about=about(decoded), good=is_good(decoded))
        if decoded.kind in INDICATIONS:
            return seen
        seen = replace(seen, request_id=decoded.request_id)
        if decoded.kind in REQUEST_OF:
            return self._answer(seen, decoded, target)
        return self._request(seen, decoded, source, target)

    def _is_at(self, overlay: Address, nbma: Address) -> bool:
        """Whether this is the overlay address of the station there."""
        return self._overlay.get(nbma) == overlay or overlay in self._known_overlay(nbma)

    def _request(self, seen: Sighting, asked: Packet, source: Address | None, target: Address | None) -> Sighting:
        first_hand = source is not None and source == asked.source_nbma
        if first_hand and source is not None:
            _put(self._overlay, source, asked.source_protocol, STATIONS_LIMIT)
        key = (asked.kind, asked.request_id, asked.source_nbma)
        known = self._asked.get(key)
        leg = (source, target)
        probe = (
            asked.kind is Kind.RESOLUTION_REQUEST
            and first_hand
            and target is not None
            and self._is_at(asked.destination_protocol, target)
        )
        if asked.kind is Kind.REGISTRATION_REQUEST and first_hand and target is not None:
            _put(self._overlay, target, asked.destination_protocol, STATIONS_LIMIT)
        if known is None:
            _put(self._asked, key, _Asked(seen.at_s or 0.0, source, {leg}, probe), OPEN_LIMIT)
            return replace(seen, probe=probe)
        again = leg in known.legs
        if len(known.legs) < LEGS_LIMIT:
            known.legs.add(leg)
        return replace(seen, probe=known.probe, again=again, relayed=not again)

    def _answer(self, seen: Sighting, answer: Packet, target: Address | None) -> Sighting:
        known = self._asked.get((REQUEST_OF[answer.kind], answer.request_id, answer.source_nbma))
        if known is None:
            return seen
        if target != known.source or seen.at_s is None:
            return replace(seen, probe=known.probe, relayed=True)
        took_s = seen.at_s - known.at
        return replace(seen, probe=known.probe, answer_s=took_s if 0 <= took_s < ANSWER_LATEST_S else None)


def happened(log: Log, at_s: float, *, cloud: str) -> Sighting:
    """What the engine did, as one line of the ladder."""
    words = f"{log.subject} {log.detail}".strip()
    bad = log.happening.value.endswith(("down", "expired", "negative"))
    return Sighting("happening", at_s, cloud, kind=log.happening.value.replace("-", " "), about=words, good=not bad)


def lost(count: int, at_s: float) -> Sighting:
    return Sighting("lost", at_s, count=count, good=False)


def is_good(packet: Packet) -> bool:
    if packet.kind is Kind.ERROR_INDICATION:
        return False
    return all(cie.code == CieCode.OK for cie in packet.cies) if packet.kind in REQUEST_OF else True


def about(packet: Packet) -> str:
    """What it says, short: for a line beside an arrow."""
    match packet.kind:
        case Kind.RESOLUTION_REQUEST:
            return f"who has {packet.destination_protocol}?"
        case Kind.RESOLUTION_REPLY:
            return _bindings(packet) or f"nothing about {packet.destination_protocol}"
        case Kind.REGISTRATION_REQUEST:
            unique = ", unique" if packet.flags & RegistrationFlag.U else ""
            return f"I am {packet.source_protocol}{_holding(packet)}{unique}"
        case Kind.REGISTRATION_REPLY:
            return _refusal(packet) or f"{packet.source_protocol} is welcome{_holding(packet)}"
        case Kind.PURGE_REQUEST:
            return f"forget {_covered(packet)}"
        case Kind.PURGE_REPLY:
            return f"{_covered(packet)} is forgotten"
        case Kind.TRAFFIC_INDICATION:
            return f"there is a better way to {_destination(packet.payload) or 'where you sent that'}"
        case Kind.ERROR_INDICATION:
            return _error(packet)


def _destination(payload: bytes) -> Address | None:
    """Where the packet went whose head this is."""
    version = payload[0] >> 4 if payload else 0
    if version == 4 and len(payload) >= 20:
        return IPv4Address(payload[16:20])
    if version == 6 and len(payload) >= 40:
        return IPv6Address(payload[24:40])
    return None


def _bindings(packet: Packet) -> str:
    if refused := _refusal(packet):
        return f"{packet.destination_protocol}: {refused}"
    words = []
    for cie in packet.cies[:2]:
        # The length is that of the answer to what was asked; the entry's address is the next hop. RFC 2332 5.2.0.1
        answer = replace(cie, protocol=None).network(packet.destination_protocol)
        via = f" via {cie.protocol}" if cie.protocol not in (None, packet.destination_protocol) else ""
        where = f" at {cie.nbma}" if cie.nbma else ""
        words.append(f"{answer}{via}{where}, {cie.holding_time_s} s")
    return "; ".join(words) + (" ..." if len(packet.cies) > len(words) else "")


def _refusal(packet: Packet) -> str:
    for cie in packet.cies:
        if cie.code != CieCode.OK:
            known = set(REFUSALS)
            return REFUSALS[CieCode(cie.code)] if cie.code in known else f"code {cie.code}"
    return ""


def _covered(packet: Packet) -> str:
    found = [str(cie.network(packet.destination_protocol)) for cie in packet.cies[:2]]
    return ", ".join(found) + (" ..." if len(packet.cies) > len(found) else "") if found else "everything"


def _holding(packet: Packet) -> str:
    return f" for {packet.cies[0].holding_time_s} s" if packet.cies else ""


def _error(packet: Packet) -> str:
    code = packet.error_code
    words = _words(ErrorCode(code)) if code in set(ErrorCode) else f"code {code}"
    try:
        offending = decode_head(packet.payload)
    except Malformed:
        return words
    return f"{words}: your {_words(offending.kind)} about {offending.destination_protocol}"


def _words(member: Kind | ErrorCode) -> str:
    return member.name.lower().replace("_", " ")


def _put(table: OrderedDict[Key, Value], key: Key, value: Value, limit: int) -> None:
    table[key] = value
    table.move_to_end(key)
    if len(table) > limit:
        table.popitem(last=False)
