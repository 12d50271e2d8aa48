"""nhrp.md 3.4: shortcuts given up, refreshed, lost and expired; phase 2's next hops."""

from collections.abc import Callable
from dataclasses import replace
from ipaddress import ip_address, ip_network
from itertools import pairwise

import pytest
from engine_bench import (
    HUB,
    HUB_NBMA,
    HUB_SETTING,
    OTHER,
    OTHER_NBMA,
    OVERLAY,
    OWN,
    PEER,
    PEER_HOST,
    PEER_LAN,
    PEER_NBMA,
    Bench,
    answer,
    first_sent,
    hub,
    indication,
    names,
    of,
    reasons,
    sent,
    spoke,
)
from shortcut_bench import (
    ASK,
    AUTHORISING,
    CONNECTING,
    NEGATIVE,
    OTHER_HOST,
    PROBING,
    RESOLVING,
    UP,
    answered,
    asked_for,
    bench_in,
    probed,
    row,
    sa_down,
    sa_up,
    unreachable,
    used,
)

from dmvpn.nhrp.events import (
    Action,
    BindNeighbour,
    DropReason,
    Egress,
    Forget,
    NeighbourMissing,
    Refused,
    RemoveRoute,
    RestartSecurity,
    UnbindNeighbour,
)
from dmvpn.nhrp.numbers import Kind
from dmvpn.nhrp.shortcut import SHORTCUTS_LIMIT, ShortcutState, WhyNot

WITHDRAWN = ["RemoveRoute", "UnbindNeighbour"]


# ---------------------------------------------------------------- giving up, coming back


@pytest.mark.parametrize(
    ("state", "wait_s", "why"),
    [
        pytest.param(CONNECTING, 20.0, WhyNot.NO_SECURITY, id="no SA"),
        pytest.param(AUTHORISING, 30.0, WhyNot.NOT_AUTHORISED, id="no verdict"),
        pytest.param(PROBING, 15.0, WhyNot.NO_PROBE_ANSWER, id="no answer to a probe"),
    ],
)
def test_what_never_came_up_turns_negative_for_a_while(state: ShortcutState, wait_s: float, why: WhyNot) -> None:
    bench = bench_in(state)
    bench.silent = state is AUTHORISING
    bench.wait(wait_s + 0.1)
    assert (row(bench).state, row(bench).why) == (NEGATIVE, why)
    assert bench.view().bindings[-1].kind == "negative"
    bench.wait(180.1)
    assert row(bench) is None


def test_a_late_sa_revives_what_had_been_given_up_for_want_of_it() -> None:
    bench = bench_in(CONNECTING)
    bench.wait(20.1)
    assert row(bench).state is NEGATIVE
    assert ASK in names(sa_up(bench))
    assert row(bench).state is RESOLVING


def test_silent_probes_withdraw_the_route_first_and_restart_the_sa() -> None:
    bench = bench_in(UP)
    began = bench.now
    actions: list[Action] = []
    while not of(actions, RestartSecurity):
        actions = bench.wait(0.05)
    assert bench.now - began <= 4.0 + 0.05
    assert names(actions)[:3] == ["RemoveRoute", "UnbindNeighbour", "RestartSecurity"]
    assert (row(bench).state, row(bench).why) == (RESOLVING, WhyNot.PATH_DEAD)


def test_a_lost_probe_or_two_is_no_death() -> None:
    bench = bench_in(UP)
    for _ in range(20):
        bench.wait(2.6)
        probed(bench)
    assert row(bench).state is UP
    assert row(bench).rtt_s is not None


def test_after_a_loss_it_asks_again_with_back_off_while_it_is_wanted_and_then_forgets() -> None:
    bench = bench_in(UP)
    sa_down(bench)
    asked: list[float] = []
    while row(bench) is not None:
        if ASK in names(bench.wait(0.5)):
            asked.append(bench.now)
            unreachable(bench)
    waits = [later - earlier for earlier, later in pairwise(asked)]
    assert waits[0] <= 2.0
    assert max(waits) <= 15.5
    assert asked[-1] - asked[0] <= 600.0 + 15.5


def test_an_unused_shortcut_expires() -> None:
    bench = bench_in(UP)
    keep_alive(bench, 599.0)
    assert row(bench).state is UP
    actions = keep_alive(bench, 2.0)
    assert names(actions)[-3:] == [*WITHDRAWN, "ReleaseSecurity"] or row(bench) is None


def keep_alive(bench: Bench, seconds: float) -> list[Action]:
    """The peer answers probes and nothing else."""
    actions: list[Action] = []
    for _ in range(round(seconds * 2)):
        actions += bench.wait(0.5)
        if row(bench) is not None and row(bench).state is UP:
            probed(bench)
    return actions


def test_a_used_one_is_asked_for_again_at_two_thirds_through_the_hub_and_held_longer() -> None:
    bench = bench_in(UP)
    used(bench)
    actions = keep_alive(bench, 401.0)
    assert (Kind.RESOLUTION_REQUEST, HUB_NBMA) in sent(actions)
    assert names(answered(bench)) == []
    assert row(bench).expires_s == 600.0


def test_one_that_is_used_late_is_asked_for_at_once() -> None:
    bench = bench_in(UP)
    keep_alive(bench, 500.0)
    assert sent(used(bench)) == [(Kind.RESOLUTION_REQUEST, HUB_NBMA)]
    assert sent(used(bench)) == [], "one question at a time"
    keep_alive(bench, 25.0)
    assert sent(used(bench)) == [(Kind.RESOLUTION_REQUEST, HUB_NBMA)], "the last one got no answer"
    assert names(unreachable(bench)) == [], "an error does not end what works"
    assert row(bench).state is UP


@pytest.mark.parametrize(
    ("changed", "then"),
    [
        pytest.param({"prefix": 25}, UP, id="another prefix"),
        pytest.param({"nbma": OTHER_NBMA, "protocol": OTHER}, CONNECTING, id="another egress"),
        pytest.param({"code": 12}, RESOLVING, id="nobody any more"),
    ],
)
def test_a_refresh_that_is_answered_differently_makes_the_shortcut_anew(
    changed: dict[str, object], then: ShortcutState
) -> None:
    bench = bench_in(UP)
    keep_alive(bench, 500.0)
    used(bench)
    actions = bench.packet(answer(asked_for(bench), **changed), HUB_NBMA)
    assert names(actions)[:2] == WITHDRAWN
    assert row(bench).state is then


def test_a_shortcut_whose_gateway_is_a_hub_leaves_its_neighbour_entry_alone() -> None:
    second = replace(HUB_SETTING, name="hub2", protocol=(OTHER,), nbma=OTHER_NBMA)
    bench = spoke(hubs=(HUB_SETTING, second))
    bench.up(OTHER_NBMA)
    bench.packet(indication(destination=OTHER_HOST), HUB_NBMA)
    bench.packet(answer(asked_for(bench, OTHER_HOST), nbma=OTHER_NBMA, protocol=OTHER), HUB_NBMA)
    probe = bench.last_sent(Kind.RESOLUTION_REQUEST, OTHER_NBMA)
    actions = bench.packet(answer(probe, nbma=OTHER_NBMA, protocol=OTHER, prefix=32), OTHER_NBMA)
    assert names(actions) == ["InstallRoute"]
    actions = bench.tell(Forget(ip_network("10.1.13.0/24")))
    assert names(actions) == ["RemoveRoute"], "neither the neighbour entry nor the SA is the shortcut's own"


def test_without_any_hub_a_wish_is_forgotten_rather_than_refused() -> None:
    bench = bench_in(RESOLVING)
    bench.down(HUB_NBMA)
    bench.wait(25.0)
    assert row(bench) is None


def test_the_table_is_bounded() -> None:
    bench = spoke()
    for number in range(SHORTCUTS_LIMIT):
        bench.packet(indication(destination=ip_address(int(ip_address("10.2.0.0")) + number)), HUB_NBMA)
    actions = bench.packet(indication(), HUB_NBMA)
    assert reasons(actions) == [DropReason.LIMIT]


# ---------------------------------------------------------------- phase 2: next hops


def phase2(**changed: object) -> Bench:
    bench = spoke(phase=2, shortcut=False, **changed)
    bench.route(OVERLAY, Egress.OVERLAY)
    return bench


def test_a_next_hop_is_resolved_by_the_hub_proved_and_bound_without_a_route() -> None:
    bench = phase2()
    assert sent(bench.tell(NeighbourMissing(PEER))) == [(Kind.RESOLUTION_REQUEST, HUB_NBMA)]
    bench.packet(answer(asked_for(bench, PEER), prefix=32), HUB_NBMA)
    assert names(bench.up(PEER_NBMA)) == ["Authorise", ASK]
    assert names(probed(bench)) == ["BindNeighbour"]
    assert names(bench.tell(NeighbourMissing(PEER))) == ["BindNeighbour"], "asked again, told again"
    assert names(bench.down(PEER_NBMA)) == ["UnbindNeighbour"]


def test_the_hub_relays_for_a_next_hop_that_has_no_direct_path() -> None:
    bench = phase2()
    assert of(bench.tell(NeighbourMissing(PEER)), BindNeighbour) == [BindNeighbour(PEER, HUB_NBMA)]
    bench.packet(answer(asked_for(bench, PEER), prefix=32), HUB_NBMA)
    said = bench.wait(bench.settings.security_wait_s + 1)
    assert not of(said, UnbindNeighbour), "no SA came up: the hub goes on relaying"
    assert of(bench.tell(NeighbourMissing(PEER)), BindNeighbour) == [BindNeighbour(PEER, HUB_NBMA)]
    assert of(bench.wait(bench.settings.negative_s), UnbindNeighbour) == [UnbindNeighbour(PEER)], "to be asked again"


def test_a_next_hop_leaves_a_hub_that_is_gone() -> None:
    bench = phase2()
    bench.tell(NeighbourMissing(PEER))
    assert UnbindNeighbour(PEER) in bench.down(HUB_NBMA)


@pytest.mark.parametrize(
    ("told", "protocol"),
    [
        pytest.param({"code": 12}, PEER, id="nobody has it"),
        pytest.param({"protocol": OTHER}, PEER, id="another answers for it"),
    ],
)
def test_a_next_hop_that_cannot_be_resolved_is_refused(told: dict[str, object], protocol: object) -> None:
    bench = phase2()
    bench.tell(NeighbourMissing(protocol))
    actions = bench.packet(answer(asked_for(bench, protocol), prefix=32, **told), HUB_NBMA)
    assert of(actions, UnbindNeighbour) == [UnbindNeighbour(PEER, refused=True)]
    assert of(bench.tell(NeighbourMissing(PEER)), UnbindNeighbour) == [UnbindNeighbour(PEER, refused=True)]


@pytest.mark.parametrize(
    ("bench", "protocol", "does"),
    [
        pytest.param(spoke, HUB, BindNeighbour(HUB, HUB_NBMA), id="the hub"),
        pytest.param(spoke, OWN, UnbindNeighbour(OWN, refused=True), id="ourselves"),
        pytest.param(spoke, PEER_HOST, UnbindNeighbour(PEER_HOST, refused=True), id="not of the overlay"),
        pytest.param(lambda: spoke(phase=1), PEER, UnbindNeighbour(PEER, refused=True), id="phase 1"),
        pytest.param(hub, PEER, UnbindNeighbour(PEER, refused=True), id="a hub that nobody registered with"),
    ],
)
def test_next_hops_that_need_no_question(bench: Callable[[], Bench], protocol: object, does: Action) -> None:
    assert bench().tell(NeighbourMissing(protocol)) == [does]


def test_a_hub_whose_sa_is_down_is_nobody() -> None:
    bench = spoke()
    bench.down(HUB_NBMA)
    assert bench.tell(NeighbourMissing(HUB)) == [UnbindNeighbour(HUB, refused=True)]


def test_a_neighbour_the_kernel_refused_is_bound_no_more() -> None:
    bench = spoke()
    bench.tell(Refused(BindNeighbour(HUB, HUB_NBMA), "no such device"))
    assert not [binding for binding in bench.view().bindings if binding.bound]
    assert RemoveRoute(PEER_LAN) not in bench.said
    assert first_sent(bench.said).kind is Kind.RESOLUTION_REQUEST
