"""What passes by in a few words: each kind, who answered whom after how long, and what is only a path's pulse."""

from dataclasses import replace
from ipaddress import IPv4Address, ip_address

import pytest
from codec_cases import ANY_PACKET
from hypothesis import given
from hypothesis import strategies as st

from dmvpn.nhrp.cie import Cie
from dmvpn.nhrp.events import Address, Happening, Log
from dmvpn.nhrp.extensions import CiscoAuthentication
from dmvpn.nhrp.numbers import Kind
from dmvpn.nhrp.packet import Packet
from dmvpn.nhrp.sightings import ANSWER_LATEST_S, OPEN_LIMIT, Observer, about, happened

HUB, PARIS, LYON = (ip_address(f"100.64.0.{host}") for host in (1, 12, 13))
HUB_OVERLAY, PARIS_OVERLAY, LYON_OVERLAY = (ip_address(f"10.255.1.{host}") for host in (1, 12, 13))
LYON_PC = ip_address("10.1.13.10")


def entry(protocol: Address | None, nbma: Address | None = None, code: int = 0, length: int = 0) -> Cie:
    return Cie(code, length, 1400, 600, 0, nbma, b"", protocol)


def packet(kind: Kind, source: Address, asked: Address, *cies: Cie, number: int = 7, nbma: Address = PARIS) -> Packet:
    return Packet(kind, 255, 0, number, nbma, source, asked, cies)


ASKED = packet(Kind.RESOLUTION_REQUEST, PARIS_OVERLAY, LYON_PC)
ANSWERED = replace(ASKED, kind=Kind.RESOLUTION_REPLY, cies=(entry(LYON_OVERLAY, LYON, length=24),))
INDICATED = bytes((0x45, *[0] * 11)) + IPv4Address("10.1.12.10").packed + LYON_PC.packed


@pytest.mark.parametrize(
    ("seen", "words"),
    [
        pytest.param(ASKED, "who has 10.1.13.10?", id="resolution request"),
        pytest.param(ANSWERED, "10.1.13.0/24 via 10.255.1.13 at 100.64.0.13, 600 s", id="resolution reply"),
        pytest.param(
            replace(ANSWERED, cies=(entry(None, None, code=12),)), "10.1.13.10: knows nobody there", id="no binding"
        ),
        pytest.param(replace(ANSWERED, cies=()), "nothing about 10.1.13.10", id="an empty reply"),
        pytest.param(
            packet(Kind.REGISTRATION_REQUEST, PARIS_OVERLAY, HUB_OVERLAY, entry(None, length=255)),
            "I am 10.255.1.12 for 600 s",
            id="registration request",
        ),
        pytest.param(
            packet(Kind.REGISTRATION_REPLY, PARIS_OVERLAY, HUB_OVERLAY, entry(None)),
            "10.255.1.12 is welcome for 600 s",
            id="registration reply",
        ),
        pytest.param(
            packet(Kind.REGISTRATION_REPLY, PARIS_OVERLAY, HUB_OVERLAY, entry(None, code=14)),
            "somebody else is registered",
            id="refused",
        ),
        pytest.param(
            packet(Kind.PURGE_REQUEST, HUB_OVERLAY, PARIS_OVERLAY, entry(ip_address("10.1.13.0"), length=24)),
            "forget 10.1.13.0/24",
            id="purge request",
        ),
        pytest.param(
            replace(packet(Kind.TRAFFIC_INDICATION, HUB_OVERLAY, PARIS_OVERLAY), payload=INDICATED),
            "there is a better way to 10.1.13.10",
            id="traffic indication",
        ),
        pytest.param(
            replace(packet(Kind.ERROR_INDICATION, HUB_OVERLAY, PARIS_OVERLAY), error_code=6, payload=ASKED.encode()),
            "unreachable: your resolution request about 10.1.13.10",
            id="error indication",
        ),
    ],
)
def test_each_kind_in_words(seen: Packet, words: str) -> None:
    assert about(seen) == words


def test_an_answer_is_timed_from_the_request_that_was_seen_first() -> None:
    observer = Observer()
    first = observer.packet(ASKED.encode(), PARIS, HUB, 100.0)
    passed = observer.packet(ASKED.encode(), HUB, LYON, 100.02)
    answer = observer.packet(ANSWERED.encode(), LYON, PARIS, 100.06)
    assert (first.relayed, first.again, first.answer_s) == (False, False, None)
    assert (passed.relayed, passed.again) == (True, False)
    assert answer.answer_s == pytest.approx(0.06)


def test_an_answer_that_is_passed_on_is_timed_where_it_arrives() -> None:
    observer = Observer()
    observer.packet(ASKED.encode(), PARIS, HUB, 1.0)
    passed = observer.packet(ANSWERED.encode(), LYON, HUB, 1.1)
    arrived = observer.packet(ANSWERED.encode(), HUB, PARIS, 1.2)
    assert (passed.relayed, passed.answer_s) == (True, None)
    assert arrived.answer_s == pytest.approx(0.2)


def test_the_same_request_on_the_same_way_is_a_repetition() -> None:
    observer = Observer()
    assert [observer.packet(ASKED.encode(), PARIS, HUB, at).again for at in (1.0, 2.0, 4.0)] == [False, True, True]


@pytest.mark.parametrize(
    ("asked_at", "answered_at"),
    [
        pytest.param(5.0, 4.0, id="a clock that was put back"),
        pytest.param(1.0, 1.0 + ANSWER_LATEST_S, id="an id that came round"),
        pytest.param(None, None, id="no times"),
    ],
)
def test_a_time_that_cannot_be_is_not_told(asked_at: float | None, answered_at: float | None) -> None:
    observer = Observer()
    observer.packet(ASKED.encode(), PARIS, HUB, asked_at)
    assert observer.packet(ANSWERED.encode(), LYON, PARIS, answered_at).answer_s is None


@pytest.mark.parametrize(
    ("source", "target", "asked", "probe"),
    [
        pytest.param(PARIS, HUB, HUB_OVERLAY, True, id="a hub about itself"),
        pytest.param(PARIS, HUB, LYON_OVERLAY, False, id="a hub about another"),
        pytest.param(HUB, LYON, LYON_OVERLAY, False, id="the last leg of a question"),
    ],
)
def test_a_probe_asks_a_station_about_itself(source: Address, target: Address, asked: Address, probe: bool) -> None:  # noqa: FBT001
    observer = Observer(overlay=lambda nbma: {HUB: (HUB_OVERLAY,), LYON: (LYON_OVERLAY,)}.get(nbma, ()))
    request = packet(Kind.RESOLUTION_REQUEST, PARIS_OVERLAY, asked)
    assert observer.packet(request.encode(), source, target, 1.0).probe is probe


def test_a_registration_shows_whose_overlay_address_is_whose() -> None:
    observer = Observer()
    observer.packet(packet(Kind.REGISTRATION_REQUEST, PARIS_OVERLAY, HUB_OVERLAY, number=1).encode(), PARIS, HUB, 1.0)
    request = packet(Kind.RESOLUTION_REQUEST, PARIS_OVERLAY, HUB_OVERLAY, number=2)
    assert observer.packet(request.encode(), PARIS, HUB, 2.0).probe


def test_a_password_is_in_no_sighting() -> None:
    secret = replace(ASKED, extensions=(CiscoAuthentication(b"Muenchen"),))
    error = replace(packet(Kind.ERROR_INDICATION, HUB_OVERLAY, PARIS_OVERLAY), error_code=7, payload=secret.encode())
    for one in (secret, error):
        assert "Muenchen" not in repr(Observer().packet(one.encode(), PARIS, HUB, 1.0))


def test_memory_is_bounded() -> None:
    observer = Observer()
    for number in range(OPEN_LIMIT + 10):
        observer.packet(replace(ASKED, request_id=number).encode(), PARIS, HUB, 1.0)
    assert observer.packet(ANSWERED.encode(), LYON, PARIS, 2.0).answer_s is None, "the oldest is forgotten"
    late = replace(ANSWERED, request_id=OPEN_LIMIT)
    assert observer.packet(late.encode(), LYON, PARIS, 2.0).answer_s == 1.0


@given(ANY_PACKET)
def test_any_packet_can_be_told(one: Packet) -> None:
    assert Observer().packet(one.encode(), PARIS, HUB, 1.0).what == "packet"


@given(st.binary(max_size=200))
def test_any_octets_are_a_sighting(octets: bytes) -> None:
    assert Observer().packet(octets, PARIS, None, None).what in ("packet", "malformed")


@pytest.mark.parametrize("happening", Happening)
def test_every_happening_has_words(happening: Happening) -> None:
    seen = happened(Log(happening, "10.1.13.0/24", "via lyo1"), 1.0, cloud="blue")
    assert (seen.what, seen.cloud, seen.about) == ("happening", "blue", "10.1.13.0/24 via lyo1")
    assert seen.good is (happening.value not in ("hub-down", "shortcut-down", "expired", "negative"))
