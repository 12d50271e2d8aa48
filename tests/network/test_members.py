"""Who is in a cloud with whom: planes, foreign routers, clouds in clear."""

from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dmvpn.network.compile import compile_plan, plane_is_open, routers
from dmvpn.network.loading import load
from dmvpn.network.model import Network
from dmvpn.network.plan import Cloud, ForeignPeer, Plan, Plane, Role

MIXED = (Path(__file__).parents[1] / "render" / "networks" / "kernel.yaml").read_text()
BOTH = (Plane.USERSPACE, Plane.KERNEL)


def mixed(*changes: tuple[str, str]) -> Network:
    text = MIXED
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    return load(text, "kernel.yaml")


def clouds(plan: Plan) -> dict[str, Cloud]:
    return {cloud.name: cloud for cloud in plan.clouds}


@pytest.mark.parametrize(
    ("at_cloud", "at_router", "plane", "is_open"),
    [
        pytest.param("auto", None, Plane.KERNEL, True, id="nobody says"),
        pytest.param("auto", "userspace", Plane.USERSPACE, False, id="the router"),
        pytest.param("kernel", None, Plane.KERNEL, False, id="the cloud"),
        pytest.param("kernel", "userspace", Plane.USERSPACE, False, id="the router against the cloud"),
        pytest.param("userspace", "auto", Plane.KERNEL, True, id="the router against the cloud, by the machine"),
    ],
)
def test_the_routers_word_counts_before_the_clouds(
    at_cloud: str, at_router: str | None, plane: Plane, *, is_open: bool
) -> None:
    own = f"      par1:\n        plane: {at_router}\n" if at_router else "      par1:\n"
    text = (Path(__file__).parents[2] / "examples" / "demo.yaml").read_text()
    text = text.replace("routing: bgp", f"routing: bgp, plane: {at_cloud}").replace(
        "      par1: # the", f"{own}        # the"
    )
    network = load(text, "demo.yaml")
    assert compile_plan(network, "par1", planes=BOTH).clouds[0].plane is plane
    assert plane_is_open(network, "par1") is is_open


def test_without_a_key_the_machine_has_no_choice() -> None:
    text = (Path(__file__).parents[2] / "examples" / "minimal.yaml").read_text()
    network = load(text, "minimal.yaml")
    assert network.clouds["blue"].gre_key is None
    assert compile_plan(network, "hq1", planes=BOTH).clouds[0].plane is Plane.USERSPACE


def test_a_hub_knows_foreign_peers_from_the_file() -> None:
    blue = clouds(compile_plan(mixed(), "hq1", planes=BOTH))["blue"]
    assert (blue.encrypted, blue.underlay_address) == (True, ip_address("198.51.100.2"))
    assert [peer.router for peer in blue.foreign] == ["rom1"]
    (rome,) = blue.foreign
    assert (rome.identity, rome.nbma, rome.asn, rome.role) == (
        "rom1.example.net",
        ip_address("192.0.2.6"),
        65003,
        Role.SPOKE,
    )
    assert [str(prefix) for prefix in rome.prefixes] == ["10.1.13.0/24"]


def test_a_foreign_peer_with_an_address_from_its_isp_is_known_by_name_only() -> None:
    network = mixed(("address: [192.0.2.6/30], gateway: [192.0.2.5]", "dhcp: true"))
    (rome,) = clouds(compile_plan(network, "par1", planes=BOTH))["blue"].foreign
    assert (rome.identity, rome.nbma) == ("rom1.example.net", None)


def test_in_a_cloud_in_clear_everybody_is_known_by_underlay_address() -> None:
    plan = compile_plan(mixed(), "mil1", planes=BOTH)
    (mpls,) = plan.clouds
    assert (mpls.encrypted, mpls.mtu_octets, mpls.underlay_address) == (False, 1472, ip_address("203.0.113.6"))
    (hub,) = mpls.foreign
    assert (hub.router, hub.nbma, hub.role) == ("hq1", ip_address("203.0.113.2"), Role.HUB)
    assert hub.prefixes == plan.prefixes
    assert [(hub.ours, hub.nbma) for hub in mpls.hubs] == [(True, ip_address("203.0.113.2"))]


def test_what_is_of_the_kernel_plane_is_not_on_the_other() -> None:
    (blue,) = compile_plan(mixed(), "osl1", planes=BOTH).clouds
    assert (blue.plane, blue.underlay_address, blue.multicast_group) == (Plane.USERSPACE, None, 0)
    (blue,) = compile_plan(mixed(), "par1", planes=BOTH).clouds
    assert (blue.plane, blue.multicast_group) == (Plane.KERNEL, 51466)


def test_an_encrypted_cloud_gives_the_profile_where_one_is_in_clear() -> None:
    network = mixed(
        ("clouds:\n", "crypto: {strong: {esp: chacha20poly1305}}\nclouds:\n"),
        ("gre-key: 1, plane: kernel", "gre-key: 1, plane: kernel, crypto: strong"),
        ("          mpls: {role: hub, address: [10.255.2.1], over: [mpls]}\n", ""),
        (
            "          blue: {role: hub",
            "          mpls: {role: hub, address: [10.255.2.1], over: [mpls]}\n          blue: {role: hub",
        ),
    )
    assert list(clouds(compile_plan(network, "hq1", planes=BOTH))) == ["mpls", "blue"]
    assert compile_plan(network, "hq1", planes=BOTH).ike.esp_proposal == "chacha20poly1305"


def site(number: int, *, foreign: bool) -> str:
    vendor = "        platform: vyos\n        claims: {from: file}\n" if foreign else ""
    tunnel = (
        f"interface: tun0, address: [10.255.1.{100 + number}]" if foreign else f"address: [10.255.1.{100 + number}]"
    )
    port = "interface" if foreign else "port"
    return (
        f"  new{number}:\n    asn: {4200000000 + number}\n"
        f"    networks: {{lan: {{port: eth1, prefix: 10.9.{number}.0/24}}}}\n    routers:\n      new{number}:\n{vendor}"
        f"        uplinks: {{isp1: {{{port}: eth0, dhcp: true}}}}\n        tunnels: {{blue: {{{tunnel}}}}}\n"
    )


def without_foreign(plan: Plan) -> Plan:
    return replace(plan, clouds=tuple(replace(cloud, foreign=()) for cloud in plan.clouds))


@settings(max_examples=15, deadline=None)
@given(number=st.integers(0, 100), foreign=st.booleans())
def test_one_site_more_is_news_where_the_file_alone_vouches_for_it(number: int, *, foreign: bool) -> None:
    before, after = mixed(), load(MIXED + site(number, foreign=foreign), "kernel.yaml")
    for router in routers(before):
        old, new = compile_plan(before, router, planes=BOTH), compile_plan(after, router, planes=BOTH)
        assert without_foreign(new) == without_foreign(old), router
        news: set[ForeignPeer] = set()
        for name, cloud in clouds(new).items():
            news |= {*cloud.foreign} - {*clouds(old)[name].foreign}
        expected = {f"new{number}"} if foreign and "blue" in clouds(new) else set()
        assert {peer.router for peer in news} == expected, router
