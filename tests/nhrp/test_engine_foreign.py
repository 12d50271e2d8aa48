"""Between our own routers and other vendors: whom each is told to be where, and when the hub stands between."""

from dataclasses import replace
from ipaddress import ip_address, ip_network
from typing import Any

import pytest
from engine_bench import (
    CANDIDATES,
    HUB,
    HUB_NBMA,
    HUB_SETTING,
    OTHER,
    OWN,
    OWN_HOST,
    OWN_NBMA,
    PEER,
    PEER_HOST,
    PUBLIC,
    Bench,
    answer,
    entry,
    first_sent,
    hub,
    of,
    question,
    reasons,
    registration,
    sent,
    spoke,
)
from shortcut_bench import asked_for, indicated, row

from dmvpn.nhrp.events import BindNeighbour, DropReason, InstallRoute, SecurityUp, WantSecurity
from dmvpn.nhrp.extensions import CiscoNat, ResponderAddress
from dmvpn.nhrp.numbers import Kind
from dmvpn.nhrp.packet import Packet
from dmvpn.nhrp.shortcut import ShortcutState, WhyNot

TRANSPORT = (ip_network("100.64.0.0/16"),)
OWN_UNDERLAY = ip_address("198.51.100.11")
HUB_UNDERLAY = ip_address("198.51.100.1")
FOREIGN_NBMA = ip_address("192.0.2.12")  # PEER's: a router of another vendor
ELSEWHERE = ip_address("192.0.2.99")


def our_spoke(**changed: Any) -> Bench:
    settings = {"transport": TRANSPORT, "underlay_nbma": OWN_UNDERLAY, **changed}
    return spoke(**settings)


def mixed_hub(**changed: Any) -> Bench:
    """OWN is one of ours, seen at 198.51.100.11; PEER is foreign."""
    bench = hub(transport=TRANSPORT, underlay_nbma=HUB_UNDERLAY, **changed)
    bench.up(OWN_NBMA)
    bench.packet(registration(OWN, OWN_NBMA), OWN_NBMA)
    bench.tell(SecurityUp(FOREIGN_NBMA, None))
    foreign = registration(PEER, FOREIGN_NBMA)
    bench.packet(foreign.without_candidates(), FOREIGN_NBMA)
    return bench


def rows(packet: Packet) -> list[tuple[Any, Any]]:
    nat = packet.extension(CiscoNat)
    return [] if nat is None else [(cie.protocol, cie.nbma) for cie in nat.cies]


# ---------------------------------------------------------------- registering


@pytest.mark.parametrize(
    ("ours", "hub_nbma", "called"),
    [
        pytest.param(True, HUB_NBMA, OWN_NBMA, id="with a hub of ours: the transport address"),
        pytest.param(False, HUB_UNDERLAY, OWN_UNDERLAY, id="with a foreign hub: the underlay address"),
    ],
)
def test_a_spoke_registers_with_the_address_that_its_hub_can_reach(*, ours: bool, hub_nbma: Any, called: Any) -> None:
    setting = replace(HUB_SETTING, nbma=hub_nbma, ours=ours)
    bench = our_spoke(hubs=(setting,))
    bench.up(hub_nbma)
    request = bench.last_sent(Kind.REGISTRATION_REQUEST, hub_nbma)
    assert request.source_nbma == called
    assert (request.candidates() is not None) is ours


def test_the_answer_of_a_foreign_hub_is_known_as_ours() -> None:
    bench = our_spoke(hubs=(replace(HUB_SETTING, nbma=HUB_UNDERLAY, ours=False),))
    request = first_sent(bench.up(HUB_UNDERLAY))
    reply = replace(request, kind=Kind.REGISTRATION_REPLY, cies=(entry(),))
    bench.packet(reply, HUB_UNDERLAY)
    assert bench.view().hubs[0].is_up


def test_a_hub_answers_each_client_with_the_address_it_knows() -> None:
    bench = mixed_hub()
    for client, nbma, called in ((OWN, OWN_NBMA, HUB_NBMA), (PEER, FOREIGN_NBMA, HUB_UNDERLAY)):
        reply = first_sent(bench.packet(registration(client, nbma, 2), nbma))
        responder = reply.extension(ResponderAddress)
        assert responder is not None
        assert responder.cie is not None
        assert responder.cie.nbma == called


# ---------------------------------------------------------------- the hub between the two


def test_a_question_of_ours_reaches_a_foreign_router_with_an_address_it_can_use() -> None:
    bench = mixed_hub()
    mine = CiscoNat((entry(nbma=ip_address("198.51.100.11"), protocol=OWN),))
    onward = first_sent(bench.packet(question(OWN, OWN_NBMA, PEER_HOST).with_extension(mine), OWN_NBMA))
    assert onward.kind is Kind.RESOLUTION_REQUEST
    assert rows(onward) == [(OWN, ip_address("198.51.100.11"))]
    assert onward.candidates() is None


def test_nobody_of_ours_may_say_that_it_is_where_its_ike_does_not_come_from() -> None:
    bench = mixed_hub()
    lie = CiscoNat((entry(nbma=ELSEWHERE, protocol=OWN),))
    actions = bench.packet(question(OWN, OWN_NBMA, PEER_HOST).with_extension(lie), OWN_NBMA)
    assert sent(actions) == []
    assert reasons(actions) == [DropReason.NOT_AUTHORISED]


def test_the_hub_answers_in_place_of_a_foreign_router_that_cannot_reach_the_one_who_asks() -> None:
    """A spoke on the userspace plane: to a foreign router its transport address would lead nowhere."""
    bench = mixed_hub()
    actions = bench.packet(question(OWN, OWN_NBMA, PEER_HOST), OWN_NBMA)
    assert sent(actions) == [(Kind.RESOLUTION_REPLY, OWN_NBMA)]
    (cie,) = first_sent(actions).cies
    assert (cie.code, cie.nbma, cie.protocol) == (0, HUB_NBMA, HUB)


def test_a_foreign_router_cannot_have_the_hub_answer_by_claiming_a_transport_address() -> None:
    bench = mixed_hub()
    bench.tell(SecurityUp(ELSEWHERE, None))
    actions = bench.packet(question(OTHER, OWN_NBMA, PEER_HOST), ELSEWHERE)
    assert Kind.RESOLUTION_REPLY not in [kind for kind, _ in sent(actions)]


@pytest.mark.parametrize(
    ("responder", "told"),
    [
        pytest.param(endpoint_seen := ip_address("198.51.100.11"), (endpoint_seen, OWN), id="one it can reach"),
        pytest.param(OWN_NBMA, (HUB_UNDERLAY, HUB), id="one it cannot: the hub itself"),
    ],
)
def test_an_answer_of_ours_reaches_a_foreign_router_readable(responder: Any, told: tuple[Any, Any]) -> None:
    bench = mixed_hub()
    asked = question(PEER, FOREIGN_NBMA, OWN_HOST).without_candidates()
    assert sent(bench.packet(asked, FOREIGN_NBMA)) == [(Kind.RESOLUTION_REQUEST, OWN_NBMA)]
    reply = answer(asked, nbma=responder, protocol=OWN)
    actions = bench.packet(reply, OWN_NBMA)
    assert sent(actions) == [(Kind.RESOLUTION_REPLY, FOREIGN_NBMA)]
    onward = first_sent(actions)
    assert [(cie.nbma, cie.protocol, cie.prefix_length) for cie in onward.cies] == [(*told, 24)]
    assert onward.candidates() is None


def test_between_ours_nothing_changes() -> None:
    bench = mixed_hub()
    bench.up(ip_address("100.64.0.13"))
    bench.packet(registration(OTHER, ip_address("100.64.0.13")), ip_address("100.64.0.13"))
    actions = bench.packet(question(OWN, OWN_NBMA, OTHER), OWN_NBMA)
    onward = first_sent(actions)
    assert (onward.kind, onward.source_nbma) == (Kind.RESOLUTION_REQUEST, OWN_NBMA)
    assert onward.candidates() is not None


# ---------------------------------------------------------------- the spoke


def test_a_spoke_says_to_its_hub_where_foreign_routers_find_it() -> None:
    """There where the hub sees its IKE, which behind NAT is not its own address."""
    bench = our_spoke()
    indicated(bench)
    request = asked_for(bench)
    assert (request.source_nbma, rows(request)) == (OWN_NBMA, [(OWN, PUBLIC.address)])


def test_one_that_foreign_routers_cannot_reach_says_nothing() -> None:
    bench = our_spoke(underlay_nbma=None)
    indicated(bench)
    assert rows(asked_for(bench)) == []


def test_a_foreign_answer_becomes_a_shortcut_without_probes_of_ours() -> None:
    bench = our_spoke()
    indicated(bench)
    reply = answer(asked_for(bench), nbma=FOREIGN_NBMA, protocol=PEER, ours=False)
    assert of(bench.packet(reply, HUB_NBMA), WantSecurity) == [WantSecurity(FOREIGN_NBMA, ())]
    actions = bench.tell(SecurityUp(FOREIGN_NBMA, None))
    assert of(actions, BindNeighbour) == [BindNeighbour(PEER, FOREIGN_NBMA)]
    assert len(of(actions, InstallRoute)) == 1
    assert sent(bench.wait(30.0)).count((Kind.RESOLUTION_REQUEST, FOREIGN_NBMA)) == 0


@pytest.mark.parametrize("where", ["127.0.0.1", "224.0.0.5", "169.254.1.1", "255.255.255.255", "10.255.1.99"])
def test_ike_is_not_sent_where_no_foreign_router_can_be(where: str) -> None:
    bench = our_spoke()
    indicated(bench)
    reply = answer(asked_for(bench), nbma=ip_address(where), protocol=PEER, ours=False)
    assert of(bench.packet(reply, HUB_NBMA), WantSecurity) == []
    assert row(bench).why is WhyNot.NO_SECURITY


def test_our_own_words_copied_into_a_reply_do_not_make_its_sender_one_of_ours() -> None:
    bench = our_spoke(transport=(), underlay_nbma=None)
    indicated(bench)
    request = asked_for(bench)
    own = request.candidates()
    assert own is not None
    assert own.public
    reply = answer(request, nbma=FOREIGN_NBMA, protocol=PEER, ours=False).with_candidates(own)
    assert of(bench.packet(reply, HUB_NBMA), WantSecurity) == [WantSecurity(FOREIGN_NBMA, ())]
    assert of(bench.tell(SecurityUp(FOREIGN_NBMA, None)), InstallRoute)


def test_who_cannot_reach_foreign_routers_stays_with_the_hub() -> None:
    bench = our_spoke(underlay_nbma=None)
    indicated(bench)
    reply = answer(asked_for(bench), nbma=FOREIGN_NBMA, protocol=PEER, ours=False)
    assert of(bench.packet(reply, HUB_NBMA), WantSecurity) == []
    assert (row(bench).state, row(bench).why) == (ShortcutState.NEGATIVE, WhyNot.NO_SECURITY)


@pytest.mark.parametrize(
    ("underlay", "named"),
    [
        pytest.param(OWN_UNDERLAY, PUBLIC.address, id="where the hub sees it"),
        pytest.param(None, OWN_NBMA, id="nowhere: the hub will stand in"),
    ],
)
def test_a_foreign_requester_is_answered_by_the_hub(underlay: Any, named: Any) -> None:
    bench = our_spoke(underlay_nbma=underlay)
    asked = question(PEER, FOREIGN_NBMA, OWN_HOST).without_candidates()
    actions = bench.packet(asked, HUB_NBMA)
    reply = first_sent(actions)
    assert (reply.kind, of(actions, WantSecurity) != []) == (Kind.RESOLUTION_REPLY, underlay is not None)
    assert reply.cies[0].nbma == named


def test_one_of_ours_is_found_by_its_transport_address_whatever_else_it_says() -> None:
    bench = our_spoke()
    asked = question(PEER, ip_address("100.64.0.12"), OWN_HOST)
    asked = asked.with_extension(CiscoNat((entry(nbma=ELSEWHERE, protocol=PEER),)))
    actions = bench.packet(asked, HUB_NBMA)
    assert [want.nbma for want in of(actions, WantSecurity)] == [ip_address("100.64.0.12")]
    assert asked.candidates() == CANDIDATES
    assert first_sent(actions).cies[0].nbma == OWN_NBMA
