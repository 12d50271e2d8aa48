"""A conformance run against an engine in virtual time: hub 1, this station as 11 and 13, a spoke 12 beyond the hub."""

from collections.abc import Callable
from dataclasses import replace
from itertools import count
from typing import Any

from simulated_ike import endpoint_of
from simulation import Simulation, nbma_of, overlay_of

from dmvpn.nhrp.conformance.bench import Ask, Bench, Finding, Heard
from dmvpn.nhrp.conformance.cases import CASES, run
from dmvpn.nhrp.cursor import Malformed
from dmvpn.nhrp.events import Action, Input, Received, SecurityUp
from dmvpn.nhrp.packet import Packet, decode

HUB, OWN, BEYOND, SECOND = 1, 11, 12, 13
ANSWER_S = 1.0
PASSWORD = b"secret"
Twist = Callable[[Packet], Packet | None]


def as_it_is(packet: Packet) -> Packet:
    return packet


def untouched(octets: bytes) -> bytes:
    return octets


class Ear:
    """In the place of an engine: keeps what it is sent."""

    def __init__(self) -> None:
        self.heard: list[bytes] = []

    def start(self, now: float) -> list[Action]:
        return []

    def receive(self, received: Input, now: float) -> list[Action]:
        if isinstance(received, Received):
            self.heard.append(received.octets)
        return []

    def next_deadline(self) -> None:
        return None


class Station:
    """`mend` changes what reaches the hub, `twist` what it sends us, `onward` what it sends the spoke beyond."""

    def __init__(
        self,
        *,
        mend: Callable[[bytes], bytes] = untouched,
        twist: Twist = as_it_is,
        onward: Twist = as_it_is,
        **settings: Any,
    ) -> None:
        self.simulation = Simulation(5, hubs=1, spokes=3, **settings)
        self.mend, self.twist, self.onward = mend, twist, onward
        self.hub = self.simulation.by_number[HUB]
        self.ears = {}
        for number in (OWN, SECOND):
            node = self.simulation.by_number[number]
            node.engine = self.ears[node.nbma] = Ear()  # type: ignore[assignment]
        second = self.simulation.by_number[SECOND]
        second.claims = (*second.claims, *self.simulation.by_number[OWN].claims)
        self._deliver = self.simulation._deliver
        self.simulation._deliver = self._twisted  # type: ignore[method-assign]
        self.simulation.start()
        self.simulation.run(5.0)
        for number in (OWN, SECOND):
            node = self.simulation.by_number[number]
            node.sas.add(self.hub.nbma)
            self.hub.sas.add(node.nbma)
            self.simulation.tell(self.hub, SecurityUp(node.nbma, endpoint_of(node.nbma)))

    def _twisted(self, receiver: Any, octets: bytes, sender: Any) -> None:
        changed: Packet | None
        try:
            packet = decode(octets)
        except Malformed:
            self._deliver(receiver, octets, sender)
            return
        if receiver.nbma in self.ears:
            changed = self.twist(packet)
        elif receiver.number == BEYOND and packet.source_protocol == overlay_of(OWN):
            changed = self.onward(packet)
        else:
            changed = packet
        if changed is not None:
            self._deliver(receiver, changed.encode(), sender)

    def bench(self, **changed: Any) -> Bench:
        plain = Bench(
            registers=overlay_of(OWN),
            nbma=nbma_of(OWN),
            peer=overlay_of(HUB),
            peer_nbma=nbma_of(HUB),
            unknown=overlay_of(200),
            ids=count(0x5000_0000),
            password=PASSWORD,
            beyond=overlay_of(BEYOND),
            second_nbma=nbma_of(SECOND),
        )
        return replace(plain, **changed)

    def exchange(self, ask: Ask) -> tuple[Heard, ...]:
        ear = self.ears[ask.nbma]
        ear.heard.clear()
        self.simulation.tell(self.hub, Received(self.mend(ask.octets), ask.nbma))
        self.simulation.run(ANSWER_S)
        return tuple(Heard.of(octets) for octets in ear.heard if ask.is_answered_by(octets))

    def findings(self, *names: str, **changed: Any) -> dict[str, Finding]:
        cases = tuple(case for case in CASES if not names or case.name in names)
        return {finding.case.name: finding for finding in run(self.bench(**changed), self.exchange, cases)}
