"""Many engines: what routes, purges, operators and liars do to shortcuts."""

from dataclasses import replace
from ipaddress import ip_network

import pytest
from simulation import INTERNAL, host_of, lan_of, nbma_of, overlay_of
from test_engine_network import HUB, A, B, C, network, shortcut_of

from dmvpn.nhrp.cie import Cie
from dmvpn.nhrp.events import (
    Egress,
    Forget,
    Received,
    RouteChanged,
    RouteGone,
)
from dmvpn.nhrp.extensions import CiscoAuthentication
from dmvpn.nhrp.numbers import Kind
from dmvpn.nhrp.packet import Packet, decode
from dmvpn.nhrp.shortcut import ShortcutState, WhyNot

HALF = next(lan_of(B).subnets())
MOVES = [
    pytest.param(RouteGone(INTERNAL), True, id="gone: the default route below it is no move"),
    pytest.param(RouteChanged(INTERNAL, Egress.OVERLAY, overlay_of(9), "acme-blue"), True, id="another hub"),
    pytest.param(RouteChanged(INTERNAL, Egress.UNREACHABLE, None, "lo"), True, id="unreachable is no better way"),
    pytest.param(RouteChanged(INTERNAL, Egress.ELSEWHERE, None, "eth1"), False, id="by another device"),
    pytest.param(RouteChanged(INTERNAL, Egress.OVERLAY, overlay_of(9), "acme-green"), False, id="by another cloud"),
    pytest.param(RouteChanged(lan_of(B), Egress.ELSEWHERE, None, "eth1"), False, id="the same prefix elsewhere"),
    pytest.param(RouteChanged(lan_of(B), Egress.LOCAL, None, "lo"), False, id="it is ours now"),
    pytest.param(RouteChanged(HALF, Egress.ELSEWHERE, None, "eth1"), False, id="a part elsewhere"),
    pytest.param(RouteChanged(HALF, Egress.OVERLAY, overlay_of(1), "acme-blue"), True, id="a part by hub"),
    pytest.param(RouteChanged(lan_of(C), Egress.ELSEWHERE, None, "eth1"), True, id="a neighbour's prefix"),
    pytest.param(RouteChanged(ip_network("0.0.0.0/0"), Egress.ELSEWHERE, None, "eth1"), True, id="a wider route"),
    pytest.param(RouteChanged(ip_network("::/0"), Egress.ELSEWHERE, None, "eth1"), True, id="the other family"),
]


@pytest.mark.parametrize(("change", "kept"), MOVES)
def test_a_shortcut_ends_when_its_covering_route_moves_to_another_egress(
    change: RouteChanged | RouteGone,
    kept: bool,  # noqa: FBT001
) -> None:
    sim = network()
    sim.flow(A, B, 3.0)
    sim.tell(sim.by_number[A], change)
    assert (lan_of(B) in sim.by_number[A].shortcuts) is kept


def test_a_default_route_that_moves_while_the_covering_one_is_gone_ends_nothing() -> None:
    sim = network()
    sim.flow(A, B, 3.0)
    node = sim.by_number[A]
    sim.tell(node, RouteGone(INTERNAL))
    sim.tell(node, RouteChanged(ip_network("0.0.0.0/0"), Egress.ELSEWHERE, None, "eth9"))
    sim.tell(node, RouteChanged(INTERNAL, Egress.OVERLAY, overlay_of(HUB), "acme-blue"))
    assert lan_of(B) in node.shortcuts


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(RouteGone(lan_of(B)), id="the LAN is gone"),
        pytest.param(RouteChanged(lan_of(B), Egress.OVERLAY, overlay_of(HUB), "acme-blue"), id="by the hub now"),
        pytest.param(RouteChanged(lan_of(B), Egress.UNREACHABLE, None, "lo"), id="unreachable now"),
    ],
)
def test_an_egress_takes_back_its_answer_when_its_route_moves_away(change: RouteChanged | RouteGone) -> None:
    sim = network()
    sim.flow(A, B, 3.0)
    node = sim.by_number[B]
    sim.tell(node, RouteGone(ip_network(lan_of(B)[1])))
    sim.tell(node, change)
    sim.run(1.0)
    assert sim.by_number[A].shortcuts == {}
    replies = [decode(send.octets).kind for _, send in sim.by_number[A].sent]
    assert Kind.PURGE_REPLY in replies


def test_a_lost_purge_is_sent_again_and_given_up() -> None:
    sim = network()
    sim.flow(A, B, 3.0)
    sim.cut_between(A, B)
    node = sim.by_number[B]
    sim.tell(node, RouteGone(ip_network(lan_of(B)[1])))
    sim.tell(node, RouteGone(lan_of(B)))
    sim.run(30.0)
    purges = [at for at, send in node.sent if decode(send.octets).kind is Kind.PURGE_REQUEST]
    assert len(purges) == 3


def test_the_operator_can_make_a_router_forget() -> None:
    sim = network()
    sim.flow(A, B, 3.0)
    for number in (A, B, HUB):
        sim.tell(sim.by_number[number], Forget(None))
    assert sim.by_number[A].shortcuts == {}
    assert sim.by_number[HUB].neighbours == {}
    assert [row.kind for row in sim.by_number[B].engine.view(sim.now).bindings] == ["local", "hub"]


# ---------------------------------------------------------------- impostors


def test_a_prefix_that_the_egress_may_not_have_is_never_installed() -> None:
    """C announces B's network too: its routing and its `serves` say so, its certificate does not."""
    sim = network()
    hub = sim.by_number[HUB]
    sim.tell(hub, RouteChanged(lan_of(B), Egress.OVERLAY, overlay_of(C), "acme-blue"))
    liar = sim.by_number[C]
    sim.tell(liar, RouteChanged(lan_of(B), Egress.ELSEWHERE, None, "lan1"))
    object.__setattr__(liar.settings, "serves", (lan_of(C), lan_of(B)))
    sim.flow(A, B, 30.0)
    assert sim.by_number[A].shortcuts == {}
    row = shortcut_of(sim, A)
    assert (row.state, row.why) == (ShortcutState.NEGATIVE, WhyNot.NOT_AUTHORISED)
    assert str(row.prefix) == f"{host_of(B)}/32", "nobody vouched for more than the host"


def test_nobody_can_end_the_shortcuts_to_another_through_the_hub() -> None:
    """C takes back what B answered: in its own name, as if it were at B's address."""
    sim = network()
    sim.flow(A, B, 3.0)
    assert lan_of(B) in sim.by_number[A].shortcuts
    cie = Cie(0, 24, 1400, 0, 0, None, b"", lan_of(B).network_address)
    forged = Packet(
        kind=Kind.PURGE_REQUEST,
        hop_count=255,
        flags=0,
        request_id=1,
        source_nbma=nbma_of(B),
        source_protocol=overlay_of(C),
        destination_protocol=overlay_of(A),
        cies=(cie,),
        extensions=(CiscoAuthentication(b"secret"),),
    )
    for source_nbma, reaches in ((nbma_of(B), False), (nbma_of(C), True)):
        octets = replace(forged, source_nbma=source_nbma).encode()
        sim.tell(sim.by_number[HUB], Received(octets, nbma_of(C)))
        sim.run(1.0)
        reached = [decode(send.octets).kind for _, send in sim.by_number[HUB].sent].count(Kind.PURGE_REQUEST)
        assert bool(reached) is reaches
        assert lan_of(B) in sim.by_number[A].shortcuts
