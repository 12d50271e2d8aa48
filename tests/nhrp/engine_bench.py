"""One engine on the bench: told inputs, its packets read, its questions answered."""

from dataclasses import replace
from ipaddress import IPv4Address, ip_address, ip_network
from random import Random
from typing import Any, TypeVar

from dmvpn.nhrp.candidates import Candidates
from dmvpn.nhrp.cie import Cie
from dmvpn.nhrp.engine import Engine
from dmvpn.nhrp.events import (
    Action,
    Authorise,
    Dropped,
    DropReason,
    Egress,
    Endpoint,
    EngineSettings,
    Hairpin,
    HubSetting,
    Input,
    Log,
    Received,
    Role,
    RouteChanged,
    SecurityDown,
    SecurityUp,
    Send,
    Verdict,
)
from dmvpn.nhrp.extensions import CiscoNat, Extension, ForwardTransit, ResponderAddress, ReverseTransit
from dmvpn.nhrp.numbers import Kind, ResolutionFlag
from dmvpn.nhrp.packet import Packet, decode
from dmvpn.nhrp.snapshot import Snapshot

HUB_NBMA = ip_address("100.64.0.1")
OWN_NBMA = ip_address("100.64.0.11")
PEER_NBMA = ip_address("100.64.0.12")
OTHER_NBMA = ip_address("100.64.0.13")
HUB = ip_address("10.255.1.1")
OWN = ip_address("10.255.1.11")
PEER = ip_address("10.255.1.12")
OTHER = ip_address("10.255.1.13")
OVERLAY = ip_network("10.255.1.0/24")
INTERNAL = ip_network("10.0.0.0/8")
OWN_LAN = ip_network("10.1.11.0/24")
PEER_LAN = ip_network("10.1.12.0/24")
OWN_HOST = ip_address("10.1.11.10")
PEER_HOST = ip_address("10.1.12.10")
DEVICE = "acme-blue"
PUBLIC = Endpoint(ip_address("203.0.113.12"), 4500)
PRIVATE = Endpoint(ip_address("192.168.1.2"), 4500)
CANDIDATES = Candidates((PUBLIC,), (PRIVATE,))
REQUEST_FLAGS = ResolutionFlag.Q | ResolutionFlag.A | ResolutionFlag.S | ResolutionFlag.NAT
EMPTY: tuple[Extension, ...] = (ResponderAddress(), ForwardTransit(), ReverseTransit(), CiscoNat())
A = TypeVar("A")

HUB_SETTING = HubSetting("hub1", (HUB,), HUB_NBMA, ours=True)
SPOKE_SETTINGS = EngineSettings(
    role=Role.SPOKE,
    phase=3,
    protocol=(OWN,),
    overlay=(OVERLAY,),
    nbma=OWN_NBMA,
    hubs=(HUB_SETTING,),
    serves=(OWN_LAN,),
    mtu_octets=1372,
    holding_time_s=600.0,
    registration_s=200.0,
    authentication=None,
    redirect=False,
    shortcut=True,
)
HUB_SETTINGS = replace(
    SPOKE_SETTINGS,
    role=Role.HUB,
    protocol=(HUB,),
    nbma=HUB_NBMA,
    hubs=(),
    serves=(ip_network("10.1.1.0/24"),),
    redirect=True,
    shortcut=False,
)


def endpoint(nbma: Any) -> Endpoint:
    return Endpoint(IPv4Address(f"198.51.100.{int(nbma) & 0xFF}"), 4500)


def entry(code: int = 0, prefix: int = 255, holding: int = 600, nbma: Any = None, protocol: Any = None) -> Cie:
    return Cie(code, prefix, 1400, holding, 0, nbma, b"", protocol)


class Bench:
    """`refuses` are the protocol addresses and prefixes, as text, that the outside does not authorise.

    `silent`: questions are collected and not answered.
    """

    def __init__(self, settings: EngineSettings, *, restored: Snapshot | None = None, **changed: Any) -> None:
        self.settings = replace(settings, **changed)
        self.now = 1000.0
        self.engine = Engine(self.settings, Random(1), now=self.now, restored=restored, first_request_id=7)
        self.refuses: set[str] = set()
        self.silent = False
        self.hub_lives = False  # answers our registrations and probes of it, unseen
        self.questions: list[Authorise] = []
        self.said: list[Action] = []

    def start(self) -> list[Action]:
        return self._heard(self.engine.start(self.now))

    def tell(self, *inputs: Input) -> list[Action]:
        """What it did, the answers to its questions included."""
        actions: list[Action] = []
        for one in inputs:
            actions += self._heard(self.engine.receive(one, self.now))
        return actions

    def wait(self, seconds: float) -> list[Action]:
        end = self.now + seconds
        actions: list[Action] = []
        while (deadline := self.engine.next_deadline()) is not None and deadline <= end:
            self.now = max(self.now, deadline)
            actions += self._heard(self.engine.advance(self.now))
        self.now = end
        return actions

    def _heard(self, actions: list[Action]) -> list[Action]:
        heard = list(actions)
        self.said += actions
        for action in actions:
            if self.hub_lives and isinstance(action, Send) and action.nbma == HUB_NBMA:
                self._hub_hears(action)
            if isinstance(action, Authorise):
                self.questions.append(action)
                if not self.silent:
                    heard += self.answer(action)
        return heard

    def _hub_hears(self, action: Send) -> None:
        request = decode(action.octets)
        if request.kind is Kind.REGISTRATION_REQUEST:
            reply = registered(request)
        elif request.kind is Kind.RESOLUTION_REQUEST and request.destination_protocol == HUB:
            reply = answer(request, nbma=HUB_NBMA, protocol=HUB, prefix=32)
        else:
            return
        self.said += self.engine.receive(Received(reply.encode(), HUB_NBMA), self.now)

    def answer(self, question: Authorise) -> list[Action]:
        """By `refuses`."""
        refused = {str(question.protocol), str(question.prefix)} & self.refuses
        return self.tell(Verdict(question.ticket, not refused, "not claimed" if refused else ""))

    def answer_all(self) -> list[Action]:
        questions, self.questions = self.questions, []
        return [action for question in questions for action in self.answer(question)]

    def packet(self, packet: Packet, sender: Any) -> list[Action]:
        return self.tell(Received(packet.encode(), sender))

    def up(self, *nbmas: Any) -> list[Action]:
        return self.tell(*(SecurityUp(nbma, endpoint(nbma)) for nbma in nbmas))

    def down(self, nbma: Any) -> list[Action]:
        return self.tell(SecurityDown(nbma, "closed"))

    def view(self) -> Any:
        return self.engine.view(self.now)

    # ------------------------------------------------------------ known routers

    def route(self, prefix: Any, egress: Egress, gateway: Any = None, device: str = DEVICE) -> list[Action]:
        return self.tell(RouteChanged(ip_network(prefix), egress, gateway, device))

    def last_sent(self, kind: Kind, to: Any = None) -> Packet:
        for action in reversed(self.said):
            if isinstance(action, Send) and to in (None, action.nbma):
                packet = decode(action.octets)
                if packet.kind is kind:
                    return packet
        raise AssertionError(f"no {kind.name} was sent")


def spoke(**changed: Any) -> Bench:
    """Registered with its hub, with routes as BGP gives them."""
    bench = Bench(SPOKE_SETTINGS, **changed)
    bench.start()
    bench.route("0.0.0.0/0", Egress.ELSEWHERE, device="eth0")
    bench.route(OWN_LAN, Egress.ELSEWHERE, device="lan0")
    bench.route(INTERNAL, Egress.OVERLAY, HUB)
    bench.hub_lives = True
    bench.up(HUB_NBMA)
    return bench


def hub(**changed: Any) -> Bench:
    """With the routes to the spokes' networks, and nobody registered."""
    bench = Bench(HUB_SETTINGS, **changed)
    bench.start()
    bench.route("0.0.0.0/0", Egress.ELSEWHERE, device="eth0")
    bench.route("10.1.1.0/24", Egress.ELSEWHERE, device="lan0")
    bench.route("10.1.1.1/32", Egress.LOCAL, device="lan0")
    bench.route(OVERLAY, Egress.OVERLAY)
    bench.route(OWN_LAN, Egress.OVERLAY, OWN)
    bench.route(PEER_LAN, Egress.OVERLAY, PEER)
    return bench


def hub_with_clients(**changed: Any) -> Bench:
    bench = hub(**changed)
    for protocol, nbma in ((OWN, OWN_NBMA), (PEER, PEER_NBMA)):
        bench.up(nbma)
        bench.packet(registration(protocol, nbma), nbma)
    return bench


# ---------------------------------------------------------------- packets of others


def registration(protocol: Any, nbma: Any, request_id: int = 1, flags: int = 0x8002, **changed: Any) -> Packet:
    packet = Packet(
        Kind.REGISTRATION_REQUEST, 255, flags, request_id, nbma, protocol, HUB, (entry(),), EMPTY
    ).with_candidates(CANDIDATES)
    return replace(packet, **changed)


def registered(request: Packet, code: int = 0, observed: Endpoint | None = PUBLIC) -> Packet:
    """A hub's reply to our registration."""
    holding = 0 if code else 600
    reply = replace(request, kind=Kind.REGISTRATION_REPLY, cies=(entry(code, holding=holding),))
    return reply.with_candidates(Candidates(observed=observed))


def question(
    source: Any, nbma: Any, destination: Any, request_id: int = 5, flags: int = REQUEST_FLAGS, **changed: Any
) -> Packet:
    packet = Packet(Kind.RESOLUTION_REQUEST, 255, flags, request_id, nbma, source, destination, (entry(),), EMPTY)
    return replace(packet.with_candidates(CANDIDATES), **changed)


def answer(
    request: Packet, *, nbma: Any = PEER_NBMA, protocol: Any = PEER, prefix: int = 24, code: int = 0, ours: bool = True
) -> Packet:
    """An egress's reply to our question."""
    cie = entry(code, prefix, 0 if code else 600, nbma, protocol)
    flags = request.flags | ResolutionFlag.A | ResolutionFlag.D
    reply = replace(request, kind=Kind.RESOLUTION_REPLY, cies=(cie,), flags=flags, extensions=EMPTY)
    return reply.with_candidates(CANDIDATES) if ours else reply


def ip_head(source: Any, destination: Any) -> bytes:
    if source.version == 6:
        return bytes((0x60,)) + bytes(7) + source.packed + destination.packed + bytes(8)
    return bytes((0x45, 0, 0, 84)) + bytes(8) + source.packed + destination.packed + bytes(8)


def indication(source: Any = OWN_HOST, destination: Any = PEER_HOST, **changed: Any) -> Packet:
    packet = Packet(Kind.TRAFFIC_INDICATION, 255, 0, 0, HUB_NBMA, HUB, source, payload=ip_head(source, destination))
    return replace(packet, **changed)


def hairpin(source: Any = OWN_HOST, destination: Any = PEER_HOST, sender: Any = OWN_NBMA) -> Hairpin:
    return Hairpin(ip_head(source, destination), sender)


# ---------------------------------------------------------------- reading actions


def of(actions: list[Action], kind: type[A]) -> list[A]:
    return [action for action in actions if isinstance(action, kind)]


def sent(actions: list[Action]) -> list[tuple[Kind, Any]]:
    """Kind and NBMA address of each packet sent."""
    return [(decode(send.octets).kind, send.nbma) for send in of(actions, Send)]


def first_sent(actions: list[Action]) -> Packet:
    return decode(of(actions, Send)[0].octets)


def reasons(actions: list[Action]) -> list[DropReason]:
    return [drop.reason for drop in of(actions, Dropped)]


def happened(actions: list[Action]) -> list[str]:
    return [log.happening.value for log in of(actions, Log)]


def names(actions: list[Action]) -> list[str]:
    """The classes of the actions, packets by their kind; drops and logs left out."""
    return [
        decode(action.octets).kind.name if isinstance(action, Send) else type(action).__name__
        for action in actions
        if not isinstance(action, Dropped | Log)
    ]
