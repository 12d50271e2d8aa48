"""What becomes of an uplink by what is seen of it: one table, states as mwan3 has them.

online and disconnecting carry traffic; connecting is watched until it may; offline is given up, and still watched;
disabled has nothing to watch: no device, or no address.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import assert_never


class State(StrEnum):
    ONLINE = "online"
    DISCONNECTING = "disconnecting"
    OFFLINE = "offline"
    CONNECTING = "connecting"
    DISABLED = "disabled"


class Observation(StrEnum):
    READY = "ready"  # device, carrier and an address have come to be there
    NO_CARRIER = "no carrier"
    GONE = "gone"  # no device, switched off, or no address
    GOOD = "good"  # a round of probes
    BAD = "bad"


class Turn(StrEnum):
    """What an observation does. Counts are of rounds in a row."""

    STAY = "stay"
    DISABLE = "disable"
    DROP = "drop"  # offline at once: no probe need ask
    BEGIN = "begin"  # connecting; online if nothing is probed, since then nobody will say that it is good
    DOUBT = "doubt"  # one bad round more
    TRUST = "trust"  # one good round more
    RETURN = "return"  # online as before
    FAIL = "fail"  # offline, and all good rounds are forgotten


TABLE: Mapping[State, Mapping[Observation, Turn]] = {
    State.ONLINE: {
        Observation.READY: Turn.STAY,
        Observation.NO_CARRIER: Turn.DROP,
        Observation.GONE: Turn.DISABLE,
        Observation.GOOD: Turn.STAY,
        Observation.BAD: Turn.DOUBT,
    },
    State.DISCONNECTING: {
        Observation.READY: Turn.STAY,
        Observation.NO_CARRIER: Turn.DROP,
        Observation.GONE: Turn.DISABLE,
        Observation.GOOD: Turn.RETURN,
        Observation.BAD: Turn.DOUBT,
    },
    State.OFFLINE: {
        Observation.READY: Turn.BEGIN,
        Observation.NO_CARRIER: Turn.DROP,
        Observation.GONE: Turn.DISABLE,
        Observation.GOOD: Turn.TRUST,
        Observation.BAD: Turn.STAY,
    },
    State.CONNECTING: {
        Observation.READY: Turn.STAY,
        Observation.NO_CARRIER: Turn.DROP,
        Observation.GONE: Turn.DISABLE,
        Observation.GOOD: Turn.TRUST,
        Observation.BAD: Turn.FAIL,
    },
    State.DISABLED: {
        Observation.READY: Turn.BEGIN,
        Observation.NO_CARRIER: Turn.DROP,
        Observation.GONE: Turn.DISABLE,
        Observation.GOOD: Turn.STAY,  # of an address that it had
        Observation.BAD: Turn.STAY,
    },
}


@dataclass(frozen=True, slots=True)
class Limits:
    """`down` bad rounds in a row give it up, `up` good ones take it back. Without `probed` the link itself decides."""

    down: int
    up: int
    probed: bool


@dataclass(frozen=True, slots=True)
class Health:
    state: State
    good: int = 0  # rounds in a row while connecting
    bad: int = 0  # rounds in a row while disconnecting


def decide(health: Health, observation: Observation, limits: Limits) -> Health:
    """The table, with its counts."""
    turn = TABLE[health.state][observation]
    match turn:
        case Turn.STAY:
            return health
        case Turn.DISABLE:
            return Health(State.DISABLED)
        case Turn.DROP | Turn.FAIL:
            return Health(State.OFFLINE)
        case Turn.BEGIN:
            return Health(State.CONNECTING if limits.probed else State.ONLINE)
        case Turn.RETURN:
            return Health(State.ONLINE)
        case Turn.DOUBT:
            bad = health.bad + 1
            return Health(State.OFFLINE) if bad >= limits.down else Health(State.DISCONNECTING, bad=bad)
        case Turn.TRUST:
            good = health.good + 1
            return Health(State.ONLINE) if good >= limits.up else Health(State.CONNECTING, good=good)
        case _:
            assert_never(turn)
