"""Peers that do it otherwise, and are right; peers with which a case cannot be tried; what cannot be read."""

from dataclasses import replace
from typing import Any

import pytest
from conformance_bench import OWN, Station, Twist
from simulation import nbma_of, overlay_of

from dmvpn.nhrp.conformance.bench import Ask, Finding, Heard, Verdict
from dmvpn.nhrp.numbers import CieCode, ErrorCode, Kind
from dmvpn.nhrp.packet import Packet, decode

REGISTERED = Kind.REGISTRATION_REPLY
ERROR = Kind.ERROR_INDICATION


def with_entry(kind: Kind, **fields: Any) -> Twist:
    def twist(packet: Packet) -> Packet:
        if packet.kind is not kind:
            return packet
        return replace(packet, cies=tuple(replace(cie, **fields) for cie in packet.cies))

    return twist


def negative_reply(packet: Packet) -> Packet:
    """Code 12 in place of error 6."""
    if packet.kind is not ERROR or packet.error_code != ErrorCode.UNREACHABLE:
        return packet
    about = decode(packet.payload)
    refused = tuple(replace(cie, code=int(CieCode.NO_BINDING), holding_time_s=0) for cie in about.cies)
    return replace(about, kind=Kind.RESOLUTION_REPLY, cies=refused)


def passed_back(packet: Packet) -> Packet:
    """The request itself, as a hub that asks the egress for an answer sends it."""
    return replace(packet, kind=Kind.RESOLUTION_REQUEST) if packet.kind is Kind.RESOLUTION_REPLY else packet


def always_unreachable(packet: Packet) -> Packet:
    return replace(packet, error_code=ErrorCode.UNREACHABLE) if packet.kind is ERROR else packet


def answered_beyond(packet: Packet) -> Packet:
    if packet.kind is not ERROR:
        return packet
    return replace(decode(packet.payload), kind=Kind.RESOLUTION_REPLY)


def cut_payload(packet: Packet) -> Packet:
    """Only the fixed header and the addresses of the offending packet, as FRR sends them."""
    return replace(packet, payload=packet.payload[:40]) if packet.kind is ERROR else packet


def one(name: str, twist: Twist, **changed: Any) -> Finding:
    return Station(twist=twist).findings(name, **changed)[name]


@pytest.mark.parametrize(
    ("name", "twist"),
    [
        pytest.param("prefix", with_entry(REGISTERED, code=0, prefix_length=31), id="registers networks"),
        pytest.param("holding-time-0", with_entry(REGISTERED, code=4, holding_time_s=0), id="refuses holding time 0"),
        pytest.param("resolve-unknown", negative_reply, id="code 12"),
        pytest.param("purge-forgets", negative_reply, id="code 12 for what was purged"),
    ],
)
def test_another_way_that_is_right(name: str, twist: Twist) -> None:
    finding = one(name, twist)
    assert finding.judgement.verdict is Verdict.PASS, finding.judgement.sentence


@pytest.mark.parametrize(
    ("name", "twist", "changed"),
    [
        pytest.param("resolve-client", passed_back, {}, id="asks the egress"),
        pytest.param("purge", with_entry(REGISTERED, code=4, holding_time_s=0), {}, id="refuses this client"),
        pytest.param("loop", always_unreachable, {"beyond": None}, id="no way on"),
        pytest.param("transit-order", answered_beyond, {}, id="the station beyond answers"),
        pytest.param("transit-order", cut_payload, {}, id="too little comes back"),
    ],
)
def test_what_cannot_be_tried(name: str, twist: Twist, changed: dict[str, Any]) -> None:
    finding = one(name, twist, **changed)
    assert finding.judgement.verdict is Verdict.NOT_APPLICABLE, finding.judgement.sentence


def test_a_second_place_that_may_not_have_the_address() -> None:
    station = Station()
    second = station.simulation.by_number[13]
    second.claims = second.claims[:1]
    finding = station.findings("second-place")["second-place"]
    assert finding.judgement.verdict is Verdict.NOT_APPLICABLE


def test_a_cloud_without_a_password() -> None:
    findings = Station(authentication=None).findings(password=None)
    untried = {name for name, one in findings.items() if one.judgement.verdict is Verdict.NOT_APPLICABLE}
    assert untried == {"no-password", "wrong-password", "reply-password"}
    others = {one.judgement.verdict for name, one in findings.items() if name not in untried}
    assert others == {Verdict.PASS}


def test_what_does_not_decode_is_told() -> None:
    station = Station()
    ask = Ask(bytes(40), nbma_of(OWN))
    assert not ask.is_answered_by(b"short")
    heard = Heard.of(b"\x01\x02")
    assert heard.packet is None
    assert heard.fault
    exchange = station.exchange
    station.exchange = lambda ask: (heard,) if exchange(ask) else ()  # type: ignore[method-assign]
    finding = station.findings("registration")["registration"]
    assert finding.judgement.verdict is Verdict.FAIL
    assert "does not decode" in finding.judgement.sentence


def test_the_address_that_is_registered_is_the_bench_s() -> None:
    station = Station()
    station.findings("registration")
    bindings = {row.protocol: row.nbma for row in station.hub.engine.view(station.simulation.now).bindings}
    assert bindings[overlay_of(OWN)] == nbma_of(OWN)


def test_an_error_in_a_reply_s_place_is_named() -> None:
    finding = Station().findings("registration", password=None)["registration"]
    assert (finding.judgement.verdict, finding.judgement.sentence) == (Verdict.FAIL, "answered with error 11")
