"""What is wanted and when it is tried: candidates, back-off, release, restart."""

from ipaddress import IPv6Address

import pytest
from security_cases import HIGH, LOW, OTHER, PRIVATE, PUBLIC, connected, sa, terminated, unloaded, up

from dmvpn.daemon.orders import Disconnect, Down, Remote, Terminate
from dmvpn.daemon.security import (
    CANDIDATE_LIMIT,
    RETRY_FIRST_S,
    RETRY_HUB_LAST_S,
    RETRY_LAST_S,
    Address,
    Security,
    connection_name,
    connection_stem,
)

NEW = Remote("198.51.100.9", 32001)


def test_nothing_wanted_is_nothing_due() -> None:
    security = Security(LOW)
    assert security.due(0.0) == []
    assert security.next_due() is None
    assert security.next_settle() is None
    assert security.standing(HIGH) is None
    assert security.tried(HIGH) == (0, ())


def test_every_candidate_is_tried_at_once_and_in_the_order_given() -> None:
    security = Security(LOW)
    security.want(HIGH, (PUBLIC, PRIVATE), 10.0)
    assert security.next_due() == 10.0
    assert connected(security.due(10.0)) == [(connection_name(HIGH, 0), PUBLIC), (connection_name(HIGH, 1), PRIVATE)]
    assert security.tried(HIGH) == (1, (PUBLIC, PRIVATE))


@pytest.mark.parametrize("own", [pytest.param(LOW, id="lower end"), pytest.param(OTHER, id="higher end")])
def test_both_ends_initiate(own: object) -> None:
    assert isinstance(own, type(LOW))
    security = Security(own)
    security.want(HIGH, (PUBLIC,), 0.0)
    assert connected(security.due(0.0)) == [(connection_name(HIGH, 0), PUBLIC)]


def test_what_is_tried_is_not_tried_again_before_its_back_off_is_over() -> None:
    security = Security(LOW)
    security.want(HIGH, (PUBLIC,), 0.0)
    security.due(0.0)
    assert security.due(RETRY_FIRST_S - 0.001) == []
    assert len(security.due(RETRY_FIRST_S)) == 1


@pytest.mark.parametrize(
    ("hubs", "expected"),
    [
        pytest.param(frozenset(), [3.0, 6.0, 12.0, 24.0, *[RETRY_LAST_S] * 3], id="a spoke"),
        pytest.param(frozenset({HIGH}), [3.0, 6.0, *[RETRY_HUB_LAST_S] * 5], id="a hub"),
    ],
)
def test_the_back_off_doubles_up_to_its_last_value_and_stays_there(
    hubs: frozenset[Address], expected: list[float]
) -> None:
    security = Security(LOW, hubs)
    security.want(HIGH, (PUBLIC,), 0.0)
    now, pauses = 0.0, []
    for _ in range(7):
        security.due(now)
        due = security.next_due()
        assert due is not None
        pauses.append(due - now)
        now = due
    assert pauses == expected


def test_a_peer_that_is_away_for_a_day_is_still_tried() -> None:
    security = Security(LOW)
    security.want(HIGH, (PUBLIC,), 0.0)
    now, tries = 0.0, 0
    while now < 86400:
        tries += len(security.due(now))
        due = security.next_due()
        assert due is not None
        assert due > now
        now = due
    assert tries > 2800


@pytest.mark.parametrize(
    ("first", "second", "tried_at_once"),
    [
        pytest.param((PUBLIC,), (PUBLIC,), [], id="the same again is a no-op"),
        pytest.param((PUBLIC,), (), [], id="none known now: the old ones stay"),
        pytest.param((PUBLIC,), (NEW,), [NEW], id="another one"),
        pytest.param((PUBLIC,), (PUBLIC, NEW), [PUBLIC, NEW], id="one more"),
        pytest.param((), (NEW,), [NEW], id="the first one comes late"),
        pytest.param((PUBLIC,), (NEW, NEW, NEW), [NEW], id="one three times"),
    ],
)
def test_new_candidates_are_tried_at_once(
    first: tuple[Remote, ...], second: tuple[Remote, ...], tried_at_once: list[Remote]
) -> None:
    security = Security(LOW)
    security.want(HIGH, first, 0.0)
    security.due(0.0)
    security.want(HIGH, second, 1.0)
    assert [remote for _, remote in connected(security.due(1.0))] == tried_at_once


def test_a_pair_without_a_candidate_waits_for_one() -> None:
    security = Security(LOW)
    security.want(HIGH, (), 0.0)
    assert security.due(100.0) == []
    assert security.next_due() is None


def test_candidates_are_bounded() -> None:
    security = Security(LOW)
    security.want(HIGH, (Remote("198.51.100.1", port) for port in range(1, 1000)), 0.0)
    assert len(security.due(0.0)) == CANDIDATE_LIMIT


def test_what_stands_is_not_tried() -> None:
    security = Security(LOW)
    security.want(HIGH, (PUBLIC,), 0.0)
    security.observe([sa("1")], 0.0)
    assert security.due(1000.0) == []
    assert security.next_due() is None


def test_the_next_try_is_that_of_the_most_impatient_pair() -> None:
    security = Security(LOW)
    security.want(HIGH, (PUBLIC,), 0.0)
    security.due(0.0)
    security.want(OTHER, (PRIVATE,), 1.5)
    assert security.next_due() == 1.5
    assert [name for name, _ in connected(security.due(1.5))] == [connection_name(OTHER, 0)]
    assert security.next_due() == RETRY_FIRST_S


def test_tries_count_from_the_last_time_it_was_admitted() -> None:
    security = Security(LOW)
    security.want(HIGH, (PUBLIC,), 0.0)
    security.due(0.0)
    security.due(3.0)
    security.observe([sa("1")], 3.2)
    security.admit(up())
    assert security.tried(HIGH) == (0, (PUBLIC,))
    security.observe([], 19.0)
    security.observe([], 20.0)
    assert len(security.due(20.0)) == 1
    assert security.tried(HIGH) == (1, (PUBLIC,))


# ---------------------------------------------------------------- release


def test_a_release_ends_the_sa_and_unloads_every_connection_made_for_it() -> None:
    security = Security(LOW)
    security.want(HIGH, (PUBLIC, PRIVATE), 0.0)
    security.due(0.0)
    security.observe([sa("7"), sa("8", peer=OTHER)], 1.0)
    orders = security.release(HIGH)
    assert terminated(orders) == ["7"]
    assert unloaded(orders) == [connection_name(HIGH, 0), connection_name(HIGH, 1)]
    assert security.observe([sa("8", peer=OTHER)], 1.1) == ([], [Down(HIGH, "no SA stands")], [])
    assert security.due(1000.0) == []


def test_connections_of_candidates_that_are_no_more_are_unloaded_too() -> None:
    security = Security(LOW)
    security.want(HIGH, (PUBLIC, PRIVATE), 0.0)
    security.due(0.0)
    security.want(HIGH, (NEW,), 1.0)
    security.due(1.0)
    assert unloaded(security.release(HIGH)) == [connection_name(HIGH, 0), connection_name(HIGH, 1)]


def test_a_release_of_what_was_only_wanted_unloads_nothing() -> None:
    security = Security(LOW)
    security.want(HIGH, (PUBLIC,), 0.0)
    assert security.release(HIGH) == []


def test_an_sa_that_the_peer_wanted_is_ended_by_a_release_here() -> None:
    security = Security(LOW)
    security.observe([sa("7", initiator=False)], 0.0)
    assert security.release(HIGH) == [Terminate("7", "released")]


def test_a_released_sa_does_not_count_while_charon_still_lists_it() -> None:
    security = Security(LOW)
    security.observe([sa("7")], 0.0)
    security.release(HIGH)
    assert security.observe([sa("7")], 0.1) == ([], [Down(HIGH, "no SA stands")], [])
    assert security.standing(HIGH) is None


def test_a_release_ends_attempts_that_are_under_way() -> None:
    security = Security(LOW)
    security.want(HIGH, (PUBLIC,), 0.0)
    security.due(0.0)
    security.observe([sa("4", state="CONNECTING", children=())], 0.1)
    assert terminated(security.release(HIGH)) == ["4"]


# ---------------------------------------------------------------- restart


def test_a_restart_terminates_and_initiates_without_waiting() -> None:
    security = Security(LOW)
    security.want(HIGH, (PUBLIC,), 0.0)
    security.due(0.0)
    security.observe([sa("1")], 0.2)
    assert security.restart(HIGH, 1.0) == [Terminate("1", "path dead")]
    # The dying SA may be listed for long: nobody answers its DELETE.
    ups, downs, orders = security.observe([sa("1")], 1.1)
    assert (ups, downs, orders) == ([], [Down(HIGH, "no SA stands")], [])
    assert connected(security.due(1.1)) == [(connection_name(HIGH, 0), PUBLIC)]
    assert security.observe([sa("1", state="DELETING"), sa("2")], 1.5)[:2] == ([up()], [])


def test_a_successor_that_is_there_already_is_still_a_down_and_an_up() -> None:
    security = Security(LOW)
    security.want(HIGH, (PUBLIC,), 0.0)
    security.observe([sa("1")], 0.2)
    security.restart(HIGH, 1.0)
    assert security.observe([sa("2")], 1.3) == ([up()], [Down(HIGH, "restarted")], [])
    assert security.observe([sa("2")], 1.4) == ([], [], [])


def test_a_restart_of_what_is_not_wanted_here_only_ends_it() -> None:
    security = Security(LOW)
    security.observe([sa("1", initiator=False)], 0.0)
    assert terminated(security.restart(HIGH, 1.0)) == ["1"]
    security.observe([], 1.1)
    assert security.due(1.1) == []


def test_a_restart_does_not_wait_for_the_back_off_of_old_tries() -> None:
    security = Security(LOW)
    security.want(HIGH, (PUBLIC,), 0.0)
    for now in (0.0, 3.0, 9.0, 21.0):
        security.due(now)
    assert security.due(22.0) == []
    security.restart(HIGH, 22.0)
    assert len(security.due(22.0)) == 1
    assert security.next_due() == 22.0 + RETRY_FIRST_S


# ---------------------------------------------------------------- charon is gone


def test_without_charon_everything_is_down_and_everything_wanted_is_due() -> None:
    security = Security(LOW)
    security.want(HIGH, (PUBLIC,), 0.0)
    security.due(0.0)
    security.observe([sa("1")], 1.0)
    security.restart(HIGH, 1.0)
    assert security.lost_charon() == [Down(HIGH, "charon stopped")]
    assert security.lost_charon() == []
    assert connected(security.due(1.0)) == [(connection_name(HIGH, 0), PUBLIC)]


def test_a_peer_wanted_without_candidates_is_tried_again_where_it_stood() -> None:
    security = Security(LOW)
    security.want(HIGH, (), 0.0)
    security.observe([sa("1", remote=PRIVATE)], 0.1)
    security.lost_charon()
    assert connected(security.due(1.0)) == [(connection_name(HIGH, 0), PRIVATE)]


def test_after_charons_death_the_peers_that_had_called_are_called_back_where_they_were() -> None:
    security = Security(LOW)
    security.observe([sa("2", peer=OTHER, initiator=False, remote=PRIVATE)], 1.0)
    assert security.lost_charon() == [Down(OTHER, "charon stopped")]
    assert security.next_due() == 0.0
    assert connected(security.due(2.0)) == [(connection_name(OTHER, 0), PRIVATE)]
    ups, _, orders = security.observe([sa("1", peer=OTHER, remote=PRIVATE)], 2.1)
    assert ups == [up(OTHER, PRIVATE)]
    assert unloaded(orders) == [connection_name(OTHER, 0)]
    security.observe([], 10.0)
    assert security.due(100.0) == []


def test_who_does_not_answer_being_called_back_is_left_to_call_by_itself() -> None:
    security = Security(LOW)
    security.observe([sa("2", peer=OTHER, initiator=False)], 1.0)
    security.lost_charon()
    called, unloaded_at = [], []
    for now in range(2, 100):
        called += [now for _ in connected(security.due(now))]
        unloaded_at += [now for _ in unloaded(security.observe([], now)[2])]
    assert called == [2, 5, 11]
    assert unloaded_at == [11]
    assert security.next_due() is None


def test_who_is_wanted_while_it_is_called_back_is_called_on() -> None:
    security = Security(LOW)
    security.observe([sa("2", peer=OTHER, initiator=False)], 1.0)
    security.lost_charon()
    security.due(2.0)
    security.want(OTHER, (NEW,), 2.5)
    assert connected(security.due(2.5)) == [(connection_name(OTHER, 0), NEW)]
    assert unloaded(security.release(OTHER)) == [connection_name(OTHER, 0)]


def test_unique_ids_begin_anew_with_charon() -> None:
    security = Security(LOW)
    security.observe([sa("1")], 0.0)
    security.release(HIGH)
    security.lost_charon()
    assert security.observe([sa("1")], 5.0)[0] == [up()]


def test_connections_that_went_with_charon_are_not_unloaded() -> None:
    security = Security(LOW)
    security.want(HIGH, (PUBLIC,), 0.0)
    security.due(0.0)
    security.lost_charon()
    assert [order for order in security.release(HIGH) if isinstance(order, Disconnect)] == []


# ---------------------------------------------------------------- names


def test_the_names_of_two_peers_never_begin_alike() -> None:
    peers = [
        LOW,
        HIGH,
        OTHER,
        type(LOW)("100.64.0.1"),
        type(LOW)("10.0.64.1"),
        IPv6Address("fd00::1"),
        IPv6Address("fd00::11"),
    ]
    for one in peers:
        names = [connection_name(other, index) for other in peers if other != one for index in (0, 7)]
        assert [name for name in names if name.startswith(connection_stem(one))] == []
        assert connection_name(one, 3).startswith(connection_stem(one))
