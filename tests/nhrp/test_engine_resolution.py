"""nhrp.md 3.3: resolution requests at the egress and on the way. Who asks x what for."""

from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest
from engine_bench import (
    CANDIDATES,
    DEVICE,
    HUB,
    HUB_NBMA,
    OTHER,
    OTHER_NBMA,
    OWN,
    OWN_HOST,
    OWN_LAN,
    OWN_NBMA,
    PEER,
    PEER_HOST,
    PEER_NBMA,
    PRIVATE,
    Bench,
    entry,
    first_sent,
    hub,
    hub_with_clients,
    names,
    of,
    question,
    reasons,
    registration,
    sent,
    spoke,
)

from dmvpn.nhrp.cie import Cie
from dmvpn.nhrp.events import (
    Authorise,
    DropReason,
    Egress,
    OwnEndpoints,
    ReleaseSecurity,
    WantSecurity,
)
from dmvpn.nhrp.extensions import (
    CiscoNat,
    ForwardTransit,
    ResponderAddress,
    ReverseTransit,
    Unknown,
    VendorPrivate,
)
from dmvpn.nhrp.numbers import ErrorCode, Kind, ResolutionFlag

ASK, REPLY, ERROR = Kind.RESOLUTION_REQUEST, Kind.RESOLUTION_REPLY, Kind.ERROR_INDICATION
NO_BINDING = 12


def asked(bench: Bench, destination: object, sender: object = HUB_NBMA, **changed: object):
    """The peer's question, by the hub unless told."""
    return bench.packet(question(PEER, PEER_NBMA, destination, **changed), sender)


# ---------------------------------------------------------------- the egress


@pytest.mark.parametrize(
    ("routes", "serves", "destination", "prefix"),
    [
        pytest.param({}, [OWN_LAN], OWN_HOST, "10.1.11.0/24", id="the network of the route"),
        pytest.param({}, ["10.1.11.0/25"], OWN_HOST, "10.1.11.0/25", id="clamped to what it serves"),
        pytest.param({"10.1.11.0/26": "lan1"}, [OWN_LAN], OWN_HOST, "10.1.11.0/26", id="a narrower route"),
        pytest.param({"10.1.0.0/16": "lan1"}, [OWN_LAN], "10.1.11.9", "10.1.11.0/24", id="never wider than served"),
        pytest.param({"10.1.11.128/25": DEVICE}, [OWN_LAN], OWN_HOST, "10.1.11.0/25", id="a part is elsewhere"),
        pytest.param({"10.1.11.1/32": "local"}, [OWN_LAN], "10.1.11.1", "10.1.11.0/24", id="its own address there"),
        pytest.param({"10.1.11.1/32": "local"}, [OWN_LAN], OWN_HOST, "10.1.11.0/24", id="beside its own address"),
        pytest.param({"10.9.9.9/32": "local"}, ["10.9.9.9/32"], "10.9.9.9", "10.9.9.9/32", id="a loopback"),
        pytest.param({}, [OWN_LAN], OWN, "10.255.1.11/32", id="its overlay address"),
        pytest.param({}, [], OWN_HOST, None, id="serves nothing"),
        pytest.param({}, ["0.0.0.0/0"], "192.0.2.1", None, id="never by the default route"),
        pytest.param({"10.9.0.0/16": "lan1"}, [OWN_LAN], "10.9.0.1", None, id="routed but not served"),
    ],
)
def test_what_an_egress_answers(
    routes: dict[str, str], serves: list[object], destination: object, prefix: str | None
) -> None:
    bench = spoke(serves=tuple(ip_network(network) for network in serves))
    for route, device in routes.items():
        if device == DEVICE:
            bench.route(route, Egress.OVERLAY, HUB)
        else:
            bench.route(route, Egress.LOCAL if device == "local" else Egress.ELSEWHERE, device=device)
    reply = first_sent(asked(bench, ip_address(destination)))
    cie = reply.cies[0]
    assert reply.kind is REPLY
    assert cie.code == (NO_BINDING if prefix is None else 0)
    assert (cie.nbma, cie.protocol) == (OWN_NBMA, OWN)
    if prefix is not None:
        assert replace(cie, protocol=None).network(ip_address(destination)).with_prefixlen == prefix
    assert cie.holding_time_s == (0 if prefix is None else 600)


def test_the_reply_has_ciscos_flags_our_candidates_and_only_what_was_asked_with() -> None:
    bench = spoke()
    bench.tell(OwnEndpoints((PRIVATE,)))
    vendor = VendorPrivate(b"\x00\x00\x0c", b"\x01\x04GOLD")
    packet = question(PEER, PEER_NBMA, OWN_HOST).with_extension(vendor)
    packet = packet.with_extension(Unknown(99, compulsory=False, value=b"x"))
    record = ForwardTransit((entry(nbma=HUB_NBMA, protocol=HUB),))
    reply = first_sent(bench.packet(packet.with_extension(record), HUB_NBMA))
    assert reply.flags == 0xE802 | ResolutionFlag.A | ResolutionFlag.D
    assert (reply.source_nbma, reply.source_protocol, reply.request_id) == (PEER_NBMA, PEER, 5)
    assert reply.extension(ForwardTransit) == record
    assert reply.extension(ReverseTransit) == ReverseTransit()
    responder = reply.extension(ResponderAddress)
    assert responder is not None
    assert responder.cie is not None
    assert responder.cie.nbma == OWN_NBMA
    ours = reply.candidates()
    assert ours is not None
    assert (len(ours.public), ours.private) == (1, (PRIVATE,))
    assert vendor in reply.extensions
    assert reply.extension(Unknown) is None


def test_both_ends_initiate_as_soon_as_the_request_is_read() -> None:
    actions = asked(spoke(), OWN_HOST)
    assert names(actions) == ["WantSecurity", "RESOLUTION_REPLY"]
    assert of(actions, WantSecurity) == [WantSecurity(PEER_NBMA, (*CANDIDATES.public, *CANDIDATES.private))]
    assert sent(actions) == [(REPLY, HUB_NBMA)], "by the hub, while there is no SA"


def test_with_an_sa_the_reply_goes_straight_and_when_asked_again_by_the_hub() -> None:
    bench = spoke()
    bench.up(PEER_NBMA)
    assert sent(asked(bench, OWN_HOST)) == [(REPLY, PEER_NBMA)]
    assert sent(asked(bench, OWN_HOST)) == [(REPLY, HUB_NBMA)], "the same id: the first answer got lost"
    assert sent(asked(bench, OWN_HOST, request_id=6)) == [(REPLY, PEER_NBMA)]


def test_without_an_sa_or_a_hub_there_is_no_way_to_answer() -> None:
    bench = spoke()
    bench.down(HUB_NBMA)
    assert reasons(asked(bench, OWN_HOST)) == [DropReason.UNREACHABLE]


STABLE = ResolutionFlag.S


@pytest.mark.parametrize(
    ("flags", "cies", "wanted"),
    [
        pytest.param(0xC802, (entry(),), True, id="stable, held"),
        pytest.param(0xC002, (entry(),), False, id="not stable"),
        pytest.param(0xC802, (entry(holding=0),), False, id="no holding time"),
        pytest.param(0xC802, (), False, id="no entry"),
    ],
)
def test_only_a_stable_source_with_a_holding_time_is_bound(
    flags: int,
    cies: tuple[Cie, ...],
    wanted: bool,  # noqa: FBT001
) -> None:
    actions = asked(spoke(), OWN_HOST, flags=flags, cies=cies)
    assert bool(of(actions, WantSecurity)) is wanted
    assert (REPLY, HUB_NBMA) in sent(actions)


@pytest.mark.parametrize(
    ("destination", "refused", "answered"),
    [
        pytest.param(OWN, False, True, id="a probe of an authorised peer"),
        pytest.param(OWN, True, False, id="a probe of another"),
        pytest.param(OWN_HOST, False, True, id="a refresh without a hub"),
        pytest.param(OWN_HOST, True, False, id="a question of another"),
    ],
)
def test_a_direct_question_is_answered_after_its_asker_is_authorised(
    destination: object,
    refused: bool,  # noqa: FBT001
    answered: bool,  # noqa: FBT001
) -> None:
    bench = spoke()
    bench.up(PEER_NBMA)
    bench.refuses = {str(PEER)} if refused else set()
    actions = asked(bench, destination, sender=PEER_NBMA)
    assert of(actions, Authorise)[0].protocol == PEER
    assert ((REPLY, PEER_NBMA) in sent(actions)) is answered
    assert bool(reasons(actions)) is refused


def test_the_next_probe_of_a_known_peer_needs_no_question_until_its_sa_goes() -> None:
    bench = spoke()
    bench.up(PEER_NBMA)
    asked(bench, OWN, sender=PEER_NBMA)
    bench.questions.clear()
    asked(bench, OWN, sender=PEER_NBMA, request_id=6)
    assert bench.questions == []
    bench.down(PEER_NBMA)
    bench.up(PEER_NBMA)
    asked(bench, OWN, sender=PEER_NBMA, request_id=7)
    assert bench.questions != []


def test_a_hub_tells_a_client_it_has_forgotten_so_when_probed() -> None:
    bench = hub()
    bench.up(OWN_NBMA)
    probe = question(OWN, OWN_NBMA, HUB)
    assert first_sent(bench.packet(probe, OWN_NBMA)).cies[0].code == NO_BINDING
    bench.packet(registration(OWN, OWN_NBMA), OWN_NBMA)
    assert first_sent(bench.packet(replace(probe, request_id=6), OWN_NBMA)).cies[0].code == 0


def test_a_compulsory_extension_nobody_knows_is_refused_by_who_would_answer() -> None:
    unknown = (Unknown(77, compulsory=True, value=b""),)
    actions = asked(spoke(), OWN_HOST, extensions=unknown)
    assert reasons(actions) == [DropReason.COMPULSORY_EXTENSION]
    assert first_sent(actions).error_code == ErrorCode.UNRECOGNISED_EXTENSION
    bench = hub_with_clients()
    actions = bench.packet(question(OWN, OWN_NBMA, PEER_HOST, extensions=unknown), OWN_NBMA)
    assert sent(actions) == [(ASK, PEER_NBMA)], "but passed on by who is on the way"


# ---------------------------------------------------------------- the reverse binding


def requesters(bench: Bench) -> list[object]:
    return [row.protocol for row in bench.view().bindings if row.kind == "requester"]


def test_the_requester_is_bound_once_its_sa_is_up_and_it_is_authorised() -> None:
    bench = spoke()
    asked(bench, OWN_HOST)
    assert requesters(bench) == []
    assert names(bench.up(PEER_NBMA)) == ["Authorise"]
    assert requesters(bench) == [PEER]


def test_a_requester_that_may_not_have_its_address_is_let_go() -> None:
    bench = spoke()
    bench.refuses = {str(PEER)}
    asked(bench, OWN_HOST)
    assert names(bench.up(PEER_NBMA)) == ["Authorise", "ReleaseSecurity"]
    assert requesters(bench) == []


def test_a_requester_whose_sa_does_not_come_up_is_given_up() -> None:
    bench = spoke()
    asked(bench, OWN_HOST)
    assert "ReleaseSecurity" not in names(bench.wait(19.9))
    assert of(bench.wait(0.2), ReleaseSecurity) == [ReleaseSecurity(PEER_NBMA)]


def bound_requester() -> Bench:
    bench = spoke()
    bench.up(PEER_NBMA)
    asked(bench, OWN_HOST)
    assert requesters(bench) == [PEER]
    return bench


def test_a_requester_expires_and_asking_again_holds_it() -> None:
    bench = bound_requester()
    bench.wait(500.0)
    asked(bench, OWN_HOST, request_id=6)
    bench.wait(500.0)
    assert requesters(bench) == [PEER]
    assert ReleaseSecurity(PEER_NBMA) in bench.wait(101.0)
    assert requesters(bench) == []


def test_a_requester_whose_sa_went_is_forgotten_and_not_called_back() -> None:
    """It let go of us; to initiate again would make two routers keep an SA that neither uses."""
    bench = bound_requester()
    assert names(bench.down(PEER_NBMA)) == ["ReleaseSecurity"]
    assert requesters(bench) == []


def test_a_requester_that_moves_is_authorised_anew() -> None:
    bench = bound_requester()
    bench.up(OTHER_NBMA)
    bench.packet(question(PEER, OTHER_NBMA, OWN_HOST), HUB_NBMA)
    assert bench.questions[-1] == Authorise(2, OTHER_NBMA, PEER, None)
    (row,) = [row for row in bench.view().bindings if row.kind == "requester"]
    assert row.nbma == OTHER_NBMA


def test_a_requester_takes_its_binding_back() -> None:
    from test_engine_server import purge

    bench = bound_requester()
    packet = replace(purge(PEER, PEER_NBMA, f"{PEER}/32"), destination_protocol=OWN)
    assert "ReleaseSecurity" in names(bench.packet(packet, PEER_NBMA))
    assert requesters(bench) == []


# ---------------------------------------------------------------- the cache of the hub, phase 2


def test_a_hub_answers_from_its_cache_who_does_not_insist_on_authority() -> None:
    bench = hub_with_clients()
    bench.wait(100.0)
    flags = ResolutionFlag.Q | ResolutionFlag.S | ResolutionFlag.NAT
    actions = bench.packet(question(OWN, OWN_NBMA, PEER, flags=flags), OWN_NBMA)
    reply = first_sent(actions)
    assert sent(actions) == [(REPLY, OWN_NBMA)]
    assert not reply.flags & ResolutionFlag.A
    cie = reply.cies[0]
    assert (cie.nbma, cie.protocol, cie.holding_time_s) == (PEER_NBMA, PEER, 500)


def test_a_cached_client_behind_nat_is_told_with_its_real_address() -> None:
    bench = hub_with_clients()
    inside = ip_address("192.168.1.2")
    bench.packet(registration(OTHER, inside), OTHER_NBMA)
    reply = first_sent(bench.packet(question(OWN, OWN_NBMA, OTHER, flags=ResolutionFlag.NAT), OWN_NBMA))
    assert reply.cies[0].nbma == inside
    nat = reply.extension(CiscoNat)
    assert nat is not None
    assert [(cie.nbma, cie.protocol) for cie in nat.cies] == [(OTHER_NBMA, OTHER)]


def test_who_was_told_from_the_cache_is_told_when_the_binding_goes() -> None:
    bench = hub_with_clients()
    bench.packet(question(OWN, OWN_NBMA, PEER, flags=ResolutionFlag.NAT), OWN_NBMA)
    from test_engine_server import purge

    actions = bench.packet(purge(PEER, PEER_NBMA, f"{PEER}/32", flags=0x8000), PEER_NBMA)
    assert sent(actions) == [(Kind.PURGE_REQUEST, OWN_NBMA)]
    assert names(bench.wait(300.0)) == ["PURGE_REQUEST"] * 2, "three times in all"
