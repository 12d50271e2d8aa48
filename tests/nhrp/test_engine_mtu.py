"""The MTU of a far end's tunnel: taken where it can be true and is less than ours, else left alone."""

from dataclasses import replace
from ipaddress import ip_network

import pytest
from engine_bench import HUB_NBMA, OWN_LAN, PEER, PEER_HOST, PEER_NBMA, Bench, answer, of, spoke
from shortcut_bench import UP, asked_for, bench_in, indicated, probed, row

from dmvpn.nhrp.events import InstallRoute, Used
from dmvpn.nhrp.numbers import Kind
from dmvpn.nhrp.packet import Packet
from dmvpn.nhrp.shortcuts import REFRESH_PART
from dmvpn.nhrp.snapshot import Snapshot

PEER_LAN = ip_network("10.1.12.0/24")
OUR_MTU = 1372


def answer_with(request: Packet, mtu_octets: int) -> Packet:
    reply = answer(request)
    return replace(reply, cies=tuple(replace(cie, mtu_octets=mtu_octets) for cie in reply.cies))


def installed_after(mtu_octets: int) -> list[InstallRoute]:
    bench = spoke()
    indicated(bench)
    bench.packet(answer_with(asked_for(bench), mtu_octets), HUB_NBMA)
    bench.up(PEER_NBMA)
    return of(probed(bench), InstallRoute)


@pytest.mark.parametrize(
    ("told", "taken"),
    [
        pytest.param(1300, 1300, id="a smaller tunnel"),
        pytest.param(576, 576, id="the least there is"),
        pytest.param(575, None, id="below the least"),
        pytest.param(0, None, id="not told"),
        pytest.param(OUR_MTU, None, id="the same as ours"),
        pytest.param(1514, None, id="an IOS loopback's"),
        pytest.param(17912, None, id="an IOS tunnel's"),
        pytest.param(17916, None, id="an IOS tunnel's without key"),
        pytest.param(65535, None, id="the most that fits the field"),
    ],
)
def test_a_believable_smaller_mtu_becomes_the_routes(told: int, taken: int | None) -> None:
    assert installed_after(told) == [InstallRoute(PEER_LAN, PEER, taken)]


def test_our_own_tunnel_mtu_is_told_in_requests_and_replies() -> None:
    bench = spoke()
    indicated(bench)
    assert [cie.mtu_octets for cie in asked_for(bench).cies] == [OUR_MTU]
    asked = replace(asked_for(bench), source_protocol=PEER, source_nbma=PEER_NBMA, destination_protocol=OWN_LAN[9])
    bench.packet(asked, HUB_NBMA)
    assert [cie.mtu_octets for cie in bench.last_sent(Kind.RESOLUTION_REPLY).cies] == [OUR_MTU]


def refresh(bench: Bench, mtu_octets: int) -> list[InstallRoute]:
    bench.wait(600 * REFRESH_PART + 1)
    bench.tell(Used(PEER_NBMA))
    return of(bench.packet(answer_with(asked_for(bench, PEER_HOST), mtu_octets), HUB_NBMA), InstallRoute)


def test_a_refresh_changes_the_route_only_if_the_mtu_has_changed() -> None:
    def up() -> Bench:
        bench = bench_in(UP, probe_interval_s=10_000.0)
        assert row(bench).state is UP
        return bench

    assert refresh(up(), 1400) == []
    assert refresh(up(), 1200) == [InstallRoute(PEER_LAN, PEER, 1200)]


def test_it_outlives_a_restart() -> None:
    bench = spoke()
    indicated(bench)
    bench.packet(answer_with(asked_for(bench), 1280), HUB_NBMA)
    bench.up(PEER_NBMA)
    probed(bench)
    saved = Snapshot.from_text(bench.engine.snapshot(bench.now).to_text())
    again = Bench(bench.settings, restored=saved)
    assert of(again.start(), InstallRoute) == [InstallRoute(PEER_LAN, PEER, 1280)]
