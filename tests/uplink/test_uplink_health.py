"""The decision table: every state with every observation."""

import pytest

from dmvpn.uplink.health import TABLE, Health, Limits, Observation, State, decide

PROBED = Limits(down=3, up=2, probed=True)
BARE = Limits(down=3, up=2, probed=False)

ROWS = {
    # state: after ready, no carrier, gone, good, bad
    State.ONLINE: ("online", "offline", "disabled", "online", "disconnecting"),
    State.DISCONNECTING: ("disconnecting", "offline", "disabled", "online", "disconnecting"),
    State.OFFLINE: ("connecting", "offline", "disabled", "connecting", "offline"),
    State.CONNECTING: ("connecting", "offline", "disabled", "connecting", "offline"),
    State.DISABLED: ("connecting", "offline", "disabled", "disabled", "disabled"),
}


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("observation", Observation)
def test_every_state_has_an_answer_to_every_observation(state: State, observation: Observation) -> None:
    expected = dict(zip(Observation, ROWS[state], strict=True))[observation]
    assert decide(Health(state), observation, PROBED).state.value == expected


def test_the_table_is_complete() -> None:
    assert {state: set(row) for state, row in TABLE.items()} == {state: set(Observation) for state in State}


@pytest.mark.parametrize("state", [State.OFFLINE, State.DISABLED])
def test_a_link_that_nobody_asks_about_is_up_with_its_cable(state: State) -> None:
    assert decide(Health(state), Observation.READY, BARE) == Health(State.ONLINE)


def test_it_takes_as_many_bad_rounds_in_a_row_as_the_file_says() -> None:
    health = Health(State.ONLINE)
    states = []
    for observation in (Observation.BAD, Observation.BAD, Observation.GOOD, *[Observation.BAD] * 3):
        health = decide(health, observation, PROBED)
        states.append(health.state.value)
    assert states == ["disconnecting", "disconnecting", "online", "disconnecting", "disconnecting", "offline"]


def test_it_takes_as_many_good_rounds_in_a_row_to_return() -> None:
    health = Health(State.OFFLINE)
    states = []
    for observation in (Observation.GOOD, Observation.BAD, Observation.GOOD, Observation.GOOD):
        health = decide(health, observation, PROBED)
        states.append(health.state.value)
    assert states == ["connecting", "offline", "connecting", "online"]


@pytest.mark.parametrize("observation", [Observation.BAD, Observation.GOOD])
def test_one_round_decides_if_the_file_says_so(observation: Observation) -> None:
    limits = Limits(down=1, up=1, probed=True)
    start, end = (State.ONLINE, State.OFFLINE) if observation is Observation.BAD else (State.OFFLINE, State.ONLINE)
    assert decide(Health(start), observation, limits) == Health(end)
