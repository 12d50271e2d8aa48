"""The engine's small parts: timers, routing table, cache, requests, security, authorisations."""

from ipaddress import ip_address, ip_network
from random import Random

import pytest
from engine_bench import (
    HUB_NBMA,
    OTHER,
    OWN,
    OWN_NBMA,
    PEER,
    PEER_LAN,
    PEER_NBMA,
    SPOKE_SETTINGS,
    of,
    reasons,
    spoke,
)
from hypothesis import given, settings
from hypothesis import strategies as some

from dmvpn.nhrp.authorisation import QUESTIONS_LIMIT, Authorisations
from dmvpn.nhrp.cache import BINDINGS_LIMIT, Binding, BindingKind, Bindings
from dmvpn.nhrp.core import Core
from dmvpn.nhrp.events import (
    DropReason,
    Egress,
    Endpoint,
    ReleaseSecurity,
    RestartSecurity,
    Verdict,
    WantSecurity,
)
from dmvpn.nhrp.ids import CLOSED_LIMIT, ID_LIMIT, REQUESTS_LIMIT, Request, Requests
from dmvpn.nhrp.numbers import Kind
from dmvpn.nhrp.purges import ANSWERS_LIMIT, Answered
from dmvpn.nhrp.rib import Rib, Route, contains, host_of
from dmvpn.nhrp.security import PEERS_LIMIT, Security
from dmvpn.nhrp.timers import Timers


def core() -> Core:
    return Core(SPOKE_SETTINGS, Random(1), Requests(1), 0.0)


# ---------------------------------------------------------------- timers


def test_timers_fire_in_order_and_a_moved_one_once() -> None:
    timers, fired = Timers(), []
    for name, at in (("a", 3.0), ("b", 1.0), ("c", 2.0), ("b", 2.5)):
        timers.arm(name, at, lambda name=name: fired.append(name))
    timers.disarm("c")
    assert timers.next_deadline() == 2.5
    assert (timers.deadline("a"), timers.deadline("c")) == (3.0, None)
    timers.run_due(3.0)
    assert fired == ["b", "a"]
    assert timers.next_deadline() is None


def test_a_timer_armed_by_another_for_now_fires_too() -> None:
    timers, fired = Timers(), []
    timers.arm("a", 1.0, lambda: timers.arm("b", 1.0, lambda: fired.append("b")))
    timers.run_due(1.0)
    assert fired == ["b"]


def test_moving_a_timer_for_ever_does_not_grow() -> None:
    timers = Timers()
    for at in range(10_000):
        timers.arm("probe", float(at), lambda: None)
    assert len(timers._heap) < 100


# ---------------------------------------------------------------- routing table


def route(prefix: str, egress: Egress = Egress.OVERLAY, device: str = "acme-blue") -> Route:
    return Route(ip_network(prefix), egress, None, device)


PREFIXES = ["0.0.0.0/0", "10.0.0.0/8", "10.1.0.0/16", "10.1.12.0/24", "10.1.12.128/25", "10.1.12.10/32", "fd00::/8"]


@pytest.mark.parametrize(
    ("destination", "found"),
    [
        ("10.1.12.10", "10.1.12.10/32"),
        ("10.1.12.11", "10.1.12.0/24"),
        ("10.1.12.200", "10.1.12.128/25"),
        ("10.2.0.1", "10.0.0.0/8"),
        ("192.0.2.1", "0.0.0.0/0"),
        ("fd00::1", "fd00::/8"),
        ("2001:db8::1", None),
    ],
)
def test_the_longest_match_wins(destination: str, found: str | None) -> None:
    rib = Rib()
    for prefix in PREFIXES:
        rib.put(route(prefix))
    match = rib.lookup(ip_address(destination))
    assert (None if match is None else str(match.prefix)) == found


prefixes = some.builds(
    lambda address, length: ip_network((address, length), strict=False),
    some.integers(0, 2**32 - 1).map(lambda bits: bits & 0x0F0F0F0F),
    some.integers(0, 32),
)


@settings(derandomize=True, max_examples=200, deadline=None)
@given(some.lists(prefixes, max_size=20), some.lists(prefixes, max_size=10), prefixes)
def test_the_table_agrees_with_a_search_through_all(kept: list, dropped: list, asked: object) -> None:
    rib = Rib()
    for prefix in [*kept, *dropped]:
        rib.put(route(str(prefix)))
    for prefix in dropped:
        rib.drop(prefix)
    left = set(kept) - set(dropped)
    covering = [prefix for prefix in left if contains(prefix, asked)]
    best = max(covering, key=lambda prefix: prefix.prefixlen, default=None)
    found = rib.covering(asked)
    assert (None if found is None else found.prefix) == best
    inside = {prefix for prefix in left if contains(asked, prefix) and prefix != asked}
    assert {one.prefix for one in rib.inside(asked)} == inside


@settings(derandomize=True, max_examples=200, deadline=None)
@given(some.lists(prefixes, max_size=20), prefixes)
def test_a_narrowed_prefix_holds_its_destination_and_no_cut(kept: list, asked: object) -> None:
    rib = Rib()
    destination = asked.network_address
    for prefix in kept:
        if destination not in prefix:
            rib.put(route(str(prefix)))
    narrowed = rib.narrow(asked, destination, lambda one: True)
    assert destination in narrowed
    assert contains(asked, narrowed)
    assert not any(contains(narrowed, one.prefix) for one in rib.inside(asked))


def test_dropping_what_is_not_there_is_nothing() -> None:
    rib = Rib()
    rib.drop(ip_network("10.0.0.0/8"))
    assert rib.lookup(ip_address("10.0.0.1")) is None


# ---------------------------------------------------------------- cache, requests


def binding(protocol: object, nbma: object) -> Binding:
    return Binding(protocol, nbma, BindingKind.REGISTERED, 0.0, None, nbma)


def test_the_cache_is_bounded_in_all_and_a_moved_binding_leaves_nothing_behind() -> None:
    bindings = Bindings()
    for number in range(BINDINGS_LIMIT):
        bindings.put(binding(ip_address(0x0A000000 + number), ip_address(0x64400000 + number)))
    assert len(bindings) == BINDINGS_LIMIT
    assert not bindings.has_room(PEER, OTHER)
    known = ip_address(0x0A000000)
    assert bindings.has_room(known, OTHER)
    bindings.put(binding(known, OTHER))
    assert bindings.of_nbma(ip_address(0x64400000)) == ()
    assert bindings.drop(PEER) is None


def request(request_id: int) -> Request:
    return Request(request_id, Kind.PURGE_REQUEST, OWN_NBMA, OWN, HUB_NBMA, lambda *_: None, lambda *_: None)


def test_request_ids_wrap_and_open_requests_are_bounded() -> None:
    requests = Requests(ID_LIMIT - 1)
    assert [requests.take_id(), requests.take_id()] == [ID_LIMIT - 1, 0]
    for number in range(REQUESTS_LIMIT):
        requests.open(request(number))
    assert requests.is_full
    for number in range(REQUESTS_LIMIT):
        requests.close(number)
    requests.close(None)
    assert requests.was_open(REQUESTS_LIMIT - 1)
    assert not requests.was_open(REQUESTS_LIMIT - 1 - CLOSED_LIMIT)


def test_when_no_request_can_be_opened_questions_wait_and_probes_are_counted() -> None:
    bench = spoke()
    for number in range(REQUESTS_LIMIT):
        bench.engine._core.requests.open(request(1_000_000 + number))
    from engine_bench import indication

    assert reasons(bench.packet(indication(), HUB_NBMA)) == [DropReason.LIMIT]
    assert DropReason.LIMIT in reasons(bench.wait(6.0)), "the hub's probe"
    purges = bench.engine._machines.purges
    purges.take_back_from(PEER, PEER_NBMA, PEER_LAN, silent=False)
    assert bench.tell() == []


# ---------------------------------------------------------------- security


def test_an_sa_is_wanted_by_the_first_user_and_released_by_the_last() -> None:
    ground = core()
    security = Security(ground)
    security.want(PEER_NBMA, (), "one")
    security.want(PEER_NBMA, (), "two")
    security.release(PEER_NBMA, "one")
    security.release(PEER_NBMA, "nobody")
    security.release(OTHER, "one")
    assert of(ground.actions, ReleaseSecurity) == []
    security.release(PEER_NBMA, "two")
    assert of(ground.actions, ReleaseSecurity) == [ReleaseSecurity(PEER_NBMA)]


def test_a_failed_attempt_is_repeated_with_back_off_and_its_candidates() -> None:
    ground = core()
    security = Security(ground)
    candidate = Endpoint(ip_address("192.0.2.1"), 4500)
    security.want(PEER_NBMA, (candidate,), "one")
    waits = []
    for _ in range(7):
        security.security_down(PEER_NBMA)
        deadline = ground.timers.next_deadline()
        assert deadline is not None
        waits.append(deadline - ground.now)
        ground.now = deadline
        ground.timers.run_due(ground.now)
    for wait, nominal in zip(waits, (1, 2, 4, 8, 16, 16, 16), strict=True):
        assert 0.9 * nominal <= wait <= nominal
    assert of(ground.actions, WantSecurity) == [WantSecurity(PEER_NBMA, (candidate,))] * 8


def test_who_is_not_answered_asks_again() -> None:
    ground = core()
    security = Security(ground)
    security.restart(PEER_NBMA)
    assert ground.actions == [RestartSecurity(PEER_NBMA)]
    ground.now = 20.0
    ground.timers.run_due(20.0)
    assert of(ground.actions, WantSecurity) == [WantSecurity(PEER_NBMA, ())]


def test_initiators_are_bounded() -> None:
    ground = core()
    security = Security(ground)
    for number in range(PEERS_LIMIT):
        security.want(ip_address(number), (), "one")
    assert not security.has_room(PEER_NBMA)
    assert security.has_room(ip_address(0))


# ---------------------------------------------------------------- authorisations


def test_equal_questions_share_a_ticket() -> None:
    ground, told = core(), []
    authorisations = Authorisations(ground)
    for _ in range(2):
        authorisations.ask(PEER_NBMA, PEER, PEER_LAN, told.append)
    assert len(ground.actions) == 1
    authorisations.verdict(Verdict(1, True, ""))  # noqa: FBT003
    authorisations.verdict(Verdict(1, False, "late"))  # noqa: FBT003
    assert told == [None, None]
    assert authorisations.knows(PEER_NBMA, PEER)


def test_open_questions_are_bounded_and_the_rest_refused() -> None:
    ground, told = core(), []
    authorisations = Authorisations(ground)
    for number in range(QUESTIONS_LIMIT):
        authorisations.ask(ip_address(number), PEER, None, told.append)
    assert told == []
    authorisations.ask(PEER_NBMA, PEER, None, told.append)
    assert told == ["too many open authorisations"]


def test_a_refusal_without_a_reason_is_one() -> None:
    ground, told = core(), []
    authorisations = Authorisations(ground)
    authorisations.ask(PEER_NBMA, PEER, None, told.append)
    authorisations.verdict(Verdict(1, False, ""))  # noqa: FBT003
    assert told == ["refused"]
    assert not authorisations.knows(PEER_NBMA, PEER)


# ---------------------------------------------------------------- answers


def test_answers_are_remembered_until_they_expire_and_up_to_a_bound() -> None:
    ground = core()
    answered = Answered(ground)
    for number in range(ANSWERS_LIMIT + 1):
        answered.note(PEER_LAN, ip_address(number), PEER_NBMA)
    answered.note(host_of(OWN), PEER, PEER_NBMA)
    assert len(answered.take(lambda prefix: True)) == ANSWERS_LIMIT
    answered.note(PEER_LAN, PEER, PEER_NBMA)
    ground.now = 600.0
    assert answered.take(lambda prefix: True) == []
