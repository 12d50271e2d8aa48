"""Where two machines meet, and the second branch of rare conditions."""

from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest
from engine_bench import (
    EMPTY,
    HUB,
    HUB_NBMA,
    HUB_SETTING,
    OTHER,
    OTHER_NBMA,
    OVERLAY,
    OWN,
    OWN_HOST,
    OWN_NBMA,
    PEER,
    PEER_HOST,
    PEER_LAN,
    PEER_NBMA,
    SPOKE_SETTINGS,
    Bench,
    answer,
    endpoint,
    entry,
    first_sent,
    hub,
    hub_with_clients,
    indication,
    names,
    of,
    question,
    reasons,
    registered,
    registration,
    sent,
    spoke,
)
from shortcut_bench import NEGATIVE, PROBING, RESOLVING, UP, answered, asked_for, bench_in, probed, row, sa_down, used

from dmvpn.nhrp.cache import BINDINGS_PER_NBMA_LIMIT
from dmvpn.nhrp.events import (
    BindNeighbour,
    DropReason,
    Egress,
    Forget,
    InstallRoute,
    Refused,
    RestartSecurity,
    RouteGone,
    SecurityUp,
    WantSecurity,
)
from dmvpn.nhrp.extensions import CiscoNat
from dmvpn.nhrp.numbers import Kind, ResolutionFlag
from dmvpn.nhrp.packet import Packet
from dmvpn.nhrp.resolution import STRAIGHT_LIMIT
from dmvpn.nhrp.shortcut import WhyNot
from dmvpn.nhrp.snapshot import SavedHub, SavedShortcut, Snapshot


def test_a_path_that_dies_unwanted_lets_the_sa_go_instead_of_restarting_it() -> None:
    bench = bench_in(UP)
    used(bench)
    for second in range(700):
        bench.wait(1.0)
        probed(bench)
        if second == 402:
            answered(bench)
    actions = bench.wait(10.0)
    done = [name for name in names(actions) if name != "RESOLUTION_REQUEST"]
    assert done == ["RemoveRoute", "UnbindNeighbour", "ReleaseSecurity"]
    assert of(actions, RestartSecurity) == []
    assert row(bench) is None


def test_a_peer_answers_until_two_probes_in_a_row_were_not() -> None:
    """What a router's other clouds ask before they blame the SA that they share with this one."""
    bench = bench_in(PROBING)
    engine = bench.engine
    assert engine.needs(PEER_NBMA)
    assert not engine.answers(PEER_NBMA), "never yet"
    probed(bench)
    assert engine.answers(PEER_NBMA)
    bench.silent = True
    for answers in (True, False):
        bench.wait(1.0)
        assert engine.answers(PEER_NBMA) is answers
    probed(bench)
    assert engine.answers(PEER_NBMA)
    bench.down(PEER_NBMA)
    assert not engine.answers(PEER_NBMA)
    assert engine.needs(HUB_NBMA)
    assert not engine.needs(OTHER_NBMA)


def test_while_no_hub_is_up_that_is_the_reason() -> None:
    bench = bench_in(UP)
    bench.down(HUB_NBMA)
    sa_down(bench)
    bench.wait(1.0)
    assert (row(bench).state, row(bench).why) == (RESOLVING, WhyNot.NO_HUB)


def test_our_own_address_behind_nat_goes_into_our_requests_and_answers() -> None:
    bench = spoke(hubs=(replace(HUB_SETTING, ours=False),))
    bench.hub_lives = False
    public = ip_address("203.0.113.9")
    bench.wait(200.0)
    request = bench.last_sent(Kind.REGISTRATION_REQUEST)
    nat = request.extension(CiscoNat)
    assert nat is not None
    second = entry(prefix=32, nbma=public, protocol=OWN)
    bench.packet(registered(request).with_extension(replace(nat, cies=(*nat.cies, second))), HUB_NBMA)
    bench.packet(indication(), HUB_NBMA)
    told = asked_for(bench).extension(CiscoNat)
    assert told is not None
    assert [(cie.nbma, cie.protocol) for cie in told.cies] == [(public, OWN)]
    assert asked_for(bench).candidates() is None, "no candidates where all hubs are foreign"
    reply = first_sent(bench.packet(question(PEER, PEER_NBMA, OWN_HOST), HUB_NBMA)[1:])
    assert reply.extension(CiscoNat) == told


@pytest.mark.parametrize("nat", [None, ()], ids=["without a NAT extension", "with an empty one"])
def test_a_foreign_hub_that_sees_no_nat_says_nothing(nat: tuple[()] | None) -> None:
    bench = spoke(hubs=(replace(HUB_SETTING, ours=False),))
    request = bench.last_sent(Kind.REGISTRATION_REQUEST)
    reply = registered(request)
    reply = reply.without_extension(CiscoNat) if nat is None else reply.with_extension(CiscoNat())
    bench.packet(reply, HUB_NBMA)
    assert bench.engine._core.natted_as is None


def test_a_request_by_a_relation_of_ours_is_not_bound() -> None:
    bench = spoke()
    actions = bench.packet(question(OWN, PEER_NBMA, OWN_HOST), HUB_NBMA)
    assert of(actions, WantSecurity) == []


def test_requesters_of_one_peer_are_bounded() -> None:
    bench = spoke()
    bench.up(PEER_NBMA)
    for number in range(BINDINGS_PER_NBMA_LIMIT):
        bench.packet(question(ip_address(f"10.255.1.{100 + number}"), PEER_NBMA, OWN_HOST), HUB_NBMA)
    assert reasons(bench.packet(question(PEER, PEER_NBMA, OWN_HOST), HUB_NBMA)) == [DropReason.LIMIT]


def test_requesters_are_forgotten_by_prefix() -> None:
    bench = spoke()
    bench.up(PEER_NBMA)
    bench.packet(question(PEER, PEER_NBMA, OWN_HOST), HUB_NBMA)
    assert names(bench.tell(Forget(PEER_LAN))) == []
    assert names(bench.tell(Forget(OVERLAY))) == ["ReleaseSecurity"]


def test_a_requester_that_asks_from_two_places_is_tried_at_the_later_only() -> None:
    bench = spoke()
    bench.packet(question(PEER, PEER_NBMA, OWN_HOST), HUB_NBMA)
    actions = bench.packet(question(PEER, OTHER_NBMA, OWN_HOST), HUB_NBMA)
    assert names(actions)[:2] == ["ReleaseSecurity", "WantSecurity"]
    assert names(bench.up(PEER_NBMA)) == []
    assert names(bench.up(OTHER_NBMA)) == ["Authorise"]


def test_a_verdict_for_a_requester_that_was_given_up_meanwhile_binds_nothing() -> None:
    bench = spoke(security_wait_s=5.0)
    bench.silent = True
    bench.up(PEER_NBMA)
    bench.packet(question(PEER, PEER_NBMA, OWN_HOST), HUB_NBMA)
    bench.wait(6.0)
    bench.answer_all()
    assert [kind for kind in bench.view().bindings if kind.kind == "requester"] == []


def test_a_verdict_for_a_shortcut_that_was_forgotten_meanwhile_installs_nothing() -> None:
    bench = bench_in(RESOLVING)
    bench.silent = True
    bench.up(PEER_NBMA)
    answered(bench)
    bench.tell(Forget(PEER_LAN))
    assert names(bench.answer_all()) == []


def test_purges_are_passed_on_too() -> None:
    bench = hub_with_clients()
    purge = Packet(Kind.PURGE_REQUEST, 255, 0, 9, OWN_NBMA, OWN, PEER, (entry(prefix=24, protocol=OWN_HOST),))
    assert sent(bench.packet(purge, OWN_NBMA)) == [(Kind.PURGE_REQUEST, PEER_NBMA)]


def test_an_answer_is_taken_back_by_the_hub_and_not_where_there_is_no_way() -> None:
    for hub_is_up, expected in ((True, [(Kind.PURGE_REQUEST, HUB_NBMA)]), (False, [])):
        bench = spoke()
        bench.packet(question(PEER, PEER_NBMA, OWN_HOST), HUB_NBMA)
        if not hub_is_up:
            bench.down(HUB_NBMA)
        assert sent(bench.tell(RouteGone(ip_network("10.1.11.0/24")))) == expected


def test_an_answer_made_of_several_networks_holds_while_one_is_left() -> None:
    bench = spoke(serves=(ip_network("10.1.8.0/21"),))
    bench.tell(RouteGone(ip_network("10.0.0.0/8")))
    bench.route("10.1.0.0/16", Egress.ELSEWHERE, device="lan1")
    bench.packet(question(PEER, PEER_NBMA, ip_address("10.1.9.1")), HUB_NBMA)
    assert sent(bench.tell(RouteGone(ip_network("10.1.0.0/16")))) == []


def test_a_refused_neighbour_of_nobody_is_nothing() -> None:
    assert spoke().tell(Refused(BindNeighbour(OTHER, OTHER_NBMA), "no")) == []
    assert spoke().tell(Refused(InstallRoute(PEER_LAN, PEER, None), "no")) == []


def test_a_client_of_two_addresses_that_goes_takes_both_along() -> None:
    bench = hub()
    bench.up(OWN_NBMA)
    bench.packet(registration(OWN, OWN_NBMA, cies=(entry(), entry(protocol=OTHER))), OWN_NBMA)
    assert names(bench.down(OWN_NBMA)) == ["UnbindNeighbour"] * 2
    assert names(bench.up(OWN_NBMA)) == ["BindNeighbour"] * 2


def test_an_expired_binding_whose_sa_was_down_is_dropped_quietly() -> None:
    bench = hub_with_clients()
    bench.down(OWN_NBMA)
    assert names(bench.wait(601.0)) == ["UnbindNeighbour"], "that of the other client"


def test_a_hub_setting_without_an_address_of_our_family_is_not_registered_with() -> None:
    v6_only = replace(HUB_SETTING, protocol=(ip_address("fd00::1"),))
    bench = Bench(SPOKE_SETTINGS, hubs=(v6_only,))
    bench.start()
    assert sent(bench.up(HUB_NBMA)) == []


def test_inputs_about_strangers_are_nothing() -> None:
    bench = spoke()
    assert bench.tell(SecurityUp(OTHER_NBMA, endpoint(OTHER_NBMA))) == []
    assert bench.down(OTHER_NBMA) == []


def test_a_snapshot_may_name_hubs_that_are_configured_no_more_and_foreign_ones_are_not_probed() -> None:
    snapshot = Snapshot(1, (), (), (SavedHub(OTHER_NBMA, None), SavedHub(HUB_NBMA, None)))
    bench = Bench(SPOKE_SETTINGS, restored=snapshot, hubs=(replace(HUB_SETTING, ours=False),))
    assert names(bench.start()) == ["BindNeighbour", "WantSecurity"]
    assert sent(bench.wait(3.0)) == []
    assert [hub.is_up for hub in bench.view().hubs] == [True]


def test_a_foreign_peers_shortcut_is_adopted_without_probes() -> None:
    saved = SavedShortcut(
        PEER_HOST, PEER_LAN, PEER, PEER_NBMA, ours=False, next_hop_only=False, holding_time_s=600.0, remaining_s=500.0
    )
    bench = Bench(SPOKE_SETTINGS, restored=Snapshot(1, (), (saved,), ()))
    assert names(bench.start()) == ["WantSecurity", "BindNeighbour", "InstallRoute", "WantSecurity"]
    assert sent(bench.wait(5.0)) == []


def test_straight_answers_are_remembered_up_to_a_bound() -> None:
    bench = spoke()
    bench.up(PEER_NBMA)
    for number in range(STRAIGHT_LIMIT + 2):
        source = ip_address(int(ip_address("10.255.0.0")) + number)
        bench.packet(question(source, PEER_NBMA, OWN_HOST, flags=ResolutionFlag.A, extensions=EMPTY), HUB_NBMA)
    assert len(bench.engine._machines.resolution._straight) == STRAIGHT_LIMIT


def test_behind_its_own_nat_entry_others_are_passed_over() -> None:
    nat = CiscoNat((entry(nbma=OTHER_NBMA, protocol=OTHER), entry(nbma=None, protocol=PEER)))
    packet = question(PEER, PEER_NBMA, OWN_HOST).with_extension(nat)
    assert of(spoke().packet(packet, HUB_NBMA), WantSecurity)[0].nbma == PEER_NBMA
    bench = bench_in(RESOLVING)
    bench.packet(answer(asked_for(bench)).with_extension(nat), HUB_NBMA)
    assert row(bench).nbma == PEER_NBMA


def test_without_any_route_the_prefix_is_as_offered() -> None:
    bench = bench_in(RESOLVING)
    bench.tell(RouteGone(ip_network("10.0.0.0/8")))
    answered(bench)
    bench.up(PEER_NBMA)
    (install,) = of(probed(bench), InstallRoute)
    assert install.prefix == PEER_LAN


def test_what_became_negative_elsewhere_gives_way_to_a_shortcut_of_the_same_prefix() -> None:
    bench = bench_in(UP)
    bench.tell(Refused(InstallRoute(PEER_LAN, PEER, None), "no such device"))
    assert row(bench).state is NEGATIVE
    other = ip_address("10.1.12.77")
    assert names(bench.packet(indication(destination=other), HUB_NBMA)) == [], "the prefix was vouched for"


def test_a_reply_from_who_answers_for_two_only_reads_the_first_entry() -> None:
    bench = bench_in(RESOLVING)
    reply = answer(asked_for(bench))
    both = (*reply.cies, entry(prefix=24, nbma=OTHER_NBMA, protocol=OTHER))
    bench.packet(replace(reply, cies=both), HUB_NBMA)
    assert (row(bench).gateway, row(bench).nbma) == (PEER, PEER_NBMA)


def test_hubs_are_asked_in_the_order_of_the_settings() -> None:
    second = replace(HUB_SETTING, name="hub2", protocol=(OTHER,), nbma=OTHER_NBMA)
    bench = Bench(SPOKE_SETTINGS, hubs=(HUB_SETTING, second))
    bench.start()
    for nbma in (OTHER_NBMA, HUB_NBMA):
        bench.up(nbma)
        bench.packet(registered(bench.last_sent(Kind.REGISTRATION_REQUEST, nbma)), nbma)
    assert list(bench.engine._core.hubs_up) == [HUB_NBMA, OTHER_NBMA]
    assert bench.engine._core.next_hop(PEER) == HUB_NBMA
    bench.down(HUB_NBMA)
    assert bench.engine._core.next_hop(PEER) == OTHER_NBMA
    assert bench.engine._core.next_hop(HUB) == OTHER_NBMA


def test_a_second_question_that_is_quicker_takes_the_place_of_one_that_was_lost() -> None:
    bench = bench_in(RESOLVING)
    second = ip_address("10.1.12.77")
    bench.packet(indication(destination=second), HUB_NBMA)
    answered(bench)
    bench.up(PEER_NBMA)
    probed(bench)
    sa_down(bench)
    bench.packet(answer(asked_for(bench, second)), HUB_NBMA)
    bench.up(PEER_NBMA)
    probed(bench)
    assert [(shortcut.destination, shortcut.state) for shortcut in bench.view().shortcuts] == [(second, UP)]
