"""nhrp.md 3.4: the life of a shortcut until it is up, state x input, and what forgers get."""

from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest
from engine_bench import (
    CANDIDATES,
    HUB,
    HUB_NBMA,
    OTHER,
    OTHER_NBMA,
    OWN,
    OWN_NBMA,
    PEER,
    PEER_HOST,
    PEER_LAN,
    PEER_NBMA,
    answer,
    entry,
    happened,
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
    PROBING,
    RESOLVING,
    UP,
    Input,
    allowed,
    answered,
    asked_for,
    bench_in,
    forgotten,
    indicated,
    long_wait,
    nak,
    neighbour_refused,
    probed,
    probed_by_another,
    purged,
    purged_by_another,
    purged_by_hub,
    refused,
    route_refused,
    row,
    sa_down,
    sa_up,
    unreachable,
    unreachable_says_a_stranger,
    used,
)

from dmvpn.nhrp.events import (
    Authorise,
    BindNeighbour,
    DropReason,
    Egress,
    Forget,
    InstallRoute,
    WantSecurity,
)
from dmvpn.nhrp.messages import error_indication
from dmvpn.nhrp.numbers import ErrorCode, Kind
from dmvpn.nhrp.packet import Packet
from dmvpn.nhrp.shortcut import ShortcutState, WhyNot

GONE = None
WITHDRAWN = ["RemoveRoute", "UnbindNeighbour"]
UPPED = ["BindNeighbour", "InstallRoute"]


@pytest.mark.parametrize(
    ("state", "told", "then", "does"),
    [
        pytest.param(RESOLVING, indicated, RESOLVING, [], id="resolving: indicated again"),
        pytest.param(RESOLVING, answered, CONNECTING, ["WantSecurity"], id="resolving: answered"),
        pytest.param(RESOLVING, nak, NEGATIVE, [], id="resolving: no binding"),
        pytest.param(RESOLVING, unreachable, NEGATIVE, [], id="resolving: unreachable"),
        pytest.param(RESOLVING, unreachable_says_a_stranger, RESOLVING, [], id="resolving: a stranger's error"),
        pytest.param(RESOLVING, long_wait, NEGATIVE, [ASK] * 9, id="resolving: silence"),
        pytest.param(RESOLVING, sa_up, RESOLVING, [], id="resolving: SA up"),
        pytest.param(RESOLVING, sa_down, RESOLVING, [], id="resolving: SA down"),
        pytest.param(RESOLVING, used, RESOLVING, [], id="resolving: used"),
        pytest.param(RESOLVING, forgotten, GONE, [], id="resolving: forgotten"),
        pytest.param(RESOLVING, purged, RESOLVING, [], id="resolving: purged"),
        pytest.param(CONNECTING, indicated, CONNECTING, [], id="connecting: indicated again"),
        pytest.param(CONNECTING, answered, CONNECTING, [], id="connecting: answered again"),
        pytest.param(CONNECTING, sa_up, AUTHORISING, ["Authorise"], id="connecting: SA up"),
        pytest.param(CONNECTING, sa_down, CONNECTING, [], id="connecting: an attempt failed"),
        pytest.param(CONNECTING, unreachable, CONNECTING, [], id="connecting: a late error"),
        pytest.param(CONNECTING, purged, GONE, ["ReleaseSecurity"], id="connecting: purged"),
        pytest.param(CONNECTING, forgotten, GONE, ["ReleaseSecurity"], id="connecting: forgotten"),
        pytest.param(AUTHORISING, allowed, PROBING, [ASK], id="authorising: allowed"),
        pytest.param(AUTHORISING, refused, RESOLVING, ["ReleaseSecurity"], id="authorising: refused"),
        pytest.param(AUTHORISING, sa_down, CONNECTING, [], id="authorising: SA down"),
        pytest.param(AUTHORISING, answered, AUTHORISING, [], id="authorising: answered again"),
        pytest.param(AUTHORISING, forgotten, GONE, ["ReleaseSecurity"], id="authorising: forgotten"),
        pytest.param(PROBING, probed, UP, UPPED, id="probing: answered"),
        pytest.param(PROBING, probed_by_another, PROBING, [], id="probing: another answers"),
        pytest.param(PROBING, sa_down, CONNECTING, [], id="probing: SA down"),
        pytest.param(PROBING, indicated, PROBING, [], id="probing: indicated again"),
        pytest.param(PROBING, forgotten, GONE, ["ReleaseSecurity"], id="probing: forgotten"),
        pytest.param(UP, indicated, UP, [], id="up: a late indication"),
        pytest.param(UP, sa_up, UP, [], id="up: SA up again"),
        pytest.param(UP, sa_down, RESOLVING, WITHDRAWN, id="up: SA down"),
        pytest.param(UP, used, UP, [], id="up: used"),
        pytest.param(UP, purged, GONE, [*WITHDRAWN, "ReleaseSecurity"], id="up: purged by its peer"),
        pytest.param(UP, purged_by_hub, GONE, [*WITHDRAWN, "ReleaseSecurity"], id="up: purged by way of the hub"),
        pytest.param(UP, purged_by_another, UP, [], id="up: purged by another"),
        pytest.param(UP, forgotten, GONE, [*WITHDRAWN, "ReleaseSecurity"], id="up: forgotten"),
        pytest.param(UP, route_refused, NEGATIVE, [*WITHDRAWN, "ReleaseSecurity"], id="up: route refused"),
        pytest.param(UP, neighbour_refused, NEGATIVE, [*WITHDRAWN, "ReleaseSecurity"], id="up: neighbour refused"),
        pytest.param(NEGATIVE, indicated, NEGATIVE, [], id="negative: indicated"),
        pytest.param(NEGATIVE, answered, NEGATIVE, [], id="negative: a late answer"),
        pytest.param(NEGATIVE, sa_up, NEGATIVE, [], id="negative for want of a route: SA up"),
        pytest.param(NEGATIVE, forgotten, GONE, [], id="negative: forgotten"),
    ],
)
def test_state_and_input(state: ShortcutState, told: Input, then: ShortcutState | None, does: list[str]) -> None:
    bench = bench_in(state)
    done = names(told(bench))
    assert done == does
    assert (row(bench).state if row(bench) else None) is then


# ---------------------------------------------------------------- forming


def test_what_is_asked_and_bound_and_installed() -> None:
    bench = spoke()
    bench.packet(indication(), HUB_NBMA)
    request = asked_for(bench)
    assert request.flags == 0xC802
    assert (request.source_protocol, request.source_nbma, request.hop_count) == (OWN, OWN_NBMA, 255)
    actions = answered(bench)
    wanted = (*CANDIDATES.public, *CANDIDATES.private)
    assert of(actions, WantSecurity) == [WantSecurity(PEER_NBMA, wanted)]
    assert of(bench.up(PEER_NBMA), Authorise) == [Authorise(1, PEER_NBMA, PEER, PEER_LAN)]
    actions = probed(bench)
    assert of(actions, BindNeighbour) == [BindNeighbour(PEER, PEER_NBMA)]
    assert of(actions, InstallRoute) == [InstallRoute(PEER_LAN, PEER, None)]
    assert happened(bench.said)[-4:] == ["hub-up", "shortcut-wanted", "shortcut-connecting", "shortcut-up"]


def test_a_question_is_repeated_under_one_id_with_growing_waits() -> None:
    bench = bench_in(RESOLVING)
    first, began = asked_for(bench).request_id, bench.now
    times = []
    while row(bench).state is RESOLVING:
        if any(kind is Kind.RESOLUTION_REQUEST and to == HUB_NBMA for kind, to in sent(bench.wait(0.05))):
            times.append(bench.now - began)
    questions = [at for at in times if asked_for(bench).request_id == first]
    assert questions[0] < 1.1
    assert 18.0 < bench.now - began < 21.2
    assert row(bench).why is WhyNot.NO_ANSWER


def test_several_destinations_of_one_network_end_in_one_shortcut() -> None:
    bench = bench_in(UP)
    assert names(bench.packet(indication(destination=ip_address("10.1.12.77")), HUB_NBMA)) == []
    bench = bench_in(CONNECTING)
    bench.packet(indication(destination=ip_address("10.1.12.77")), HUB_NBMA)
    bench.packet(answer(asked_for(bench, ip_address("10.1.12.77"))), HUB_NBMA)
    bench.up(PEER_NBMA)
    assert names(probed(bench)).count("InstallRoute") == 1
    assert [str(shortcut.prefix) for shortcut in bench.view().shortcuts] == ["10.1.12.0/24"]


def test_a_second_network_of_the_same_peer_needs_neither_sa_nor_probe_nor_neighbour() -> None:
    bench = bench_in(UP)
    second = ip_address("10.1.64.10")
    bench.packet(indication(destination=second), HUB_NBMA)
    actions = bench.packet(answer(asked_for(bench, second)), HUB_NBMA)
    assert names(actions) == ["Authorise", "InstallRoute"]
    actions = bench.tell(Forget(ip_network("10.1.64.0/24")))
    assert names(actions) == ["RemoveRoute"], "the neighbour entry, the probes and the SA have another user"


@pytest.mark.parametrize(
    ("routes", "offered", "installed"),
    [
        pytest.param([], 24, "10.1.12.0/24", id="as offered"),
        pytest.param([], 0, "10.1.12.10/32", id="0 is the host"),
        pytest.param([], 255, "10.1.12.10/32", id="255 is the host"),
        pytest.param([], 4, "10.1.12.0/22", id="no wider than our own route, nor over our own network"),
        pytest.param(["10.1.12.0/25"], 24, "10.1.12.0/25", id="our route is narrower"),
        pytest.param(["10.1.12.128/25"], 24, "10.1.12.0/25", id="a part has a route of its own"),
        pytest.param(["10.1.12.8/31"], 24, "10.1.12.10/31", id="a small part close by"),
    ],
)
def test_the_prefix_is_cut_to_what_no_better_route_covers(routes: list[str], offered: int, installed: str) -> None:
    bench = spoke()
    for prefix in routes:
        bench.route(prefix, Egress.OVERLAY, HUB)
    bench.packet(indication(), HUB_NBMA)
    bench.packet(answer(asked_for(bench), prefix=offered), HUB_NBMA)
    bench.up(PEER_NBMA)
    (install,) = of(probed(bench), InstallRoute)
    assert install.prefix == ip_network(installed)


def test_a_foreign_peer_is_not_probed() -> None:
    bench = bench_in(RESOLVING)
    bench.packet(answer(asked_for(bench), ours=False), HUB_NBMA)
    assert names(bench.up(PEER_NBMA)) == ["Authorise", *UPPED]
    assert PEER not in {packet.destination_protocol for packet in [asked_for(bench)]}


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        pytest.param({"code": 4}, WhyNot.REFUSED_BY_PEER, id="prohibited"),
        pytest.param({"code": 5}, WhyNot.REFUSED_BY_PEER, id="no resources"),
        pytest.param({"code": 12}, WhyNot.NO_BINDING, id="no binding"),
        pytest.param({"code": 99}, WhyNot.NO_BINDING, id="a code nobody knows"),
        pytest.param({"nbma": HUB_NBMA, "protocol": HUB}, WhyNot.VIA_HUB, id="the hub is the egress"),
        pytest.param({"protocol": OWN}, WhyNot.NO_BINDING, id="names ourselves"),
        pytest.param({"nbma": OWN_NBMA}, WhyNot.NO_BINDING, id="names our own NBMA address"),
    ],
)
def test_answers_that_lead_nowhere(changed: dict[str, object], why: WhyNot) -> None:
    bench = bench_in(RESOLVING)
    sender = HUB_NBMA
    actions = bench.packet(answer(asked_for(bench), **changed), sender)
    assert names(actions) == []
    assert (row(bench).state, row(bench).why) == (NEGATIVE, why)


def test_an_answer_without_an_entry_is_malformed_and_the_question_stays_open() -> None:
    bench = bench_in(RESOLVING)
    reply = replace(answer(asked_for(bench)), cies=())
    assert reasons(bench.packet(reply, HUB_NBMA)) == [DropReason.MALFORMED]
    answered(bench)
    assert row(bench).state is CONNECTING


def test_an_empty_address_in_the_answer_is_the_headers() -> None:
    bench = bench_in(RESOLVING)
    bench.packet(answer(asked_for(bench), protocol=None), HUB_NBMA)
    assert row(bench).gateway == PEER_HOST


def test_behind_nat_the_answers_nat_entry_is_the_address() -> None:
    from dmvpn.nhrp.extensions import CiscoNat

    bench = bench_in(RESOLVING)
    nat = CiscoNat((entry(nbma=OTHER_NBMA, protocol=PEER),))
    bench.packet(answer(asked_for(bench)).with_extension(nat), HUB_NBMA)
    assert row(bench).nbma == OTHER_NBMA


# ---------------------------------------------------------------- impostors


def test_a_forged_answer_is_refused_and_the_true_one_still_counts() -> None:
    """A member of the network that guessed the id answers for the peer's network, naming itself."""
    bench = bench_in(RESOLVING)
    bench.refuses = {str(PEER_LAN)}
    bench.up(OTHER_NBMA)
    forged = answer(asked_for(bench), nbma=OTHER_NBMA, protocol=OTHER)
    assert names(bench.packet(forged, OTHER_NBMA)) == ["WantSecurity", "Authorise", "ReleaseSecurity"][1:]
    assert (row(bench).state, row(bench).why) == (RESOLVING, WhyNot.NOT_AUTHORISED)
    assert reasons(bench.packet(forged, OTHER_NBMA)) == [DropReason.DUPLICATE]
    bench.refuses = set()
    answered(bench)
    bench.up(PEER_NBMA)
    probed(bench)
    assert row(bench).state is UP


def test_many_forgers_end_in_a_negative_entry_for_the_host_alone() -> None:
    bench = bench_in(RESOLVING)
    bench.refuses = {str(PEER_LAN)}
    for number in range(8):
        nbma = ip_address(f"100.64.1.{number}")
        bench.up(nbma)
        bench.packet(answer(asked_for(bench), nbma=nbma, protocol=ip_address(f"10.255.1.{100 + number}")), nbma)
    assert (row(bench).state, row(bench).why) == (NEGATIVE, WhyNot.NOT_AUTHORISED)
    assert str(row(bench).prefix) == "10.1.12.10/32"


def test_an_answer_from_who_neither_was_asked_nor_is_named_is_dropped() -> None:
    bench = bench_in(RESOLVING)
    assert reasons(bench.packet(answer(asked_for(bench)), OTHER_NBMA)) == [DropReason.UNSOLICITED]
    assert row(bench).state is RESOLVING


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param({"request_id": 4711}, id="another id"),
        pytest.param({"source_nbma": OTHER_NBMA}, id="another asker's NBMA address"),
        pytest.param({"kind": Kind.REGISTRATION_REPLY}, id="another kind"),
    ],
)
def test_a_reply_to_nothing_that_was_asked_is_dropped(changed: dict[str, object]) -> None:
    bench = bench_in(RESOLVING)
    reply = replace(answer(asked_for(bench)), **changed)
    assert reasons(bench.packet(reply, HUB_NBMA)) == [DropReason.UNSOLICITED]


def test_an_answer_doubled_on_the_wire_is_a_duplicate() -> None:
    bench = bench_in(RESOLVING)
    reply = answer(asked_for(bench))
    bench.packet(reply, HUB_NBMA)
    assert reasons(bench.packet(reply, HUB_NBMA)) == [DropReason.DUPLICATE]
    bench.up(PEER_NBMA)
    probed(bench)
    assert reasons(bench.packet(reply, HUB_NBMA)) == [DropReason.DUPLICATE]


@pytest.mark.parametrize("payload", [b"", b"\x00" * 40], ids=["nothing", "not a packet"])
def test_an_error_about_nothing_readable_is_malformed(payload: bytes) -> None:
    bench = bench_in(RESOLVING)
    error = Packet(Kind.ERROR_INDICATION, 255, 0, 0, HUB_NBMA, HUB, OWN, error_code=6, payload=payload)
    assert reasons(bench.packet(error, HUB_NBMA)) == [DropReason.MALFORMED]


def test_an_error_about_what_was_not_asked_is_unsolicited() -> None:
    bench = bench_in(RESOLVING)
    about = replace(asked_for(bench), request_id=4711)
    error = error_indication(bench.engine._core, OWN, about.encode(), about, ErrorCode.UNREACHABLE, 0)
    assert reasons(bench.packet(replace(error, source_nbma=HUB_NBMA), HUB_NBMA)) == [DropReason.UNSOLICITED]
