"""Packets for others: recorded, counted down, never in a circle, never for who may not speak. RFC 2332 5.2, 5.3."""

from dataclasses import replace
from ipaddress import ip_address

import pytest
from engine_bench import (
    CANDIDATES,
    HUB,
    HUB_NBMA,
    INTERNAL,
    OTHER,
    OTHER_NBMA,
    OWN,
    OWN_HOST,
    OWN_NBMA,
    PEER,
    PEER_HOST,
    PEER_LAN,
    PEER_NBMA,
    Bench,
    answer,
    endpoint,
    entry,
    first_sent,
    hub_with_clients,
    of,
    question,
    reasons,
    registration,
    sent,
    spoke,
)

from dmvpn.nhrp.candidates import Candidates
from dmvpn.nhrp.events import (
    DropReason,
    Received,
    RouteGone,
    Send,
    WantSecurity,
)
from dmvpn.nhrp.extensions import (
    CiscoAuthentication,
    CiscoNat,
    ForwardTransit,
    ResponderAddress,
    ReverseTransit,
    Unknown,
)
from dmvpn.nhrp.numbers import PACKET_LIMIT_OCTETS, ErrorCode, Kind
from dmvpn.nhrp.packet import decode, decode_head

ASK, REPLY, ERROR = Kind.RESOLUTION_REQUEST, Kind.RESOLUTION_REPLY, Kind.ERROR_INDICATION


def asked(bench: Bench, destination: object, sender: object = HUB_NBMA, **changed: object):
    """The peer's question, by the hub unless told."""
    return bench.packet(question(PEER, PEER_NBMA, destination, **changed), sender)


def ask_through(bench: Bench, destination: object = PEER_HOST, sender: object = OWN_NBMA, **changed: object):
    return bench.packet(question(OWN, OWN_NBMA, destination, **changed), sender)


def test_a_request_is_passed_on_with_a_record_and_one_hop_less() -> None:
    bench = hub_with_clients(authentication=None)
    actions = ask_through(bench)
    assert sent(actions) == [(ASK, PEER_NBMA)]
    onward = first_sent(actions)
    record = onward.extension(ForwardTransit)
    assert record is not None
    assert [(cie.nbma, cie.protocol) for cie in record.cies] == [(HUB_NBMA, HUB)]
    assert onward.hop_count == 254
    assert onward.candidates() == Candidates((endpoint(OWN_NBMA),), CANDIDATES.private)
    assert [type(extension) for extension in onward.extensions[:3]] == [
        ResponderAddress,
        ForwardTransit,
        ReverseTransit,
    ]


def test_a_reply_is_passed_back_with_a_record_of_its_own_direction() -> None:
    bench = hub_with_clients()
    onward = first_sent(ask_through(bench))
    actions = bench.packet(answer(onward), PEER_NBMA)
    assert sent(actions) == [(REPLY, OWN_NBMA)]
    record = first_sent(actions).extension(ReverseTransit)
    assert record is not None
    assert [cie.nbma for cie in record.cies] == [HUB_NBMA]


def test_a_packet_without_a_record_is_not_given_one() -> None:
    onward = first_sent(ask_through(hub_with_clients(), extensions=()))
    assert onward.extensions == ()


def test_the_password_is_checked_and_written_anew_at_each_hop() -> None:
    bench = hub_with_clients()
    object.__setattr__(bench.settings, "authentication", b"secret")
    good = CiscoAuthentication(b"secret")
    packet = question(OWN, OWN_NBMA, PEER_HOST).with_extension(good)
    onward = first_sent(bench.packet(packet, OWN_NBMA))
    assert [extension for extension in onward.extensions if isinstance(extension, CiscoAuthentication)] == [good]
    for wrong in ((), (CiscoAuthentication(b"wrong"),), (good, good)):
        actions = bench.packet(replace(packet, extensions=wrong), OWN_NBMA)
        assert reasons(actions) == [DropReason.AUTHENTICATION]
        error = first_sent(actions)
        assert (error.kind, error.error_code) == (ERROR, ErrorCode.AUTHENTICATION_FAILURE)
        assert error.extensions == ()


def record(nbma: object, protocol: object) -> ForwardTransit:
    return ForwardTransit((entry(nbma=nbma, protocol=protocol),))


@pytest.mark.parametrize(
    ("changed", "reason", "code"),
    [
        pytest.param({"hop_count": 1}, DropReason.HOP_COUNT, ErrorCode.HOP_COUNT_EXCEEDED, id="the last hop"),
        pytest.param({"hop_count": 0}, DropReason.HOP_COUNT, ErrorCode.HOP_COUNT_EXCEEDED, id="no hop at all"),
        pytest.param(
            {"extensions": (record(HUB_NBMA, OTHER),)}, DropReason.LOOP, ErrorCode.LOOP, id="our NBMA address"
        ),
        pytest.param({"extensions": (record(OTHER_NBMA, HUB),)}, DropReason.LOOP, ErrorCode.LOOP, id="our own address"),
        pytest.param(
            {"destination": ip_address("10.255.1.99")}, DropReason.UNREACHABLE, ErrorCode.UNREACHABLE, id="nobody"
        ),
        pytest.param({"destination": OWN_HOST}, DropReason.UNREACHABLE, ErrorCode.UNREACHABLE, id="back to the asker"),
    ],
)
def test_what_cannot_go_on_is_told_to_its_source(
    changed: dict[str, object], reason: DropReason, code: ErrorCode
) -> None:
    actions = ask_through(hub_with_clients(), **changed)
    assert reasons(actions) == [reason]
    error = first_sent(actions)
    assert (error.kind, error.error_code, error.extensions) == (ERROR, code, ())
    assert sent(actions) == [(ERROR, OWN_NBMA)]
    assert error.destination_protocol == OWN
    assert decode_head(error.payload).request_id == 5


def test_towards_a_client_whose_sa_is_down_nothing_is_sent_and_nothing_is_said() -> None:
    """An error would be remembered as a refusal; silence is asked again."""
    bench = hub_with_clients()
    bench.down(PEER_NBMA)
    actions = ask_through(bench)
    assert reasons(actions) == [DropReason.NO_SECURITY]
    assert sent(actions) == []


@pytest.mark.parametrize("kind", [REPLY, Kind.ERROR_INDICATION, Kind.TRAFFIC_INDICATION, Kind.PURGE_REPLY])
def test_no_error_is_sent_about_a_reply_or_an_indication(kind: Kind) -> None:
    bench = hub_with_clients()
    object.__setattr__(bench.settings, "authentication", b"secret")
    cies = () if kind in (Kind.ERROR_INDICATION, Kind.TRAFFIC_INDICATION) else (entry(),)
    packet = replace(question(OTHER, OTHER_NBMA, OWN), kind=kind, cies=cies, extensions=(), request_id=0, hop_count=1)
    assert sent(bench.packet(packet, OWN_NBMA)) == []


def test_an_error_about_a_forwarded_packet_finds_its_source() -> None:
    from dmvpn.nhrp.messages import error_indication

    bench = hub_with_clients()
    onward = first_sent(ask_through(bench))
    error = error_indication(bench.engine._core, HUB, onward.encode(), onward, ErrorCode.UNREACHABLE, 0)
    error = replace(error, source_nbma=PEER_NBMA, source_protocol=PEER)
    actions = bench.packet(error, PEER_NBMA)
    assert sent(actions) == [(ERROR, OWN_NBMA)]
    assert first_sent(actions).hop_count == 254


def test_an_empty_nat_extension_is_filled_for_a_client_behind_nat() -> None:
    bench = hub_with_clients()
    inside = ip_address("192.168.1.2")
    bench.packet(registration(OTHER, inside), OTHER_NBMA)
    packet = question(OTHER, inside, PEER_HOST)
    nat = first_sent(bench.packet(packet, OTHER_NBMA)).extension(CiscoNat)
    assert nat is not None
    assert [(cie.nbma, cie.protocol) for cie in nat.cies] == [(OTHER_NBMA, OTHER)]


def test_the_requester_is_where_its_nat_entry_says() -> None:
    nat = CiscoNat((entry(nbma=OTHER_NBMA, protocol=PEER),))
    packet = question(PEER, ip_address("192.168.1.2"), OWN_HOST).with_extension(nat)
    actions = spoke().packet(packet, HUB_NBMA)
    assert of(actions, WantSecurity)[0].nbma == OTHER_NBMA


def test_our_own_packet_come_back_is_a_loop() -> None:
    bench = spoke()
    packet = question(OWN, OWN_NBMA, PEER_HOST)
    assert reasons(bench.tell(Received(packet.encode(), OWN_NBMA))) == [DropReason.LOOP]


def test_without_a_sender_the_header_is_believed_and_errors_are_not_sent() -> None:
    """Kernels do not always say where a packet came from."""
    bench = hub_with_clients()
    assert sent(bench.tell(Received(question(OWN, OWN_NBMA, PEER_HOST).encode(), None))) == [(ASK, PEER_NBMA)]
    assert sent(bench.tell(Received(question(OWN, OWN_NBMA, ip_address("10.255.1.99")).encode(), None))) == []


def test_before_routing_has_converged_overlay_addresses_are_reached_by_the_hub() -> None:
    bench = spoke()
    bench.tell(RouteGone(INTERNAL))
    actions = asked(bench, OWN_HOST)
    assert (REPLY, HUB_NBMA) in sent(actions), "and not by the default route"


def test_all_that_is_sent_can_be_read() -> None:
    bench = hub_with_clients()
    ask_through(bench)
    for action in bench.said:
        if isinstance(action, Send):
            assert decode(action.octets).encode() == action.octets
    assert PEER_LAN.version == 4


def test_what_does_not_fit_with_our_record_is_dropped() -> None:
    """Octets of a peer never make the engine raise."""
    packet = question(OWN, OWN_NBMA, PEER_HOST)
    filling = Unknown(77, compulsory=False, value=bytes(PACKET_LIMIT_OCTETS - len(packet.encode()) - 4))
    packet = replace(packet, extensions=(*packet.extensions, filling))
    assert len(packet.encode()) == PACKET_LIMIT_OCTETS
    actions = hub_with_clients().packet(packet, OWN_NBMA)
    assert (sent(actions), reasons(actions)) == ([], [DropReason.OVERSIZED])
