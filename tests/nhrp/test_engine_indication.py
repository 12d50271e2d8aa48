"""nhrp.md 3.5: traffic indications, sent and acted on, and their limiter."""

from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest
from engine_bench import (
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
    PEER_LAN,
    PEER_NBMA,
    Bench,
    first_sent,
    hairpin,
    happened,
    hub_with_clients,
    indication,
    ip_head,
    names,
    reasons,
    registered,
    sent,
    spoke,
)

from dmvpn.nhrp.events import DropReason, Egress, Forget, Hairpin, RouteChanged
from dmvpn.nhrp.extensions import CiscoAuthentication, CiscoNat, ForwardTransit, ReverseTransit
from dmvpn.nhrp.indications import PAIRS_LIMIT, Limiter
from dmvpn.nhrp.numbers import Kind

V6_OVERLAY = ip_network("fd00:255:1::/64")
V6_HUB, V6_PEER = ip_address("fd00:255:1::1"), ip_address("fd00:255:1::12")
V6_SOURCE, V6_DESTINATION = ip_address("fd00:11::1"), ip_address("fd00:12::1")


def test_the_indication_is_ciscos() -> None:
    bench = hub_with_clients()
    object.__setattr__(bench.settings, "authentication", b"secret")
    actions = bench.tell(hairpin())
    assert sent(actions) == [(Kind.TRAFFIC_INDICATION, OWN_NBMA)], "to who delivered the packet"
    assert happened(actions) == ["redirected"]
    packet = first_sent(actions)
    assert (packet.source_nbma, packet.source_protocol) == (HUB_NBMA, HUB)
    assert packet.destination_protocol == OWN_HOST, "the packet's source, be it behind the client"
    assert packet.hop_count == 255
    assert packet.payload == ip_head(OWN_HOST, PEER_HOST)[:28]
    kinds = [type(extension) for extension in packet.extensions]
    assert kinds == [ForwardTransit, ReverseTransit, CiscoNat, CiscoAuthentication]


def test_ipv6_in_the_overlay_is_indicated_by_an_ipv6_packet() -> None:
    bench = hub_with_clients(protocol=(HUB, V6_HUB), overlay=(ip_network("10.255.1.0/24"), V6_OVERLAY))
    bench.route("fd00:12::/64", Egress.OVERLAY, PEER)
    packet = first_sent(bench.tell(hairpin(V6_SOURCE, V6_DESTINATION)))
    assert packet.source_protocol == V6_HUB
    assert len(packet.payload) == 48


@pytest.mark.parametrize(
    "told",
    [
        pytest.param(hairpin(sender=OTHER_NBMA), id="from who is no client"),
        pytest.param(hairpin(sender=PEER_NBMA), id="back to who sent it"),
        pytest.param(hairpin(destination=ip_address("224.0.0.5")), id="multicast"),
        pytest.param(hairpin(destination=ip_address("192.0.2.1")), id="not by the overlay"),
        pytest.param(hairpin(destination=HUB), id="to the hub itself"),
        pytest.param(hairpin(V6_SOURCE, V6_DESTINATION), id="of a family the overlay has not"),
        pytest.param(Hairpin(b"", OWN_NBMA), id="nothing"),
        pytest.param(Hairpin(b"\x45" + bytes(18), OWN_NBMA), id="half a header"),
        pytest.param(Hairpin(b"\x60" + bytes(38), OWN_NBMA), id="half an IPv6 header"),
        pytest.param(Hairpin(b"\x95" + bytes(60), OWN_NBMA), id="not IP"),
    ],
)
def test_packets_that_nobody_is_told_about(told: Hairpin) -> None:
    assert hub_with_clients().tell(told) == []


def test_a_hub_that_does_not_redirect_is_silent() -> None:
    assert hub_with_clients(redirect=False).tell(hairpin()) == []


# ---------------------------------------------------------------- the limiter

A, B, C = OWN_HOST, PEER_HOST, ip_address("10.1.13.10")


@pytest.mark.parametrize(
    ("packets", "expected"),
    [
        pytest.param([(0, A, B)], [True], id="the first"),
        pytest.param([(0, A, B), (4.9, A, B)], [True, False], id="sooner than 5 s"),
        pytest.param([(0, A, B), (5, A, B)], [True, True], id="after 5 s"),
        pytest.param([(0, A, B), (0, A, C)], [True, True], id="another destination"),
        pytest.param([(0, A, B), (0, C, B)], [True, True], id="another source"),
        pytest.param([(at, A, B) for at in range(0, 20, 5)], [True] * 4, id="four tokens"),
        pytest.param([(at, A, B) for at in range(0, 30, 5)], [True] * 4 + [False] * 2, id="the fifth waits"),
        pytest.param(
            [(at, A, B) for at in (0, 5, 10, 15, 74, 75, 80, 135)],
            [True] * 4 + [False, True, False, True],
            id="then one a minute",
        ),
        pytest.param([(0, A, B), (5, A, B), (10, A, B), (15, A, B), (374, A, B)], [True] * 5, id="slow is allowed"),
        pytest.param(
            [*((at, A, B) for at in (0, 5, 10, 15)), (375, A, B), (380, A, B)],
            [True] * 6,
            id="forgiven after 360 s of silence",
        ),
        pytest.param(
            [*((at, A, B) for at in range(0, 70, 5)), (70, A, B)],
            [True] * 4 + [False] * 10 + [False],
            id="traffic all along",
        ),
    ],
)
def test_the_limiter(packets: list[tuple[float, object, object]], expected: list[bool]) -> None:
    limiter = Limiter()
    assert [limiter.allows(source, destination, 100.0 + at) for at, source, destination in packets] == expected


def test_the_limiter_is_bounded_and_forgets_who_was_not_seen_for_longest() -> None:
    limiter = Limiter()
    for number in range(PAIRS_LIMIT + 1):
        limiter.allows(A, ip_address(number), 0.0)
    assert len(limiter) == PAIRS_LIMIT
    assert limiter.allows(A, ip_address(0), 0.0)


def test_a_limited_indication_is_counted() -> None:
    bench = hub_with_clients()
    bench.tell(hairpin())
    assert reasons(bench.tell(hairpin())) == [DropReason.RATE_LIMIT]


@pytest.mark.parametrize("network", [PEER_LAN, OWN_LAN, None], ids=["of the destination", "of the source", "of all"])
def test_a_purge_lets_it_be_said_again(network: object) -> None:
    bench = hub_with_clients()
    bench.tell(hairpin())
    bench.tell(Forget(ip_network("10.9.0.0/16")))
    assert sent(bench.tell(hairpin())) == []
    bench.engine._machines.indications.limiter.forget(network)
    assert sent(bench.tell(hairpin())) == [(Kind.TRAFFIC_INDICATION, OWN_NBMA)]


def test_a_clients_purge_lets_it_be_said_again() -> None:
    from test_engine_server import purge

    bench = hub_with_clients()
    bench.tell(hairpin())
    bench.packet(purge(OWN, OWN_NBMA, PEER_LAN), OWN_NBMA)
    assert sent(bench.tell(hairpin())) == [(Kind.TRAFFIC_INDICATION, OWN_NBMA)]


# ---------------------------------------------------------------- received


def test_an_indication_makes_a_spoke_ask() -> None:
    bench = spoke()
    assert names(bench.packet(indication(), HUB_NBMA)) == ["RESOLUTION_REQUEST"]


@pytest.mark.parametrize(
    ("destination", "sender", "reason"),
    [
        pytest.param(PEER_HOST, OTHER_NBMA, DropReason.STRANGER, id="from who does not carry our packets"),
        pytest.param(ip_address("192.0.2.1"), HUB_NBMA, DropReason.STRANGER, id="not by the overlay"),
        pytest.param(OWN_HOST, HUB_NBMA, DropReason.STRANGER, id="our own network"),
        pytest.param(ip_address("224.0.0.5"), HUB_NBMA, DropReason.STRANGER, id="multicast"),
        pytest.param(OWN, HUB_NBMA, DropReason.STRANGER, id="ourselves"),
    ],
)
def test_indications_that_are_not_acted_on(destination: object, sender: object, reason: DropReason) -> None:
    bench = spoke()
    actions = bench.packet(indication(destination=destination), sender)
    assert reasons(actions) == [reason]
    assert bench.view().shortcuts == ()


def test_one_without_a_sender_is_a_strangers() -> None:
    from dmvpn.nhrp.events import Received

    assert reasons(spoke().tell(Received(indication().encode(), None))) == [DropReason.STRANGER]


def test_one_without_a_packet_in_it_is_malformed() -> None:
    assert reasons(spoke().packet(indication(payload=b"\x45"), HUB_NBMA)) == [DropReason.MALFORMED]


@pytest.mark.parametrize("bench", [lambda: spoke(shortcut=False), lambda: spoke(phase=1, shortcut=False)])
def test_who_makes_no_shortcuts_says_so(bench) -> None:
    assert reasons(bench().packet(indication(), HUB_NBMA)) == [DropReason.UNSUPPORTED]


def test_an_address_of_the_overlay_itself_is_asked_for_even_before_routing_has_converged() -> None:
    bench = spoke()
    actions = bench.packet(indication(destination=PEER), HUB_NBMA)
    assert names(actions) == ["RESOLUTION_REQUEST"]


def _second_hub() -> Bench:
    from engine_bench import HUB_SETTING

    return spoke(hubs=(HUB_SETTING, replace(HUB_SETTING, name="hub2", protocol=(OTHER,), nbma=OTHER_NBMA)))


def test_only_the_hub_that_carries_the_packets_counts() -> None:
    bench = _second_hub()
    bench.up(OTHER_NBMA)
    assert reasons(bench.packet(indication(), OTHER_NBMA)) == [DropReason.STRANGER]


def _two_ways() -> Bench:
    """Either hub leads to the peer's network, and both are up."""
    bench = _second_hub()
    bench.up(OTHER_NBMA)
    bench.packet(registered(bench.last_sent(Kind.REGISTRATION_REQUEST, OTHER_NBMA)), OTHER_NBMA)
    bench.tell(RouteChanged(PEER_LAN, Egress.OVERLAY, HUB, "blue", (OTHER,)))
    return bench


@pytest.mark.parametrize("sender", [HUB_NBMA, OTHER_NBMA])
def test_of_two_ways_that_are_as_good_either_hub_counts(sender: object) -> None:
    bench = _two_ways()
    assert sent(bench.packet(indication(), sender)) == [(Kind.RESOLUTION_REQUEST, HUB_NBMA)]


def test_of_two_ways_the_one_whose_hub_is_up_carries_what_is_asked() -> None:
    bench = _two_ways()
    bench.down(HUB_NBMA)
    assert sent(bench.packet(indication(), OTHER_NBMA)) == [(Kind.RESOLUTION_REQUEST, OTHER_NBMA)]
