"""nhrp.md 3.1: the client's side of registration. State x input, and what the packets say."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from engine_bench import (
    HUB,
    HUB_NBMA,
    HUB_SETTING,
    OTHER_NBMA,
    OWN,
    OWN_NBMA,
    PRIVATE,
    PUBLIC,
    SPOKE_SETTINGS,
    Bench,
    entry,
    first_sent,
    happened,
    names,
    of,
    reasons,
    registered,
    sent,
)

from dmvpn.nhrp.candidates import Candidates
from dmvpn.nhrp.events import Action, DropReason, Endpoint, HubSetting, OwnEndpoints, Received, WantSecurity
from dmvpn.nhrp.extensions import CiscoAuthentication, CiscoNat
from dmvpn.nhrp.messages import error_indication
from dmvpn.nhrp.numbers import ErrorCode, Kind
from dmvpn.nhrp.packet import Packet
from dmvpn.nhrp.registration_client import HubState

LINKING, REGISTERING, UP, REFUSED = HubState


def bench_in(state: HubState, **changed: object) -> Bench:
    bench = Bench(SPOKE_SETTINGS, **changed)
    bench.start()
    if state is not LINKING:
        bench.up(HUB_NBMA)
    if state in (UP, REFUSED):
        reply(bench, 0 if state is UP else 4)
    assert bench.view().hubs[0].state is state
    return bench


def request_of(bench: Bench) -> Packet:
    return bench.last_sent(Kind.REGISTRATION_REQUEST)


def reply(bench: Bench, code: int, sender: object = HUB_NBMA) -> list[Action]:
    return bench.packet(registered(request_of(bench), code), sender)


def probe_answer(bench: Bench, code: int) -> list[Action]:
    bench.wait(5.0)
    request = bench.last_sent(Kind.RESOLUTION_REQUEST)
    cie = entry(code, nbma=HUB_NBMA, protocol=HUB)
    return bench.packet(replace(request, kind=Kind.RESOLUTION_REPLY, cies=(cie,)), HUB_NBMA)


def error(bench: Bench, sender: object = HUB_NBMA) -> list[Action]:
    about = request_of(bench)
    core = bench.engine._core
    packet = error_indication(core, OWN, about.encode(), about, ErrorCode.HOP_COUNT_EXCEEDED, 0)
    return bench.packet(replace(packet, source_nbma=HUB_NBMA, source_protocol=HUB), sender)


Input = Callable[[Bench], list[Action]]
SECURITY_UP: Input = lambda bench: bench.up(HUB_NBMA)  # noqa: E731
SECURITY_DOWN: Input = lambda bench: bench.down(HUB_NBMA)  # noqa: E731
ACCEPTED: Input = lambda bench: reply(bench, 0)  # noqa: E731
TAKEN: Input = lambda bench: reply(bench, 14)  # noqa: E731
PROHIBITED: Input = lambda bench: reply(bench, 4)  # noqa: E731
FORGED: Input = lambda bench: reply(bench, 0, OTHER_NBMA)  # noqa: E731
ERROR: Input = error
FORGED_ERROR: Input = lambda bench: error(bench, OTHER_NBMA)  # noqa: E731
FORGOTTEN: Input = lambda bench: probe_answer(bench, 12)  # noqa: E731
ALIVE: Input = lambda bench: probe_answer(bench, 0)  # noqa: E731

REQUEST = "REGISTRATION_REQUEST"
PROBE = "RESOLUTION_REQUEST"


@pytest.mark.parametrize(
    ("state", "told", "then", "does"),
    [
        pytest.param(LINKING, SECURITY_UP, REGISTERING, ["BindNeighbour", PROBE, REQUEST], id="linking: SA up"),
        pytest.param(LINKING, SECURITY_DOWN, LINKING, [], id="linking: SA failed"),
        pytest.param(REGISTERING, SECURITY_UP, REGISTERING, [], id="registering: SA up again"),
        pytest.param(REGISTERING, SECURITY_DOWN, LINKING, ["UnbindNeighbour"], id="registering: SA down"),
        pytest.param(REGISTERING, ACCEPTED, UP, [], id="registering: accepted"),
        pytest.param(REGISTERING, TAKEN, REGISTERING, ["PURGE_REQUEST"], id="registering: code 14"),
        pytest.param(REGISTERING, PROHIBITED, REFUSED, [], id="registering: code 4"),
        pytest.param(REGISTERING, FORGED, REGISTERING, [], id="registering: reply of another"),
        pytest.param(REGISTERING, ERROR, REFUSED, [], id="registering: error indication"),
        pytest.param(REGISTERING, FORGED_ERROR, REGISTERING, [], id="registering: error of another"),
        pytest.param(UP, SECURITY_UP, UP, [], id="up: SA up again"),
        pytest.param(UP, SECURITY_DOWN, LINKING, ["UnbindNeighbour"], id="up: SA down"),
        pytest.param(UP, ACCEPTED, UP, [], id="up: reply doubled"),
        pytest.param(UP, ERROR, UP, [], id="up: late error"),
        pytest.param(UP, FORGOTTEN, REGISTERING, [REQUEST], id="up: the hub has forgotten us"),
        pytest.param(UP, ALIVE, UP, [], id="up: probe answered"),
        pytest.param(REFUSED, SECURITY_DOWN, LINKING, ["UnbindNeighbour"], id="refused: SA down"),
        pytest.param(REFUSED, ACCEPTED, REFUSED, [], id="refused: late reply"),
    ],
)
def test_state_and_input(state: HubState, told: Input, then: HubState, does: list[str]) -> None:
    bench = bench_in(state)
    assert names(told(bench)) == does
    assert bench.view().hubs[0].state is then


def test_start_asks_for_an_sa_with_each_hub() -> None:
    assert of(Bench(SPOKE_SETTINGS).start(), WantSecurity) == [WantSecurity(HUB_NBMA, ())]


def test_the_request_is_ciscos() -> None:
    bench = Bench(SPOKE_SETTINGS, authentication=b"secret")
    bench.start()
    bench.tell(OwnEndpoints((PRIVATE,)))
    bench.up(HUB_NBMA)
    request = request_of(bench)
    assert (request.flags, request.hop_count) == (0x8002, 255)
    assert (request.source_nbma, request.source_protocol, request.destination_protocol) == (OWN_NBMA, OWN, HUB)
    assert request.cies == (replace(entry(), mtu_octets=1372, preference=255),)
    nat = request.extension(CiscoNat)
    assert nat is not None
    assert [(cie.nbma, cie.protocol, cie.holding_time_s) for cie in nat.cies] == [(HUB_NBMA, HUB, 0)]
    password = request.extension(CiscoAuthentication)
    assert password is not None
    assert password.matches(b"secret")
    assert request.candidates() == Candidates((), (PRIVATE,))


def test_a_foreign_hub_is_neither_told_candidates_nor_probed() -> None:
    foreign = HubSetting("cisco", (HUB,), HUB_NBMA, ours=False)
    bench = Bench(SPOKE_SETTINGS, hubs=(foreign,))
    bench.start()
    assert sent(bench.up(HUB_NBMA)) == [(Kind.REGISTRATION_REQUEST, HUB_NBMA)]
    assert request_of(bench).candidates() is None


def test_unanswered_requests_back_off_to_64_s_under_one_id_and_then_the_sa_is_restarted() -> None:
    bench = bench_in(REGISTERING, hubs=(replace(HUB_SETTING, ours=False),))
    first = request_of(bench).request_id
    times, restarted = [], False
    while not restarted:
        actions = bench.wait(0.05)
        restarted = "RestartSecurity" in names(actions)
        if REQUEST in names(actions):
            assert request_of(bench).request_id == first
            times.append(bench.now - 1000.0)
    waits = [later - earlier for earlier, later in zip([0.0, *times], [*times, bench.now - 1000.0], strict=True)]
    for wait, nominal in zip(waits, (1, 2, 4, 8, 16, 32, 64), strict=True):
        assert 0.9 * nominal - 0.1 <= wait <= nominal + 0.1
    assert bench.view().hubs[0].state is LINKING


def test_a_refresh_has_a_new_id_and_a_hub_silent_for_four_of_them_is_down() -> None:
    bench = bench_in(UP, hubs=(replace(HUB_SETTING, ours=False),))
    before = request_of(bench).request_id
    actions = bench.wait(200.0)
    assert REQUEST in names(actions)
    assert request_of(bench).request_id != before
    assert bench.view().hubs[0].is_up, "one that is merely refreshed is up meanwhile"
    assert happened(bench.wait(16.0)) == ["hub-down"]
    assert happened(reply(bench, 0)) == ["hub-up"]


def test_a_refresh_is_no_new_beginning() -> None:
    bench = bench_in(UP, hubs=(replace(HUB_SETTING, ours=False),))
    age = bench.view().hubs[0].age_s
    assert REQUEST in names(bench.wait(200.0))
    assert bench.view().hubs[0].age_s >= age + 199.9
    reply(bench, 0)
    assert bench.view().hubs[0].age_s >= age + 199.9
    bench.down(HUB_NBMA)
    assert bench.view().hubs[0].age_s < 1.0


def test_after_code_14_it_purges_its_own_and_registers_anew_two_seconds_later() -> None:
    bench = bench_in(REGISTERING)
    before = request_of(bench).request_id
    purge = first_sent(TAKEN(bench))
    assert purge.flags == 0x8000, "no reply wanted"
    assert [cie.network(OWN).with_prefixlen for cie in purge.cies] == ["10.255.1.11/32"]
    assert REQUEST not in names(bench.wait(1.9))
    assert REQUEST in names(bench.wait(0.2))
    assert request_of(bench).request_id > before


def test_a_refused_client_tries_again_after_30_to_90_s_and_lets_the_sa_be() -> None:
    bench = bench_in(REFUSED)
    assert bench.view().hubs[0].reason == "code 4 (administratively prohibited)"
    assert names(bench.wait(29.0)) == []
    assert REQUEST in names(bench.wait(61.0))


def test_the_hub_tells_where_it_sees_us() -> None:
    bench = bench_in(UP)
    assert bench.view().hubs[0].observed == PUBLIC


def test_a_foreign_hub_tells_by_the_second_nat_entry() -> None:
    bench = bench_in(REGISTERING, hubs=(replace(HUB_SETTING, ours=False),))
    public = Endpoint(PUBLIC.address, 0).address
    request = request_of(bench)
    nat = request.extension(CiscoNat)
    assert nat is not None
    entries = (*nat.cies, entry(prefix=32, nbma=public, protocol=OWN))
    bench.packet(registered(request).with_extension(replace(nat, cies=entries)), HUB_NBMA)
    assert bench.engine._core.natted_as == public


def test_a_dead_hub_that_was_probed_gets_its_sa_restarted() -> None:
    bench = bench_in(UP)
    actions = bench.wait(45.0)
    assert "RestartSecurity" in names(actions)
    assert happened(actions) == ["hub-down"]
    assert bench.view().hubs[0].reason == "not answering"


def test_each_family_of_the_overlay_is_registered_by_a_packet_of_its_own() -> None:
    from ipaddress import ip_address, ip_network

    v6, hub6 = ip_address("fd00:255:1::11"), ip_address("fd00:255:1::1")
    bench = Bench(
        SPOKE_SETTINGS,
        protocol=(OWN, v6),
        overlay=(ip_network("10.255.1.0/24"), ip_network("fd00:255:1::/64")),
        hubs=(replace(HUB_SETTING, protocol=(HUB, hub6)),),
    )
    bench.start()
    actions = bench.up(HUB_NBMA)
    assert names(actions).count(REQUEST) == 2
    from dmvpn.nhrp.events import Send
    from dmvpn.nhrp.packet import decode

    requests = [decode(action.octets) for action in of(actions, Send)]
    requests = [request for request in requests if request.kind is Kind.REGISTRATION_REQUEST]
    assert [request.source_protocol for request in requests] == [OWN, v6]
    assert happened(bench.packet(registered(requests[0]), HUB_NBMA)) == [], "up only with both"
    assert happened(bench.packet(registered(requests[1]), HUB_NBMA)) == ["hub-up"]


@pytest.mark.parametrize("octets", [b"", b"\x00" * 20, b"\xff" * 60], ids=["nothing", "zeros", "ones"])
def test_octets_that_are_no_packet_are_counted(octets: bytes) -> None:
    bench = bench_in(UP)
    actions = bench.tell(Received(octets, HUB_NBMA))
    assert reasons(actions)[0] in (DropReason.MALFORMED, DropReason.VERSION)
    assert bench.view().dropped[reasons(actions)[0]] == 1
