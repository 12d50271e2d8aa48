"""Pairs that move to another uplink: away from a dead one at once, back to a better one before the old SA goes."""

from dataclasses import replace

import pytest
from security_cases import HIGH, LOW, OTHER, PUBLIC, sa, terminated, up

from dmvpn.daemon.duplicates import SETTLE_S
from dmvpn.daemon.moves import BETTER_AGAIN_S, BETTER_TRIES, MOVE_S
from dmvpn.daemon.orders import Connect, Disconnect, Down, TerminateNow
from dmvpn.daemon.security import CONFIRMED_S, Security
from dmvpn.linux.vici_client import IkeSa

FIRST, SECOND = "192.168.7.2", "192.168.8.2"


def over(source: str, one: IkeSa) -> IkeSa:
    return replace(one, local_host=source)


def standing(*sas: IkeSa) -> Security:
    security = Security(LOW)
    security.want(HIGH, (PUBLIC,), 0.0)
    security.observe(sas, 0.0)
    return security


def test_what_is_over_a_dead_uplink_ends_at_once_and_is_called_anew() -> None:
    other = over(SECOND, sa("2", peer=OTHER))
    security = standing(sa("1"), other)
    orders = security.leave(frozenset({FIRST}), 10.0)
    assert [(type(order), order.unique_id) for order in orders if isinstance(order, TerminateNow)] == [
        (TerminateNow, "1")
    ]
    assert [order.nbma for order in security.due(10.0) if isinstance(order, Connect)] == [HIGH]
    assert security.due(10.0) == []


def test_a_pair_that_stands_again_in_time_was_never_down() -> None:
    security = standing(sa("1"))
    security.leave(frozenset({FIRST}), 10.0)
    for at in (10.1, 10.5):
        _ups, downs, _orders = security.observe((), at)
        assert downs == []
    ups, downs, _orders = security.observe((over(SECOND, sa("2")),), 11.0)
    assert (ups, downs) == ([replace(up(), source=SECOND)], [])


def test_pairs_that_are_moving_are_not_looked_for_all_the_while() -> None:
    """A hub's thousand take charon's one worker as long as it may last, and the next look is not in the past."""
    security = standing(sa("1"))
    security.leave(frozenset({FIRST}), 10.0)
    security.due(10.0)
    security.observe((), 10.5)
    assert security.next_settle() is None
    security.due(13.0)
    assert security.next_due() == 10.0 + MOVE_S


def test_a_pair_that_does_not_come_back_is_down() -> None:
    security = standing(sa("1"))
    security.leave(frozenset({FIRST}), 10.0)
    security.observe((), 10.1)
    _ups, downs, _orders = security.observe((), 10.0 + MOVE_S)
    assert downs == [Down(HIGH, "no SA stands")]


def test_who_called_us_is_called_back_from_the_other_uplink() -> None:
    security = Security(LOW)
    security.observe((sa("1", initiator=False),), 0.0)
    security.leave(frozenset({FIRST}), 10.0)
    assert [(order.nbma, order.remote) for order in security.due(10.0) if isinstance(order, Connect)] == [
        (HIGH, PUBLIC)
    ]


def test_a_pair_with_another_sa_elsewhere_is_not_called() -> None:
    security = standing(sa("1"), over(SECOND, sa("2")))
    assert terminated(security.leave(frozenset({FIRST}), 10.0)) == ["1"]
    assert security.due(10.0) == []


def test_a_better_uplink_is_tried_beside_the_sa_that_stands() -> None:
    old = over(SECOND, sa("1"))
    security = standing(old)
    security.prefer(HIGH, FIRST, 10.0)
    assert [order.nbma for order in security.due(10.0) if isinstance(order, Connect)] == [HIGH]
    attempt = over(FIRST, sa("2", state="CONNECTING", answered=False, children=()))
    _ups, _downs, orders = security.observe((old, attempt), 10.1)
    assert orders == [], "it is wanted although an SA stands"
    new = over(FIRST, sa("2", age_s=0.0))
    ups, downs, orders = security.observe((old, new), 10.2)
    assert (ups, downs, orders) == ([up()], [], [])
    security.prefer(HIGH, FIRST, 10.3)
    assert security.due(30.0) == [], "it is there"
    _ups, downs, orders = security.observe((old, new), 10.2 + SETTLE_S)
    assert (terminated(orders), downs) == (["1"], []), "the older one goes, and nobody was without"


def test_a_better_uplink_that_does_not_reach_the_peer_is_tried_every_few_minutes_after_some_tries() -> None:
    security = standing(over(SECOND, sa("1")))
    tries = []
    for second in range(1000):
        security.prefer(HIGH, FIRST, float(second))
        tries += [second] if security.due(float(second)) else []
    assert tries[:BETTER_TRIES] == [0, 3, 9, 21]
    assert tries[BETTER_TRIES:] == [21 + BETTER_AGAIN_S, 21 + 2 * BETTER_AGAIN_S, 21 + 3 * BETTER_AGAIN_S]


@pytest.mark.parametrize("after", [(over(FIRST, sa("2", age_s=0.0)),), ()], ids=["it has moved", "it has gone"])
def test_of_a_peer_that_called_us_no_connection_stays_behind(after: tuple[IkeSa, ...]) -> None:
    security = Security(LOW)
    old = over(SECOND, sa("1", initiator=False))
    security.observe((old,), 0.0)
    security.prefer(HIGH, FIRST, 10.0)
    (called,) = security.due(10.0)
    assert isinstance(called, Connect)
    orders = security.observe((old,), 10.1)[2]
    assert Disconnect(called.connection) not in orders, "it may still answer"
    orders = []
    for at in (20.0, 20.0 + CONFIRMED_S):
        orders += security.observe(after, at)[2]
        security.prefer(HIGH, FIRST, at)
    assert orders.count(Disconnect(called.connection)) == 1


def test_what_is_over_the_preferred_uplink_already_is_not_touched() -> None:
    security = standing(sa("1"))
    security.prefer(HIGH, FIRST, 10.0)
    security.prefer(HIGH, None, 10.0)
    assert security.due(10.0) == []
