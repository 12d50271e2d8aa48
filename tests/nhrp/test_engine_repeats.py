"""A registration said again is answered from memory: exactly as if it had been taken apart, and never when it is not
the same.
"""

from ipaddress import ip_address
from typing import Any

import pytest
from engine_bench import OTHER_NBMA, OWN, OWN_NBMA, Bench, hub, names, of, reasons, registration
from hypothesis import given
from hypothesis import strategies as st

from dmvpn.nhrp.checksum import checksum
from dmvpn.nhrp.events import (
    Action,
    Authorise,
    DropReason,
    Endpoint,
    Forget,
    Input,
    Received,
    SecurityDown,
    SecurityUp,
    Send,
    UnbindNeighbour,
)
from dmvpn.nhrp.packet import CHECKSUM_AT, decode
from dmvpn.nhrp.repeats import ID_AT

UNIQUE = 0x8002
HOLDING_S = 600


def hub_with_one() -> Bench:
    bench = hub()
    bench.up(OWN_NBMA, OTHER_NBMA)
    said(bench, octets_of(1))
    return bench


def without_memory() -> Bench:
    """The same hub, which has to take the next one apart: word of an SA makes it look again."""
    bench = hub_with_one()
    bench.up(OWN_NBMA)
    return bench


def octets_of(request_id: int) -> bytes:
    return registration(OWN, OWN_NBMA, request_id, UNIQUE).encode()


def said(bench: Bench, octets: bytes, nbma: Any = OWN_NBMA) -> list[Action]:
    return bench.tell(Received(octets, nbma))


@given(request_id=st.integers(0, 0xFFFF_FFFF))
def test_the_answer_is_the_one_of_the_long_way(request_id: int) -> None:
    (short,) = of(said(hub_with_one(), octets_of(request_id)), Send)
    (long,) = of(said(without_memory(), octets_of(request_id)), Send)
    assert short == long
    assert decode(short.octets).request_id == request_id


def test_the_short_way_gives_the_same_answer_and_none_to_what_is_new() -> None:
    bench = hub_with_one()
    answer = bench.engine.repeated(octets_of(2), OWN_NBMA, bench.now)
    assert [answer] == said(hub_with_one(), octets_of(2))
    assert bench.engine.repeated(octets_of(2), OTHER_NBMA, bench.now) is None
    assert without_memory().engine.repeated(octets_of(2), OWN_NBMA, bench.now) is None


def test_every_single_octet_counts() -> None:
    """Changed with its checksum made right, it is taken apart, and all is as if nothing had been remembered."""
    for at in range(len(octets_of(2))):
        if ID_AT <= at < ID_AT + 4 or CHECKSUM_AT <= at < CHECKSUM_AT + 2:
            continue
        changed = bytearray(octets_of(2))
        changed[at] ^= 0x01
        changed[CHECKSUM_AT : CHECKSUM_AT + 2] = bytes(2)
        changed[CHECKSUM_AT : CHECKSUM_AT + 2] = checksum(bytes(changed)).to_bytes(2, "big")
        assert names(said(hub_with_one(), bytes(changed))) == names(said(without_memory(), bytes(changed))), at
        short, long = (of(said(one, bytes(changed)), Send) for one in (hub_with_one(), without_memory()))
        assert short == long, at


@pytest.mark.parametrize("at", [CHECKSUM_AT, ID_AT, ID_AT + 3, ID_AT + 4])
def test_a_wrong_checksum_is_refused_as_ever(at: int) -> None:
    bench = hub_with_one()
    broken = bytearray(octets_of(2))
    broken[at] ^= 0x10
    assert reasons(said(bench, bytes(broken))) == [DropReason.CHECKSUM]


def test_the_same_octets_from_another_peer_are_looked_at() -> None:
    bench = hub_with_one()
    (asked,) = of(said(bench, octets_of(2), OTHER_NBMA), Authorise)
    assert asked.nbma == OTHER_NBMA


def test_what_was_allowed_holds_while_the_sa_does() -> None:
    assert names(said(hub_with_one(), octets_of(2))) == ["REGISTRATION_REPLY"]


@pytest.mark.parametrize(
    "words",
    [
        pytest.param((SecurityUp(OWN_NBMA, None),), id="up again"),
        pytest.param((SecurityDown(OWN_NBMA, "gone"),), id="down"),
        pytest.param((SecurityDown(OWN_NBMA, "gone"), SecurityUp(OWN_NBMA, None)), id="down and up"),
    ],
)
def test_any_word_of_the_sa_has_it_asked_again_whether_the_client_may(words: tuple[Input, ...]) -> None:
    bench = hub_with_one()
    for word in words:
        bench.tell(word)
    bench.refuses = {str(OWN)}
    answered = said(bench, octets_of(2))
    assert of(answered, Authorise)
    (refused,) = of(answered, Send)
    assert decode(refused.octets).cies[0].code != 0


def test_a_refresh_holds_the_binding_for_its_whole_time_again() -> None:
    """The timer of the first one fires in between, and only looks."""
    bench = hub_with_one()
    bench.wait(HOLDING_S - 1)
    said(bench, octets_of(2))
    assert not of(bench.wait(HOLDING_S - 1), UnbindNeighbour)
    assert of(bench.wait(1), UnbindNeighbour)


def test_a_client_that_comes_from_elsewhere_is_told_so() -> None:
    bench = hub_with_one()
    moved = Endpoint(ip_address("203.0.113.77"), 4501)
    bench.tell(SecurityUp(OWN_NBMA, moved))
    (reply,) = of(said(bench, octets_of(2)), Send)
    candidates = decode(reply.octets).candidates()
    assert candidates is not None
    assert candidates.observed == moved


def test_what_was_forgotten_is_bound_again() -> None:
    bench = hub_with_one()
    bench.tell(Forget(None))
    assert "BindNeighbour" in names(said(bench, octets_of(2)))
