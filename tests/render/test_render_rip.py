"""ripd and ripngd: what each is told of a cloud, and what is opened for them."""

from pathlib import Path

import pytest
from render_frr import beside, files, lines, of

from dmvpn.linux import process
from dmvpn.network.plan import Plane
from dmvpn.render import frr, nftables
from dmvpn.render.layout import Layout

ROOT = Path(__file__).parents[2]
FOUR = ROOT / "examples" / "rip.yaml"
BOTH = ROOT / "tests" / "vpn" / "networks" / "rip6.yaml"
BESIDE = beside("rip")


@pytest.mark.parametrize("router", ["par1", "hq1"])
def test_rip_hears_on_its_tunnels_and_tells_of_the_sites_networks(router: str) -> None:
    plan = of(router, FOUR.read_text())
    assert "ripngd.conf" not in files(plan)
    rip = lines(plan, "ripd.conf")
    assert [line for line in rip if "network" in line] == [
        " network hops-rip-fast",
        " network hops-rip-slow",
        " network eth1",
    ]
    assert rip.count(" no ip rip split-horizon") == 2
    assert " passive-interface eth1" in rip


def test_each_family_has_its_daemon_and_is_told_of_its_own_networks() -> None:
    plan = of("par1", BOTH.read_text())
    for file, behind, other, words in (
        (
            "ripd.conf",
            "10.1.21.0/24",
            "fd00:1:21::/64",
            [" version 2", " no ip rip split-horizon", " distribute-list prefix dmvpn-nobody in eth1"],
        ),
        (
            "ripngd.conf",
            "fd00:1:21::/64",
            "10.1.21.0/24",
            [" no ipv6 ripng split-horizon", " ipv6 distribute-list prefix dmvpn-nobody in eth1"],
        ),
    ):
        told = lines(plan, file)
        assert [line for line in told if "network" in line or "route " in line] == [
            " network echo-blue",
            " network eth1",
            f" route {behind}",
        ]
        assert not any(other in line or "redistribute" in line for line in told)
        assert " passive-interface eth1" in told, "and the internet-only network is not told at all"
        assert set(words) <= set(told)


def test_the_kernel_gets_internal_networks_and_no_way_to_an_overlay() -> None:
    zebra = lines(of("par1", BOTH.read_text()), "zebra.conf")
    assert [line for line in zebra if "ripng" in line] == [
        "ipv6 prefix-list dmvpn-ripng seq 5 deny fd00:255:1::/64 le 128",
        "ipv6 prefix-list dmvpn-ripng seq 10 permit fd00::/16 le 128",
        "route-map dmvpn-ripng permit 10",
        " match ipv6 address prefix-list dmvpn-ripng",
        "ipv6 protocol ripng route-map dmvpn-ripng",
    ]
    assert "ip protocol rip route-map dmvpn-rip" in zebra


def test_only_a_daemon_that_has_a_distance_is_given_one() -> None:
    plan = of("hq2", BESIDE)
    assert " distance 30" in lines(plan, "ripd.conf")
    assert not any("distance" in line for line in lines(plan, "ripngd.conf"))


def test_a_sites_partner_hears_of_both_families() -> None:
    bgp = lines(of("hq2", BESIDE), "bgpd.conf")
    assert [line for line in bgp if "redistribute" in line] == [
        "  redistribute rip route-map dmvpn-to-bgp",
        "  redistribute ripng route-map dmvpn-to-bgp",
    ]


def test_each_port_is_open_where_its_family_is_spoken() -> None:
    text = BOTH.read_text().replace(
        "clouds: {blue:", "clouds: {green: {overlay: [10.255.2.0/24], gre-key: 2, routing: rip}, blue:"
    )
    text = text.replace("tunnels: {blue:", "tunnels: {green: {ROLE address: [10.255.2.N]}, blue:")
    for role, number in (("role: hub,", "1"), ("", "11"), ("", "12")):
        text = text.replace("ROLE", role, 1).replace("10.255.2.N", f"10.255.2.{number}", 1)
    found = {one.why: one.devices for one in of("par1", text).openings if one.why.startswith("RIP")}
    assert found == {"RIP": ("echo-green", "echo-blue"), "RIPng": ("echo-blue",)}


def test_a_router_may_have_it_beside_another_cloud_that_is_preferred() -> None:
    """In both families: check refuses the other order."""
    both = (
        '{blue: {role: hub, address: [10.255.1.1, "fd00:255:1::1"]},'
        ' green: {role: hub, address: [10.255.2.2, "fd00:255:2::2"]}}'
    )
    plan = of("hq1", BESIDE.replace('{blue: {role: hub, address: [10.255.1.1, "fd00:255:1::1"]}}', both))
    assert [cloud.rank for cloud in plan.clouds] == [0, 1]
    assert " set distance 20" in lines(plan, "bgpd.conf"), "before ripngd's 120"


@pytest.mark.parametrize(
    ("text", "ports"),
    [
        pytest.param(BOTH.read_text(), {"RIP": (520,), "RIPng": (521,)}, id="both families"),
        pytest.param(FOUR.read_text(), {"RIP": (520,)}, id="IPv4"),
    ],
)
def test_its_ports_are_open_inside_the_clouds_that_speak_it(text: str, ports: dict[str, tuple[int, ...]]) -> None:
    plan = of("par1", text)
    assert {one.why: one.ports for one in plan.openings if one.why.startswith("RIP")} == ports
    speaking = {cloud.device for cloud in plan.clouds if cloud.rip is not None}
    assert all(set(one.devices) == speaking for one in plan.openings if one.why.startswith("RIP"))


def test_on_the_kernel_plane_dmvpnd_is_given_what_goes_to_all_routers() -> None:
    plan = of("par1", BOTH.read_text(), Plane.KERNEL)
    (file,) = nftables.render(plan, Layout(plan.network)).files
    group = plan.clouds[0].multicast_group
    assert f"ip6 daddr ff02::9 udp dport 521 log group {group} " in file.text
    assert "ff02::5" not in file.text


@pytest.mark.parametrize("text", [FOUR.read_text(), BOTH.read_text(), BESIDE], ids=["IPv4", "both", "beside BGP"])
def test_vtysh_reads_what_rip_gives(text: str, tmp_path: Path) -> None:
    for router in ("hq1", "hq2") if text == BESIDE else ("hq1", "par1"):
        plan = of(router, text)
        for file in frr.render(plan, Layout(plan.network)).files:
            (tmp_path / file.path).write_text(file.text)
            process.run(("vtysh", "-C", "-f", str(tmp_path / file.path)), timeout_s=20, package="frr")
