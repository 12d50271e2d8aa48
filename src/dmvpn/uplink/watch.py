"""One uplink, watched: what is seen in, probes and changes of state out. No clock: `now` is given, in seconds.

A round goes to all targets every `interval_s`. One that stays without any answer longer than answers usually take is
followed by others every `again_s`, so that a dead link is known soon and a lost packet never makes one: a bad round
counts only if no later one was good.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from dmvpn.uplink.figures import Figures
from dmvpn.uplink.health import Health, Limits, Observation, State, decide
from dmvpn.uplink.rounds import Round, Rule, Target

LATE_FACTOR = 4.0  # of the usual round trip: an answer that takes longer makes us ask again
LATE_LEAST_S = 0.1
RTT_SHARE = 1 / 8  # of a new round trip in the usual one, as TCP smooths it (RFC 6298 2.3)
SEQUENCES = 1 << 16  # ICMP has 16 bits for them


@dataclass(frozen=True, slots=True)
class Band:
    """More than `worst` is bad; once given up, no more than `good` is good."""

    worst: float
    good: float


@dataclass(frozen=True, slots=True)
class WatchSettings:
    """`loss` is a share of the last `window` probes, `latency_s` the mean round trip of those answered."""

    targets: tuple[Target, ...]
    rule: Rule
    interval_s: float
    again_s: float
    timeout_s: float
    down: int
    up: int
    loss: Band | None
    latency_s: Band | None
    window: int

    @property
    def limits(self) -> Limits:
        return Limits(self.down, self.up, probed=bool(self.targets))


@dataclass(frozen=True, slots=True)
class Seen:
    """The link: READY, NO_CARRIER or GONE, and in words what is not there. `fresh`: another address or device."""

    link: Observation
    why: str = ""
    fresh: bool = False


@dataclass(frozen=True, slots=True)
class Answered:
    """An answer to the probe of this number."""

    sequence: int


@dataclass(frozen=True, slots=True)
class Probe:
    """Ask this target, and tell the answer under this number."""

    sequence: int
    target: Target


@dataclass(frozen=True, slots=True)
class Changed:
    """Another state than before."""

    before: State
    after: State
    why: str


Action = Probe | Changed


@dataclass(slots=True)
class _Sent:
    sequence: int
    target: int
    round: Round
    at: float


class Watch:
    """Feed it `receive` and `advance`, which is due at `next_deadline`. Starts disabled, until a link is seen.

    `restored` is the state before a restart; without it a link that is there is taken to be good, until it is not.
    """

    def __init__(self, settings: WatchSettings, now: float, restored: State | None = None) -> None:
        self.settings = settings
        self.health = Health(State.DISABLED)
        self.why = "not looked at yet"
        self.since = now
        self.rtt_s: float | None = None
        self._restored = restored
        self._link: Observation | None = None
        self._open: deque[_Sent] = deque()  # in the order of their time-outs
        self._by_number: dict[int, _Sent] = {}
        self._sequence = 0
        self._next_round: float | None = None
        self._late_at: float | None = None
        self._hurry = False
        self._last_round: Round | None = None
        self._good_until = float("-inf")  # when the last good round was sent
        self._figures = tuple(Figures(settings.window) for _ in settings.targets)
        self._actions: list[Action] = []

    @property
    def state(self) -> State:
        return self.health.state

    @property
    def is_ready(self) -> bool:
        return self._link is Observation.READY

    @property
    def loss(self) -> float | None:
        """The share of the last probes that were missed, of the best `required` targets; None: none yet."""
        return self._worst_of_required([one.loss for one in self._figures])

    @property
    def latency_s(self) -> float | None:
        """The mean round trip of the last probes, likewise."""
        return self._worst_of_required([one.latency_s() for one in self._figures])

    def _worst_of_required(self, figures: Iterable[float | None]) -> float | None:
        known = sorted(figure for figure in figures if figure is not None)
        return known[min(self.settings.rule.required, len(known)) - 1] if known else None

    # ------------------------------------------------------------ in and out

    def receive(self, event: Seen | Answered, now: float) -> list[Action]:
        match event:
            case Seen():
                self._see(event, now)
            case Answered():
                self._answer(event.sequence, now)
        return self._taken()

    def advance(self, now: float) -> list[Action]:
        """Time-outs, and the rounds that are due."""
        while self._open and self._open[0].at + self.settings.timeout_s <= now:
            self._miss(self._open.popleft(), now)
        if self._late_at is not None and self._late_at <= now:
            self._late_at = None
            if self._last_round is not None and self._last_round.is_unheard:
                self._hurry = True
                self._next_round = min(now, self._next_round or now)
        if self._next_round is not None and self._next_round <= now:
            self._begin_round(now)
        return self._taken()

    def next_deadline(self) -> float | None:
        times = [self._next_round, self._late_at, self._open[0].at + self.settings.timeout_s if self._open else None]
        return min((time for time in times if time is not None), default=None)

    def _taken(self) -> list[Action]:
        actions, self._actions = self._actions, []
        return actions

    # ------------------------------------------------------------ the link

    def _see(self, seen: Seen, now: float) -> None:
        if seen.link is self._link and not seen.fresh:
            return
        first, self._link = self._link is None, seen.link
        self._stop()
        if first and seen.link is Observation.READY:
            restored = self._restored if self._restored is not State.DISABLED and self.settings.targets else None
            self._turn(Health(restored or State.ONLINE), "was so before" if restored else "taken to be good", now)
        else:
            if seen.fresh and seen.link is Observation.READY and self.state in (State.ONLINE, State.DISCONNECTING):
                # Somebody renumbered it: what was known was known of another address.
                self._decide(Observation.GONE, "its address changed", now)
            self._decide(seen.link, seen.why or "the link is there", now)
        if seen.link is Observation.READY and self.settings.targets:
            self._next_round = now

    def _stop(self) -> None:
        self._open.clear()
        self._by_number.clear()
        self._next_round = self._late_at = self._last_round = None
        self._hurry = False
        self.rtt_s = None
        self._clear_figures()

    def _clear_figures(self) -> None:
        for one in self._figures:
            one.clear()

    # ------------------------------------------------------------ probes

    def _begin_round(self, now: float) -> None:
        settings = self.settings
        self._last_round = made = Round(len(settings.targets), settings.rule, now)
        for target in range(len(settings.targets)):
            self._ask(target, made, now)
        wants_soon = self._hurry or self.state is State.DISCONNECTING
        self._next_round = now + (min(settings.again_s, settings.interval_s) if wants_soon else settings.interval_s)
        if self.rtt_s is not None and not wants_soon and self.state is State.ONLINE:
            late_s = max(LATE_LEAST_S, LATE_FACTOR * self.rtt_s)
            self._late_at = now + late_s if late_s < settings.timeout_s else None

    def _ask(self, target: int, made: Round, now: float) -> None:
        self._sequence = (self._sequence + 1) % SEQUENCES
        sent = _Sent(self._sequence, target, made, now)
        self._open.append(sent)
        self._by_number[sent.sequence] = sent
        self._actions.append(Probe(sent.sequence, self.settings.targets[target]))

    def _answer(self, sequence: int, now: float) -> None:
        sent = self._by_number.pop(sequence, None)
        if sent is None:
            return  # too late, or twice
        self._open.remove(sent)
        rtt_s = now - sent.at
        self.rtt_s = rtt_s if self.rtt_s is None else self.rtt_s + RTT_SHARE * (rtt_s - self.rtt_s)
        self._figures[sent.target].answered(rtt_s)
        decided = sent.round.verdict is not None
        if sent.round.answered(sent.target):
            self._ask(sent.target, sent.round, now)
        if not decided:
            self._judge(sent.round, now)

    def _miss(self, sent: _Sent, now: float) -> None:
        del self._by_number[sent.sequence]
        self._figures[sent.target].missed()
        decided = sent.round.verdict is not None
        if sent.round.missed(sent.target):
            self._ask(sent.target, sent.round, now)
        if not decided:
            self._judge(sent.round, now)

    def _judge(self, made: Round, now: float) -> None:
        if made.verdict is None:
            return
        if made.verdict:
            self._hurry = False
            self._good_until = max(self._good_until, made.sent_at)
            trouble = self._trouble()
            self._decide(Observation.BAD if trouble else Observation.GOOD, trouble or "probes are answered", now)
        elif made.sent_at >= self._good_until:
            self._decide(Observation.BAD, "probes are not answered", now)

    def _trouble(self) -> str:
        """What is wrong although answers come: on the way up of the last few probes, and no more than is good."""
        up = self.state in (State.ONLINE, State.DISCONNECTING)
        loss, latency_s = self.settings.loss, self.settings.latency_s
        # One lost of three says nothing yet; and after an outage all that went before is lost.
        counts = up and any(one.is_full for one in self._figures)
        if loss is not None and (counts or self.state is State.CONNECTING):
            share = self.loss or 0.0
            if share > (loss.worst if up else loss.good):
                return f"{share:.0%} of the probes are lost"
        if latency_s is not None and (counts or not up):
            last = None if up else self.settings.up
            mean_s = self._worst_of_required([one.latency_s(last) for one in self._figures]) or 0.0
            if mean_s > (latency_s.worst if up else latency_s.good):
                return f"answers take {mean_s * 1000:.0f} ms"
        return ""

    # ------------------------------------------------------------ state

    def _decide(self, observation: Observation, why: str, now: float) -> None:
        self._turn(decide(self.health, observation, self.settings.limits), why, now)

    def _turn(self, after: Health, why: str, now: float) -> None:
        before, self.health = self.health, after
        if before.state is after.state:
            if not self.is_ready:
                self.why = why
            return
        self.why = why
        self.since = now
        self._actions.append(Changed(before.state, after.state, why))
        if after.state is State.CONNECTING:
            for one in self._figures:
                one.forget_losses()
        if after.state is State.DISCONNECTING and self._next_round is not None:
            self._next_round = min(self._next_round, now + self.settings.again_s)
        if after.state in (State.OFFLINE, State.ONLINE):
            self._hurry = False
