"""What a client may have passed on by its hub: its own words only, whatever its packets say they are."""

from dataclasses import replace
from ipaddress import ip_address, ip_network
from typing import Any

import pytest
from engine_bench import (
    CANDIDATES,
    HUB,
    HUB_NBMA,
    OTHER,
    OTHER_NBMA,
    OWN,
    OWN_LAN,
    OWN_NBMA,
    PEER,
    PEER_HOST,
    PEER_NBMA,
    Bench,
    answer,
    endpoint,
    entry,
    first_sent,
    hub,
    hub_with_clients,
    of,
    question,
    reasons,
    registration,
    sent,
    spoke,
)
from test_engine_server import purge

from dmvpn.nhrp.candidates import Candidates
from dmvpn.nhrp.events import Authorise, DropReason, Egress, Endpoint, HubSetting, SecurityUp
from dmvpn.nhrp.extensions import CiscoNat, Unknown
from dmvpn.nhrp.messages import error_indication
from dmvpn.nhrp.numbers import CieCode, ErrorCode, Kind
from dmvpn.nhrp.packet import Packet

TRANSPORT = (ip_network("100.64.0.0/16"),)
STRANGE = Endpoint(ip_address("8.8.8.8"), 53)
HOME = ip_address("192.168.1.2")
NOT_AUTHORISED, MALFORMED = DropReason.NOT_AUTHORISED, DropReason.MALFORMED
REFUSED = CieCode.ADMINISTRATIVELY_PROHIBITED


def three_clients(**changed: Any) -> Bench:
    """OTHER is the impostor. Nothing but its own binding is certified for anybody beyond this."""
    bench = hub_with_clients(**changed)
    bench.up(OTHER_NBMA)
    bench.packet(registration(OTHER, OTHER_NBMA), OTHER_NBMA)
    bench.refuses = {str(OWN), str(PEER), f"{PEER_HOST}/32"}
    return bench


def nat(*rows: tuple[Any, Any]) -> CiscoNat:
    return CiscoNat(tuple(entry(nbma=nbma, protocol=protocol) for protocol, nbma in rows))


ASK = question(OTHER, OTHER_NBMA, PEER_HOST)
REPLY = answer(question(OWN, OWN_NBMA, OTHER), nbma=OTHER_NBMA, protocol=OTHER, prefix=32)
PURGE = replace(purge(OTHER, OTHER_NBMA, OWN_LAN), destination_protocol=PEER)
PURGE_REPLY = replace(purge(OWN, OWN_NBMA, OWN_LAN), kind=Kind.PURGE_REPLY, destination_protocol=OTHER)
REGISTRATION = registration(OTHER, OTHER_NBMA, destination_protocol=PEER)
REGISTRATION_REPLY = replace(registration(OWN, OWN_NBMA), kind=Kind.REGISTRATION_REPLY, destination_protocol=OTHER)


def error(about: Packet, **changed: Any) -> Packet:
    packet = error_indication(hub().engine._core, HUB, about.encode(), about, ErrorCode.UNREACHABLE, 0)
    return replace(packet, source_nbma=OTHER_NBMA, source_protocol=OTHER, **changed)


ERROR = error(question(OWN, OWN_NBMA, OTHER))


@pytest.mark.parametrize(
    "packet",
    [
        pytest.param(ASK, id="a question"),
        pytest.param(replace(ASK, cies=(entry(nbma=OTHER_NBMA, protocol=OTHER),)), id="a question that says who"),
        pytest.param(ASK.with_extension(nat((OTHER, OTHER_NBMA))), id="where it is behind NAT"),
        pytest.param(REPLY, id="an answer"),
        pytest.param(replace(REPLY, cies=(entry(CieCode.NO_BINDING),)), id="no, without an address"),
        pytest.param(REPLY.with_extension(nat((OWN, HOME), (OTHER, OTHER_NBMA))), id="the requester's row echoed"),
        pytest.param(PURGE, id="a purge"),
        pytest.param(PURGE_REPLY, id="the reply to a purge"),
        pytest.param(REGISTRATION, id="a registration further on"),
        pytest.param(REGISTRATION.with_extension(nat((PEER, PEER_NBMA))), id="whose NAT extension names the server"),
        pytest.param(ERROR, id="an error"),
    ],
)
def test_a_client_is_passed_on_with_what_it_says_of_itself(packet: Packet) -> None:
    bench = three_clients()
    before = len(bench.questions)
    actions = bench.packet(packet, OTHER_NBMA)
    assert reasons(actions) == []
    assert [kind for kind, _ in sent(actions)] == [packet.kind]
    assert len(bench.questions) == before, "nothing that its certificate would have to say"


@pytest.mark.parametrize(
    ("packet", "reason"),
    [
        pytest.param(replace(ASK, source_nbma=PEER_NBMA), NOT_AUTHORISED, id="question: from another's address"),
        pytest.param(replace(ASK, source_nbma=HUB_NBMA), NOT_AUTHORISED, id="question: from the hub's"),
        pytest.param(replace(ASK, source_protocol=OWN), NOT_AUTHORISED, id="question: in another's name"),
        pytest.param(replace(ASK, cies=(entry(nbma=OWN_NBMA),)), NOT_AUTHORISED, id="question: entry at another's"),
        pytest.param(replace(ASK, cies=(entry(protocol=OWN),)), NOT_AUTHORISED, id="question: entry for another"),
        pytest.param(ASK.with_extension(nat((OTHER, OWN_NBMA))), NOT_AUTHORISED, id="question: NAT row to another"),
        pytest.param(ASK.with_extension(nat((OWN, OTHER_NBMA))), NOT_AUTHORISED, id="question: NAT row for another"),
        pytest.param(ASK.with_extension(nat((None, OTHER_NBMA))), NOT_AUTHORISED, id="question: NAT row for nobody"),
        pytest.param(
            replace(ASK, extensions=(*ASK.extensions, nat((OTHER, OWN_NBMA)))),
            NOT_AUTHORISED,
            id="question: second NAT extension",
        ),
        pytest.param(answer(question(OWN, OWN_NBMA, PEER_HOST)), NOT_AUTHORISED, id="answer: the egress's own"),
        pytest.param(
            replace(REPLY, cies=(entry(nbma=PEER_NBMA, protocol=OTHER),)), NOT_AUTHORISED, id="answer: at another's"
        ),
        pytest.param(
            replace(REPLY, cies=(entry(nbma=OTHER_NBMA, protocol=PEER),)), NOT_AUTHORISED, id="answer: for another"
        ),
        pytest.param(
            replace(REPLY, cies=(*REPLY.cies, entry(nbma=OTHER_NBMA, protocol=PEER))),
            NOT_AUTHORISED,
            id="answer: second entry",
        ),
        pytest.param(replace(REPLY, cies=(entry(protocol=OTHER),)), NOT_AUTHORISED, id="answer: at the requester's"),
        pytest.param(replace(REPLY, cies=()), MALFORMED, id="answer: without an entry"),
        pytest.param(REPLY.with_extension(nat((OTHER, PEER_NBMA))), NOT_AUTHORISED, id="answer: NAT row to another"),
        pytest.param(
            replace(REPLY, destination_protocol=PEER_HOST), NOT_AUTHORISED, id="answer: what another was asked"
        ),
        pytest.param(
            replace(REPLY, destination_protocol=PEER_HOST, cies=(entry(REFUSED, 0, 0, OTHER_NBMA, OTHER),)),
            NOT_AUTHORISED,
            id="answer: no, in another's place",
        ),
        pytest.param(replace(PURGE, source_nbma=OWN_NBMA), NOT_AUTHORISED, id="purge: of another's answers"),
        pytest.param(replace(PURGE, source_protocol=OWN), NOT_AUTHORISED, id="purge: in another's name"),
        pytest.param(
            replace(PURGE, cies=(entry(nbma=OWN_NBMA, protocol=OWN),)), NOT_AUTHORISED, id="purge: entry at another's"
        ),
        pytest.param(replace(PURGE_REPLY, destination_protocol=PEER), NOT_AUTHORISED, id="purge reply: another's"),
        pytest.param(replace(REGISTRATION, source_nbma=OWN_NBMA), NOT_AUTHORISED, id="registration: of another"),
        pytest.param(
            replace(REGISTRATION, cies=(entry(protocol=OWN),)), NOT_AUTHORISED, id="registration: another's too"
        ),
        pytest.param(REGISTRATION_REPLY, NOT_AUTHORISED, id="registration reply: a client serves nobody"),
        pytest.param(replace(ERROR, source_nbma=PEER_NBMA), NOT_AUTHORISED, id="error: from another's address"),
        pytest.param(replace(ERROR, source_protocol=PEER), NOT_AUTHORISED, id="error: in another's name"),
        pytest.param(
            error(question(OWN, OWN_NBMA, PEER_HOST)), NOT_AUTHORISED, id="error: about another's destination"
        ),
        pytest.param(replace(ERROR, payload=b"\x00" * 40), MALFORMED, id="error: about nothing"),
    ],
)
def test_an_impostor_is_not_passed_on_and_counted(packet: Packet, reason: DropReason) -> None:
    bench = three_clients()
    actions = bench.packet(packet, OTHER_NBMA)
    assert sent(actions) == []
    assert reasons(actions) == [reason]
    assert bench.view().dropped[reason] == 1


def test_a_client_that_is_not_registered_yet_is_asked_of_its_certificate() -> None:
    for refuses, expected in ((set(), [(Kind.RESOLUTION_REQUEST, PEER_NBMA)]), ({str(OTHER)}, [])):
        bench = hub_with_clients()
        bench.up(OTHER_NBMA)
        bench.refuses = refuses
        assert sent(bench.packet(ASK, OTHER_NBMA)) == expected


def test_who_is_not_on_the_way_may_answer_what_its_certificate_claims() -> None:
    """Routing may have moved between question and answer."""
    bench = three_clients()
    bench.refuses = set()
    actions = bench.packet(replace(REPLY, destination_protocol=PEER_HOST), OTHER_NBMA)
    assert sent(actions) == [(Kind.RESOLUTION_REPLY, OWN_NBMA)]
    question_put = of(actions, Authorise)[0]
    assert (question_put.protocol, question_put.prefix) == (OTHER, ip_network(f"{PEER_HOST}/32"))


def test_hubs_vouch_for_what_they_pass_on_to_each_other() -> None:
    bench = hub_with_clients(hubs=(HubSetting("hub2", (OTHER,), OTHER_NBMA, ours=True),))
    packet = question(ip_address("10.255.1.77"), ip_address("100.64.0.77"), PEER_HOST)
    actions = bench.packet(packet, OTHER_NBMA)
    assert sent(actions) == [(Kind.RESOLUTION_REQUEST, PEER_NBMA)]
    assert first_sent(actions).candidates() == CANDIDATES, "the first hub has put what it saw"


# ---------------------------------------------------------------- behind NAT: what it registered


@pytest.mark.parametrize(
    ("claimed", "transport", "passes"),
    [
        pytest.param(HOME, (), True, id="an address at home"),
        pytest.param(HOME, (ip_network("198.18.0.0/15"),), True, id="our transport is elsewhere"),
        pytest.param(HOME, TRANSPORT, False, id="ours are never behind NAT"),
        pytest.param(PEER_NBMA, (), False, id="a client's"),
        pytest.param(HUB_NBMA, (), False, id="the hub's"),
        pytest.param(ip_address("100.64.0.2"), (), False, id="another hub's"),
        pytest.param(ip_address("198.18.0.9"), (ip_network("198.18.0.0/15"),), False, id="one of our transport"),
    ],
)
def test_a_registered_address_counts_unless_it_can_be_anothers(claimed: Any, transport: Any, *, passes: bool) -> None:
    other_hub = HubSetting("hub2", (ip_address("10.255.1.2"),), ip_address("100.64.0.2"), ours=True)
    bench = hub_with_clients(transport=transport, hubs=(other_hub,))
    bench.up(OTHER_NBMA)
    bench.packet(registration(OTHER, claimed), OTHER_NBMA)
    for packet in (replace(PURGE, source_nbma=claimed), replace(ASK, source_nbma=claimed)):
        actions = bench.packet(packet, OTHER_NBMA)
        assert bool(sent(actions)) is passes
        assert reasons(actions) == ([] if passes else [NOT_AUTHORISED])


# ---------------------------------------------------------------- candidates


@pytest.mark.parametrize("packet", [ASK, REPLY], ids=["a question", "an answer"])
def test_the_hub_tells_where_it_sees_a_client_whatever_the_client_says(packet: Packet) -> None:
    said = Candidates((STRANGE,) * 8, CANDIDATES.private, observed=STRANGE)
    last = Unknown(77, compulsory=False, value=b"x")
    packet = packet.with_candidates(said)
    packet = replace(packet, extensions=(*packet.extensions, last, said.to_vendor()))
    onward = first_sent(three_clients().packet(packet, OTHER_NBMA))
    assert onward.candidates() == Candidates((endpoint(OTHER_NBMA),), CANDIDATES.private)
    assert [type(one) for one in onward.extensions] == [type(one) for one in packet.extensions[:-1]], "in their order"


def test_a_client_whose_ike_was_not_seen_is_nowhere() -> None:
    bench = three_clients()
    bench.tell(SecurityUp(OTHER_NBMA, None))
    assert first_sent(bench.packet(ASK, OTHER_NBMA)).candidates() == Candidates()


def test_a_foreign_client_gets_no_candidates() -> None:
    packet = replace(ASK, extensions=(CiscoNat(),))
    assert first_sent(three_clients().packet(packet, OTHER_NBMA)).candidates() is None


# ---------------------------------------------------------------- replies to purges


def test_a_purge_is_settled_by_whom_it_went_to() -> None:
    bench = spoke()
    bench.packet(question(PEER, PEER_NBMA, ip_address("10.1.11.10")), HUB_NBMA)
    bench.route(OWN_LAN, Egress.OVERLAY, HUB)
    asked = bench.last_sent(Kind.PURGE_REQUEST)
    reply = replace(asked, kind=Kind.PURGE_REPLY)
    assert reasons(bench.packet(replace(reply, destination_protocol=OTHER), HUB_NBMA)) == [DropReason.UNSOLICITED]
    assert reasons(bench.packet(reply, HUB_NBMA)) == []
    assert asked.destination_protocol == PEER
