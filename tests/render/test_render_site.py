"""bgpd and ospfd where a router has a choice: between its own clouds, and those of the site's partner."""

from functools import cache
from pathlib import Path

import pytest
from render_plans import dual_stack_hub

from dmvpn.linux import process
from dmvpn.network.compile import compile_plan
from dmvpn.network.loading import load
from dmvpn.network.plan import Plan
from dmvpn.network.play import played_text
from dmvpn.network.source import read
from dmvpn.render import frr
from dmvpn.render.layout import Layout

EXAMPLES = Path(__file__).parents[2] / "examples"
FIGURE2 = (EXAMPLES / "figure2.yaml").read_text()


@cache
def plan(router: str, text: str = FIGURE2) -> Plan:
    values = read(text, "figure2.yaml").values
    assert isinstance(values, dict)
    return compile_plan(load(played_text(values, load(text, "figure2.yaml")), "figure2.yaml"), router)


def lines(plan: Plan, name: str) -> list[str]:
    text = next(file.text for file in frr.render(plan, Layout("corp")).files if str(file.path) == name)
    return text.splitlines()


def clause(text: list[str], head: str) -> list[str]:
    at = text.index(head)
    return [line.strip() for line in text[at + 1 : text.index("exit", at)]]


def test_the_better_cloud_has_the_higher_preference_and_the_smaller_distance() -> None:
    bgp, ospf = lines(plan("mun1"), "bgpd.conf"), lines(plan("mun1"), "ospfd.conf")
    assert clause(bgp, "route-map blue-in permit 10") == ["set local-preference 200", "set distance 20"]
    assert " distance ospf intra-area 30 inter-area 30 external 210" in ospf
    turned = FIGURE2.replace("bandwidth: 100M", "bandwidth: 1M")
    bgp, ospf = lines(plan("mun1", turned), "bgpd.conf"), lines(plan("mun1", turned), "ospfd.conf")
    assert clause(bgp, "route-map blue-in permit 10") == ["set local-preference 190", "set distance 30"]
    assert " distance ospf intra-area 20 inter-area 20 external 210" in ospf


def test_hubs_and_spokes_of_several_clouds_tell_and_take_every_network() -> None:
    assert "ip prefix-list blue-to-spokes seq 5 permit 10.0.0.0/8 le 32" in lines(plan("hq1"), "bgpd.conf")
    assert "ip prefix-list blue-from-hubs seq 5 permit 10.0.0.0/8 le 32" in lines(plan("mun1"), "bgpd.conf")


def test_a_partner_is_told_of_other_sites_and_tells_nobody() -> None:
    bgp = lines(plan("ber2"), "bgpd.conf")
    assert "  redistribute ospf route-map dmvpn-to-bgp" in bgp
    assert "set community no-export additive" in clause(bgp, "route-map dmvpn-site-out permit 10")
    assert "set local-preference 50" in clause(bgp, "route-map dmvpn-site-in permit 10")
    for never in ("100.64.0.0/16", "10.1.1.0/24", "10.255.2.0/24"):
        assert any(f" deny {never} le 32" in line for line in bgp if "dmvpn-site seq" in line)


def test_redistribution_is_one_way_and_the_last_choice() -> None:
    text = FIGURE2.replace("    bandwidth: 100M", "    bandwidth: 100M\n    redistribute: green")
    partner, spoke = lines(plan("hq2", text), "bgpd.conf"), lines(plan("mun1", text), "bgpd.conf")
    assert "set community 65000:1 additive" in clause(partner, "route-map dmvpn-site-out permit 10")
    assert "set community no-export additive" in clause(
        lines(plan("ber2", text), "bgpd.conf"), "route-map dmvpn-site-out permit 10"
    )
    assert clause(spoke, "route-map blue-in permit 5")[1:] == ["set local-preference 40", "set distance 210"]
    assert not any("redistribute bgp" in line for line in lines(plan("hq2", text), "ospfd.conf"))
    other = FIGURE2.replace("    bandwidth: 10M\n", "    bandwidth: 10M\n    redistribute: blue\n")
    assert " redistribute bgp route-map dmvpn-to-ospf" in lines(plan("hq2", other), "ospfd.conf")


def test_bfd_watches_neighbours_of_ospf_and_of_the_site() -> None:
    ospf, bfd = lines(plan("mun1"), "ospfd.conf"), lines(plan("ber2"), "bfdd.conf")
    assert ospf.index(" ip ospf bfd") + 1 == ospf.index(" ip ospf bfd profile dmvpn-green")
    assert {" profile dmvpn-green", " profile dmvpn-site"} <= set(bfd)
    assert " neighbor 10.1.1.2 bfd profile dmvpn-site" in lines(plan("ber2"), "bgpd.conf")


@pytest.mark.parametrize("family", ["10.255.1.2", "fd00:255:1::2"])
def test_between_hubs_of_one_as_a_way_is_longer_and_reflected(family: str) -> None:
    text = frr.bgpd_conf(dual_stack_hub()).splitlines()
    assert clause(text, "route-map blue-hubs-in permit 10") == ["set metric +100", "set ipv6 next-hop prefer-global"]
    assert f"  neighbor {family} route-map blue-hubs-in in" in text
    assert f"  neighbor {family} next-hop-self force" in text
    assert f"  neighbor {family} route-reflector-client" in text
    assert " bgp deterministic-med" in text


def test_a_network_behind_the_site_is_told_by_each_protocol() -> None:
    routes = "addresses: {lan: 10.1.1.3}\n        routes: [{prefix: 10.7.0.0/24, via: 10.1.1.9}]"
    text = FIGURE2.replace("addresses: {lan: 10.1.1.3}", routes)
    ospf = lines(plan("ber2", text), "ospfd.conf")
    assert "ip prefix-list dmvpn-behind seq 5 permit 10.7.0.0/24" in ospf
    assert " redistribute kernel route-map dmvpn-behind" in ospf


@pytest.mark.parametrize("router", ["hq1", "hq2", "ber1", "ber2", "mun1"])
def test_vtysh_reads_what_figure_2_gives(router: str, tmp_path: Path) -> None:
    text = FIGURE2.replace("    bandwidth: 100M", "    bandwidth: 100M\n    redistribute: green")
    for file in frr.render(plan(router, text), Layout("corp")).files:
        (tmp_path / file.path).write_text(file.text)
        process.run(("vtysh", "-C", "-f", str(tmp_path / file.path)), timeout_s=20, package="frr")


def test_a_hub_of_two_clouds_keeps_their_routes_apart() -> None:
    text = FIGURE2.replace("routing: ospf", "routing: bgp").replace(
        "tunnels: {blue: {role: hub, address: [10.255.1.1]}}",
        "tunnels: {blue: {role: hub, address: [10.255.1.1]}, green: {role: hub, address: [10.255.2.2]}}",
    )
    bgp = lines(plan("hq1", text), "bgpd.conf")
    assert clause(bgp, "route-map blue-out deny 10") == ["match community green-routes"]
    assert "  neighbor blue-spokes route-map blue-out out" in bgp
    taking = text.replace("    bandwidth: 100M", "    bandwidth: 100M\n    redistribute: green")
    assert "route-map blue-out deny 10" not in lines(plan("hq1", taking), "bgpd.conf")
