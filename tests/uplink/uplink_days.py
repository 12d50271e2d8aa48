"""A watch in virtual time, before a link that answers, loses and dies as a test says."""

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import ip_address
from random import Random
from typing import Any

from dmvpn.uplink.health import Observation
from dmvpn.uplink.rounds import Rule, Target
from dmvpn.uplink.watch import Action, Answered, Band, Probe, Seen, Watch, WatchSettings

RTT_S = 0.02
Loss = Callable[[float, Target], float]


def settings(targets: int = 1, **other: Any) -> WatchSettings:
    """The defaults of the file."""
    chosen: dict[str, Any] = {
        "targets": tuple(Target(ip_address(f"192.0.2.{number}")) for number in range(1, targets + 1)),
        "rule": Rule(1),
        "interval_s": 1.0,
        "again_s": 0.15,
        "timeout_s": 0.8,
        "down": 5,
        "up": 10,
        "loss": Band(0.5, 0.25),
        "latency_s": None,
        "window": 50,
    }
    return WatchSettings(**{**chosen, **other})


PINGU = settings(interval_s=30.0, again_s=30.0, timeout_s=4.0, rule=Rule(1, 11, 2), down=1, up=1, loss=None)


@dataclass(slots=True)
class Day:
    """`loss` is the share lost at a time towards a target, `rtt_s` how long an answer takes then."""

    watch: Watch
    loss: Loss
    rtt_s: Callable[[float], float] = lambda _now: RTT_S
    seed: int = 1
    now: float = 0.0
    changes: list[tuple[float, str, str]] = field(default_factory=list)
    probes: list[float] = field(default_factory=list)
    _wire: list[tuple[float, int]] = field(default_factory=list)
    _random: Random = field(init=False)

    def __post_init__(self) -> None:
        self._random = Random(self.seed)

    def see(self, link: Observation, why: str = "", *, fresh: bool = False) -> None:
        self._do(self.watch.receive(Seen(link, why, fresh=fresh), self.now))

    def until(self, end: float) -> None:
        while True:
            due = self.watch.next_deadline()
            arrival = self._wire[0][0] if self._wire else float("inf")
            at = min(due if due is not None else float("inf"), arrival)
            if at > end:
                self.now = end
                return
            self.now = at
            if arrival <= at:
                _, sequence = heapq.heappop(self._wire)
                self._do(self.watch.receive(Answered(sequence), at))
            else:
                self._do(self.watch.advance(at))

    def states(self) -> list[str]:
        return [state for _at, state, _why in self.changes]

    def _do(self, actions: list[Action]) -> None:
        for action in actions:
            if isinstance(action, Probe):
                self.probes.append(self.now)
                if self._random.random() >= self.loss(self.now, action.target):
                    late_s = self.rtt_s(self.now) * (1 + self._random.random() / 2)
                    heapq.heappush(self._wire, (self.now + late_s, action.sequence))
            else:
                self.changes.append((self.now, action.after.value, action.why))


def day(chosen: WatchSettings, loss: Loss, **other: Any) -> Day:
    made = Day(Watch(chosen, 0.0), loss, **other)
    made.see(Observation.READY)
    return made
