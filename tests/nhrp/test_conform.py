"""The conformance run itself: our engine passes every case, and for every case there is a peer that fails it."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from conformance_bench import OWN, Station, Twist
from simulation import nbma_of, overlay_of

from dmvpn.nhrp.checksum import checksum
from dmvpn.nhrp.conformance.bench import Finding, Verdict
from dmvpn.nhrp.conformance.cases import CASES, leave
from dmvpn.nhrp.extensions import CiscoAuthentication, ForwardTransit, ResponderAddress
from dmvpn.nhrp.numbers import CieCode, ErrorCode, Kind, RegistrationFlag
from dmvpn.nhrp.packet import Packet, decode

NAMES = [case.name for case in CASES]


@pytest.fixture(scope="module")
def ours() -> dict[str, Finding]:
    return Station().findings()


@pytest.mark.parametrize("name", NAMES)
def test_our_engine_passes(ours: dict[str, Finding], name: str) -> None:
    finding = ours[name]
    assert finding.judgement.verdict is Verdict.PASS, finding.judgement.sentence
    assert finding.turns


def test_a_case_has_a_name_of_its_own() -> None:
    assert len(set(NAMES)) == len(NAMES)


# ---------------------------------------------------------------- peers that are wrong


def only(kind: Kind, change: Callable[[Packet], Packet | None]) -> Twist:
    return lambda packet: change(packet) if packet.kind is kind else packet


def entry(**fields: Any) -> Callable[[Packet], Packet]:
    return lambda packet: replace(packet, cies=tuple(replace(cie, **fields) for cie in packet.cies))


def fields(**changed: Any) -> Callable[[Packet], Packet]:
    return lambda packet: replace(packet, **changed)


def renumbered(packet: Packet) -> Packet:
    return replace(packet, error_code=ErrorCode.PROTOCOL_ERROR)


def backwards(packet: Packet) -> Packet:
    return replace(packet, extensions=packet.extensions[::-1])


def turned_round(packet: Packet) -> Packet:
    return replace(packet, source_protocol=packet.destination_protocol, destination_protocol=packet.source_protocol)


def answered_anyway(packet: Packet) -> Packet:
    """A reply where the hub would have sent an error."""
    about = decode(packet.payload)
    kind = Kind(about.kind + 1)
    return replace(about, kind=kind, hop_count=64)


def mended(octets: bytes) -> bytes:
    """A peer that takes what is damaged: version, length, offset, checksum as they should be."""
    fixed = bytearray(octets)
    fixed[16] = 1
    missing = int.from_bytes(fixed[10:12], "big") - len(fixed)
    if missing > 0:
        fixed += bytes(missing)
    elif missing:
        fixed[10:12] = len(fixed).to_bytes(2, "big")
    if int.from_bytes(fixed[14:16], "big") > len(fixed):
        fixed[14:16] = fixed.index(bytes.fromhex("80030000")).to_bytes(2, "big")
    fixed[12:14] = bytes(2)
    fixed[12:14] = checksum(bytes(fixed)).to_bytes(2, "big")
    return bytes(fixed)


def padding_counts(octets: bytes) -> bytes:
    """A peer that sums up all that arrived."""
    return octets if int.from_bytes(octets[10:12], "big") == len(octets) else octets[:12]


def noisy(kind: Kind) -> Callable[[bytes], bytes]:
    """A peer that answers what it should take in silence: it hears a registration in its place."""

    def heard(octets: bytes) -> bytes:
        packet = decode(octets)
        if packet.kind is not kind:
            return octets
        plain = replace(packet, kind=Kind.PURGE_REQUEST, destination_protocol=overlay_of(1), flags=0, hop_count=9)
        source = replace(plain, source_protocol=overlay_of(OWN), payload=b"", error_code=0, request_id=_id_of(octets))
        sealed = source.with_extension(CiscoAuthentication(b"secret"))
        return sealed.encode()

    return heard


def _id_of(octets: bytes) -> int:
    return int.from_bytes(octets[24:28], "big")


REGISTERED = Kind.REGISTRATION_REPLY
RESOLVED = Kind.RESOLUTION_REPLY
PURGED = Kind.PURGE_REPLY
ERROR = Kind.ERROR_INDICATION
BROKEN: dict[str, dict[str, Any]] = {
    "registration": {"twist": only(REGISTERED, turned_round)},
    "request-id": {"twist": only(REGISTERED, lambda packet: replace(packet, request_id=packet.request_id + 1))},
    "unique-flag": {"twist": only(REGISTERED, fields(flags=int(RegistrationFlag.NAT)))},
    "reply-hop-count": {"twist": only(REGISTERED, fields(hop_count=0))},
    "responder": {"twist": only(REGISTERED, lambda packet: packet.without_extension(ResponderAddress))},
    "server-unknown": {"twist": lambda packet: replace(packet, kind=Kind.PURGE_REPLY)},
    "second-place": {"twist": only(REGISTERED, entry(code=int(CieCode.OK)))},
    "prefix": {"twist": only(REGISTERED, entry(code=0, prefix_length=32))},
    "holding-time-0": {"twist": only(REGISTERED, fields(cies=()))},
    "optional-extension": {"twist": only(REGISTERED, entry(code=int(CieCode.INSUFFICIENT_RESOURCES)))},
    "resolve-itself": {"twist": only(RESOLVED, entry(nbma=nbma_of(77)))},
    "resolve-client": {"twist": only(RESOLVED, entry(nbma=nbma_of(77)))},
    "resolve-unknown": {"twist": only(ERROR, answered_anyway)},
    "purge": {"twist": only(PURGED, fields(cies=()))},
    "purge-forgets": {"twist": only(ERROR, answered_anyway)},
    "purge-silent": {"mend": lambda octets: _loud(octets)},
    "hop-count-0": {"twist": only(ERROR, renumbered)},
    "loop": {"twist": only(ERROR, renumbered)},
    "transit-hop-count": {"onward": lambda packet: replace(packet, hop_count=packet.hop_count - 1)},
    "transit-record": {"onward": lambda packet: packet.with_extension(ForwardTransit())},
    "transit-order": {"onward": backwards},
    "transit-copy": {"onward": lambda packet: replace(packet, extensions=packet.extensions[1:])},
    "compulsory-extension": {"twist": only(ERROR, renumbered)},
    "error-form": {"twist": only(ERROR, fields(extensions=(ForwardTransit(),)))},
    "error-about-error": {"mend": noisy(ERROR)},
    "unsolicited": {"mend": noisy(RESOLVED)},
    "checksum": {"mend": mended},
    "version": {"mend": mended},
    "cut": {"mend": mended},
    "length": {"mend": mended},
    "extension-offset": {"mend": mended},
    "padding": {"mend": padding_counts},
    "no-password": {"authentication": None},
    "wrong-password": {"authentication": None},
    "reply-password": {"twist": lambda packet: packet.without_extension(CiscoAuthentication)},
}


def _loud(octets: bytes) -> bytes:
    packet = decode(octets)
    return replace(packet, flags=0).encode() if packet.kind is Kind.PURGE_REQUEST else octets


@pytest.mark.parametrize("name", NAMES)
def test_a_peer_that_is_wrong_fails(name: str) -> None:
    finding = Station(**BROKEN[name]).findings(name)[name]
    assert finding.judgement.verdict is not Verdict.PASS
    assert finding.judgement.verdict is not Verdict.NOT_APPLICABLE, finding.judgement.sentence
    assert finding.judgement.sentence


def test_the_silence_of_nobody_proves_nothing() -> None:
    findings = Station(twist=lambda _packet: None).findings()
    first, *others = findings.values()
    assert first.judgement.verdict is Verdict.NOT_ANSWERED
    assert {finding.judgement.verdict for finding in others} == {Verdict.NOT_APPLICABLE}
    assert not any(finding.turns for finding in others)


@pytest.mark.parametrize("in_use", [True, False], ids=["in use", "spare"])
def test_at_the_end_an_address_is_registered_again_only_if_it_is_in_use(in_use: bool) -> None:  # noqa: FBT001
    station = Station()
    station.findings("registration")
    for asked in leave(station.bench(), registered=in_use):
        assert station.exchange(asked)
    bindings = station.hub.engine.view(station.simulation.now).bindings
    assert any(row.protocol == overlay_of(OWN) for row in bindings) is in_use


@pytest.mark.parametrize("missing", ["beyond", "second_nbma"])
def test_what_cannot_be_tried_is_not_applicable(missing: str) -> None:
    names = {"beyond": ["transit-order", "transit-copy"], "second_nbma": ["second-place"]}[missing]
    for finding in Station().findings(*names, **{missing: None}).values():
        assert finding.judgement.verdict is Verdict.NOT_APPLICABLE
        assert not finding.turns
