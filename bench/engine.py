"""The NHRP engine alone: one hub with many spokes, no socket, no clock. Each size runs in a process of its own."""

import gc
import json
import subprocess
import sys
import time
import tracemalloc
from dataclasses import asdict, dataclass, replace
from ipaddress import IPv4Address, ip_network
from random import Random

from dmvpn.errors import Fault
from dmvpn.nhrp.core import Core
from dmvpn.nhrp.engine import Engine
from dmvpn.nhrp.events import (
    Action,
    Authorise,
    BindNeighbour,
    Endpoint,
    EngineSettings,
    HubSetting,
    Received,
    Role,
    SecurityUp,
    Send,
    Verdict,
)
from dmvpn.nhrp.ids import Requests
from dmvpn.nhrp.messages import registration_request, resolution_request

SIZES = (1_000, 10_000)
_PROTOCOL = int(IPv4Address("10.64.0.0"))
_NBMA = int(IPv4Address("100.64.0.0"))
_QUESTIONS = 10_000
_BEGIN = 1000.0
_STEP_S = 0.01  # of the clock that the engine is shown: 100 packets a second

_HUB = HubSetting("hub", (IPv4Address(_PROTOCOL + 1),), IPv4Address(_NBMA + 1), ours=True)
_SPOKE = EngineSettings(
    role=Role.SPOKE,
    phase=3,
    protocol=(IPv4Address(_PROTOCOL + 2),),
    overlay=(ip_network("10.64.0.0/14"),),
    nbma=IPv4Address(_NBMA + 2),
    hubs=(_HUB,),
    serves=(),
    mtu_octets=1372,
    holding_time_s=600.0,
    registration_s=200.0,
    authentication=None,
    redirect=False,
    shortcut=True,
)


@dataclass(frozen=True, slots=True)
class EngineRun:
    """Rates are per second of one core; memory is what Python has allocated, sessions and timers included."""

    bindings: int
    registrations_per_s: float
    refreshes_per_s: float
    resolutions_per_s: float
    octets_per_binding: float


def measure(bindings: int) -> EngineRun:
    """One run in a fresh process: memory is then that of the bindings and of nothing before them."""
    command = (sys.executable, "-m", "bench.engine", str(bindings))
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    if done.returncode:
        raise Fault("bench.engine", done.stderr.strip().splitlines()[-1])
    return EngineRun(**json.loads(done.stdout))


class _Hub:
    """An engine whose every question is answered with yes, as for spokes with a good certificate."""

    def __init__(self) -> None:
        settings = replace(
            _SPOKE, role=Role.HUB, protocol=_HUB.protocol, nbma=_HUB.nbma, hubs=(), redirect=True, shortcut=False
        )
        self.now = _BEGIN
        self._engine = Engine(settings, Random(1), now=self.now, first_request_id=1)
        self.done: dict[type[Action], int] = {}
        self._heard(self._engine.start(self.now))

    def secure(self, nbma: IPv4Address) -> None:
        self._heard(self._engine.receive(SecurityUp(nbma, Endpoint(IPv4Address("192.0.2.1"), 4500)), self.now))

    def receive(self, octets: bytes, sender: IPv4Address) -> None:
        self.now += _STEP_S
        self._heard(self._engine.receive(Received(octets, sender), self.now))

    def receive_all(self, packets: list[tuple[bytes, IPv4Address]]) -> None:
        for octets, sender in packets:
            self.receive(octets, sender)

    def _heard(self, actions: list[Action]) -> None:
        for action in actions:
            self.done[type(action)] = self.done.get(type(action), 0) + 1
            if isinstance(action, Authorise):
                self._heard(self._engine.receive(Verdict(action.ticket, allowed=True, reason=""), self.now))


def _run(bindings: int) -> EngineRun:
    spokes = [(IPv4Address(_PROTOCOL + 2 + n), IPv4Address(_NBMA + 2 + n)) for n in range(bindings)]
    cores = [Core(replace(_SPOKE, protocol=(own,), nbma=nbma), Random(1), Requests(1), _BEGIN) for own, nbma in spokes]
    first, second = (
        [
            (registration_request(core, own, _HUB, _HUB.protocol[0], number).encode(), nbma)
            for core, (own, nbma) in zip(cores, spokes, strict=True)
        ]
        for number in (1, 2)
    )
    random = Random(2)
    questions = []
    for number in range(_QUESTIONS):
        asker, asked = random.sample(range(bindings), 2)
        own, nbma = spokes[asker]
        questions.append(
            (resolution_request(cores[asker], own, spokes[asked][0], 100 + number, _HUB.nbma).encode(), nbma)
        )
    hub = _Hub()
    for _, nbma in spokes:
        hub.secure(nbma)
    registrations = _timed(hub, first, BindNeighbour)
    refreshes = _timed(hub, second, Send)
    return EngineRun(bindings, registrations, refreshes, _timed(hub, questions, Send), _traced_octets(first) / bindings)


def _timed(hub: _Hub, packets: list[tuple[bytes, IPv4Address]], wanted: type[Action]) -> float:
    """Packets per second. Raises Fault unless each made the engine do what it is for."""
    before = hub.done.get(wanted, 0)
    began = time.process_time()
    hub.receive_all(packets)
    took = time.process_time() - began
    done = hub.done.get(wanted, 0) - before
    if done < len(packets):
        raise Fault("bench.engine", f"{len(packets)} packets led to {done} of {wanted.__name__}: {hub.done}")
    return len(packets) / took


def _traced_octets(first: list[tuple[bytes, IPv4Address]]) -> int:
    """What the same registrations leave in the engine's memory. Tracing is slow, so it is a pass of its own."""
    tracemalloc.start()
    gc.collect()
    before = tracemalloc.get_traced_memory()[0]
    hub = _Hub()
    for _, nbma in first:
        hub.secure(nbma)
    hub.receive_all(first)
    gc.collect()
    used = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    return used


if __name__ == "__main__":
    sys.stdout.write(json.dumps(asdict(_run(int(sys.argv[1])))))
