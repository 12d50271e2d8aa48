"""What the routers of one site are to each other: gateways they share, ways into each other's clouds, and who prefers
which cloud. Told of the network of figure 2 as its lab plays it."""

from functools import cache
from ipaddress import ip_address, ip_interface, ip_network
from pathlib import Path

import pytest

from dmvpn.network.compile import compile_plan, routers
from dmvpn.network.loading import load
from dmvpn.network.model import Network
from dmvpn.network.plan import Plan
from dmvpn.network.play import played_text
from dmvpn.network.slice import slice_of
from dmvpn.network.source import read
from dmvpn.network.writing import text_of

EXAMPLES = Path(__file__).parents[2] / "examples"
FIGURE2 = (EXAMPLES / "figure2.yaml").read_text()


@cache
def played(text: str = FIGURE2) -> Network:
    values = read(text, "figure2.yaml").values
    assert isinstance(values, dict)
    return load(played_text(values, load(text, "figure2.yaml")), "figure2.yaml")


def plan(router: str, text: str = FIGURE2) -> Plan:
    return compile_plan(played(text), router)


def test_foreign_routers_are_played_by_ours_without_what_was_for_their_sake_alone() -> None:
    network = played()
    assert set(routers(load(FIGURE2, "figure2.yaml"))) == set(routers(network)) - {"hq2", "col2", "bon1"}
    hq2, bon1 = network.sites["hq"].routers["hq2"], network.sites["bonn"].routers["bon1"]
    assert (hq2.uplinks["wan"].port, hq2.uplinks["wan"].interface) == ("eth0", None)
    assert (bon1.uplinks["wan"].port, bon1.lan_port) == ("eth0", "eth1")
    assert {cloud.plane.value for cloud in network.clouds.values()} == {"auto"}
    assert network.clouds["green"].nhrp.secret is None
    assert not network.lab.play


def test_a_cloud_with_a_foreign_router_that_frr_plays_keeps_its_plane_and_its_secret() -> None:
    network = played(FIGURE2.replace("col2: debian", "col2: frr"))
    assert {name: cloud.plane.value for name, cloud in network.clouds.items()} == {"blue": "auto", "green": "kernel"}
    assert network.clouds["green"].nhrp.secret is not None


def test_the_first_router_of_a_site_offers_more_and_both_lose_the_same() -> None:
    first, second = plan("ber1").vrrp, plan("ber2").vrrp
    assert first is not None
    assert second is not None
    assert [gateway.address for gateway in first.gateways] == [ip_interface("10.1.1.1/24")]
    assert first.gateways == second.gateways
    assert first.priority > second.priority > first.priority - first.lost > second.priority - second.lost > 0
    assert plan("mun1").vrrp is None


def test_two_times_of_advertisements_and_a_group() -> None:
    text = FIGURE2.replace("clouds: #", "system: {vrrp: {group: 9, advertise: 1200ms}}\nclouds: #")
    found = plan("ber1", text).vrrp
    assert found is not None
    assert (found.group, found.advertise_ms) == (9, 1200)


def test_a_router_speaks_with_those_of_its_site_that_are_in_other_clouds() -> None:
    session = plan("ber1").session
    assert session is not None
    assert [(peer.router, peer.address, peer.own) for peer in session.peers] == [
        ("ber2", ip_address("10.1.1.3"), ip_address("10.1.1.2"))
    ]
    assert session.asn == 65001
    assert session.bfd is not None
    assert not session.exported
    assert plan("mun1").session is None


def test_routers_that_are_in_the_same_clouds_need_no_session() -> None:
    text = FIGURE2.replace("tunnels: {green: {address: [10.255.2.11]}}", "tunnels: {blue: {address: [10.255.1.16]}}", 1)
    assert plan("ber1", text).session is None
    assert plan("ber1", text).vrrp is not None


def test_what_the_hub_announces_of_the_other_cloud_leaves_the_partner() -> None:
    text = FIGURE2.replace("    bandwidth: 100M", "    bandwidth: 100M\n    redistribute: green")
    partner, hub, spoke = plan("hq2", text), plan("hq1", text), plan("ber2", text)
    assert partner.session is not None
    assert partner.session.exported
    assert hub.session is not None
    assert not hub.session.exported
    assert hub.clouds[0].redistributes == ("green",)
    assert spoke.session is not None
    assert not spoke.session.exported, "only hubs announce another cloud"


@pytest.mark.parametrize(
    ("blue", "green", "ranks"),
    [
        ("100M", "10M", {"blue": 0, "green": 1}),
        ("10M", "100M", {"blue": 1, "green": 0}),
        ("10M", "10M", {"blue": 0, "green": 1}),
    ],
)
def test_bandwidth_decides_between_clouds(blue: str, green: str, ranks: dict[str, int]) -> None:
    text = FIGURE2.replace("bandwidth: 100M", "bandwidth: @").replace("bandwidth: 10M", f"bandwidth: {green}")
    text = text.replace("@", blue)
    assert {cloud.name: cloud.rank for cloud in plan("mun1", text).clouds} == ranks
    assert {cloud.name: cloud.rank for cloud in plan("ber1", text).clouds} == {"blue": ranks["blue"]}


def test_without_bandwidths_nothing_is_chosen_and_hubs_announce_the_summary() -> None:
    text = FIGURE2.replace("    bandwidth: 100M\n", "").replace("    bandwidth: 10M\n", "")
    blue = plan("mun1", text).clouds[0]
    assert blue.rank is None
    assert blue.bgp is not None
    assert not blue.bgp.specific
    chosen = plan("mun1").clouds[0].bgp
    assert chosen is not None
    assert chosen.specific


@pytest.mark.parametrize("router", sorted(routers(played())))
def test_the_same_follows_from_a_slice(router: str) -> None:
    values = read(text := played_text(read(FIGURE2, "f").values, load(FIGURE2, "f")), "f").values  # type: ignore[arg-type]
    assert isinstance(values, dict)
    own = load(text_of(slice_of(values, load(text, "f"), router)), "slice.yaml")
    assert compile_plan(own, router) == compile_plan(load(text, "f"), router)


def test_a_network_behind_the_site_is_announced_by_the_router_that_knows_the_way() -> None:
    text = FIGURE2.replace(
        "addresses: {lan: 10.1.1.2}",
        "addresses: {lan: 10.1.1.2}\n        routes: [{prefix: 10.7.0.0/24, via: 10.1.1.9}]",
    )
    first, second = plan("ber1", text), plan("ber2", text)
    assert [(route.prefix, route.via, route.device) for route in first.routes] == [
        (ip_network("10.7.0.0/24"), ip_address("10.1.1.9"), "eth1")
    ]
    assert ip_network("10.7.0.0/24") in first.serves
    assert first.clouds[0].bgp is not None
    assert ip_network("10.7.0.0/24") in first.clouds[0].bgp.announce
    assert second.routes == ()
    assert ip_network("10.7.0.0/24") not in second.serves


def test_the_site_is_let_in_on_its_own_networks_alone() -> None:
    openings = {opening.why: opening for opening in plan("ber1").openings}
    assert openings["VRRP"].devices == ("eth1",)
    assert openings["BGP between the site's routers"].devices == ("eth1",)
    assert openings["BFD between the site's routers"].devices == ("eth1",)
