"""Where IKE may be tried: nowhere that a peer only says it is, and nowhere that nobody can be."""

from ipaddress import ip_address, ip_network
from typing import Any

import pytest
from engine_bench import HUB_NBMA, OWN, OWN_NBMA, PEER, PEER_NBMA, answer, endpoint, of, question, reasons, spoke
from shortcut_bench import asked_for, bench_in

from dmvpn.nhrp.candidates import Candidates
from dmvpn.nhrp.events import DropReason, Endpoint, SecurityUp, WantSecurity
from dmvpn.nhrp.numbers import Kind
from dmvpn.nhrp.shortcut import ShortcutState

TRANSPORT = (ip_network("100.64.0.0/16"),)
STRANGE = Endpoint(ip_address("8.8.8.8"), 53)


@pytest.mark.parametrize(
    ("address", "port"),
    [
        pytest.param("224.0.0.5", 4500, id="multicast"),
        pytest.param("ff02::1", 4500, id="multicast, IPv6"),
        pytest.param("127.0.0.1", 4500, id="loopback"),
        pytest.param("::1", 4500, id="loopback, IPv6"),
        pytest.param("0.0.0.0", 4500, id="unspecified"),
        pytest.param("::", 4500, id="unspecified, IPv6"),
        pytest.param("169.254.1.1", 4500, id="link-local"),
        pytest.param("fe80::1", 4500, id="link-local, IPv6"),
        pytest.param("255.255.255.255", 4500, id="broadcast"),
        pytest.param("::ffff:127.0.0.1", 4500, id="loopback, mapped"),
        pytest.param("10.255.1.13", 4500, id="in the overlay"),
        pytest.param("100.64.0.13", 4500, id="a transport address"),
        pytest.param("8.8.8.8", 0, id="port 0"),
    ],
)
def test_ike_is_not_tried_where_nobody_can_be(address: str, port: int) -> None:
    bench = spoke(transport=TRANSPORT)
    good = Endpoint(ip_address("203.0.113.99"), 4500)
    packet = question(PEER, PEER_NBMA, ip_address("10.1.11.10"))
    packet = packet.with_candidates(Candidates((Endpoint(ip_address(address), port), good)))
    actions = bench.packet(packet, HUB_NBMA)
    assert of(actions, WantSecurity)[0].candidates == (good,)
    assert reasons(actions) == [DropReason.CANDIDATE]


@pytest.mark.parametrize("address", [OWN, OWN_NBMA], ids=["overlay", "NBMA"])
def test_ike_is_not_tried_at_ourselves(address: Any) -> None:
    bench = spoke()
    packet = question(PEER, PEER_NBMA, ip_address("10.1.11.10"))
    actions = bench.packet(packet.with_candidates(Candidates((Endpoint(address, 500),))), HUB_NBMA)
    assert of(actions, WantSecurity)[0].candidates == ()


def test_what_a_peer_says_of_itself_over_its_own_sa_aims_no_ike() -> None:
    bench = spoke()
    bench.up(PEER_NBMA)
    bench.packet(question(PEER, PEER_NBMA, OWN).with_candidates(Candidates((STRANGE,))), PEER_NBMA)
    bench.down(PEER_NBMA)
    wanted = [*of(bench.said, WantSecurity), *of(bench.wait(60.0), WantSecurity)]
    assert all(STRANGE not in one.candidates for one in wanted)


@pytest.mark.parametrize(
    ("observed", "tried"),
    [pytest.param(endpoint(PEER_NBMA), (endpoint(PEER_NBMA),), id="seen"), pytest.param(None, (), id="not seen yet")],
)
def test_an_answer_over_the_responders_own_sa_is_where_we_see_it(observed: Any, tried: Any) -> None:
    bench = bench_in(ShortcutState.RESOLVING)
    bench.tell(SecurityUp(PEER_NBMA, observed))
    bench.packet(answer(asked_for(bench)).with_candidates(Candidates((STRANGE,), (STRANGE,))), PEER_NBMA)
    (shortcut,) = bench.engine._machines.shortcuts.table
    assert shortcut.candidates == tried
    assert shortcut.ours


def test_a_peer_that_asks_over_its_own_sa_is_told_where_it_is_seen() -> None:
    bench = spoke()
    bench.tell(SecurityUp(PEER_NBMA, STRANGE))
    bench.packet(question(PEER, PEER_NBMA, OWN).with_candidates(Candidates()), PEER_NBMA)
    bench.answer_all()
    told = bench.last_sent(Kind.RESOLUTION_REPLY, PEER_NBMA).candidates()
    assert told is not None
    assert told.observed == STRANGE


def test_where_a_peer_sees_us_is_shown_while_the_path_to_it_stands() -> None:
    bench = bench_in(ShortcutState.PROBING)
    reply = answer(asked_for(bench, PEER), prefix=32).with_candidates(Candidates(observed=STRANGE))
    bench.packet(reply, PEER_NBMA)
    assert [one.seen_as for one in bench.view().shortcuts] == [STRANGE]
    bench.down(PEER_NBMA)
    assert [one.seen_as for one in bench.view().shortcuts] == [None]


def test_where_the_peer_was_said_to_be_is_shown_after_the_attempt_too() -> None:
    bench = bench_in(ShortcutState.RESOLVING)
    told = Candidates((endpoint(PEER_NBMA),), (STRANGE,))
    bench.packet(answer(asked_for(bench)).with_candidates(told), HUB_NBMA)
    bench.wait(60.0)
    (shortcut,) = bench.view().shortcuts
    assert shortcut.state is ShortcutState.NEGATIVE
    assert (shortcut.public, shortcut.private) == (told.public, told.private)
    assert shortcut.candidates == told.public
