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
from dmvpn.nhrp.events import Action, Authorise, DropReason, Endpoint, Forget, Received, SecurityUp, Send
from dmvpn.nhrp.packet import CHECKSUM_AT, decode
from dmvpn.nhrp.repeats import ID_AT

UNIQUE = 0x8002


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


def test_it_is_asked_each_time_whether_the_client_may() -> None:
    bench = hub_with_one()
    assert names(said(bench, octets_of(2))) == ["Authorise", "REGISTRATION_REPLY"]
    bench.refuses = {str(OWN)}
    (refused,) = of(said(bench, octets_of(3)), Send)
    assert decode(refused.octets).cies[0].code != 0


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
