"""OSPF for IPv6: ospf6d beside ospfd, and what goes between it and bgpd."""

from pathlib import Path

import pytest
from render_frr import beside, files, lines, of

from dmvpn.lab import frr10
from dmvpn.linux import process
from dmvpn.network.plan import Plane
from dmvpn.render import frr, nftables
from dmvpn.render.layout import Layout

EXAMPLE = (Path(__file__).parents[2] / "examples" / "ospf6.yaml").read_text()
TWO_CLOUDS = beside("ospf", ", redistribute: blue")


def test_each_family_has_its_daemon() -> None:
    assert {"ospfd.conf", "ospf6d.conf"} <= files(of("hq1", EXAMPLE))
    four = EXAMPLE.replace(', "fd00:255:1::1"', "").replace(', "fd00:255:1::11"', "").replace(', "fd00:255:1::12"', "")
    assert "ospf6d.conf" not in files(of("hq1", four))
    six = EXAMPLE.replace("10.255.1.0/24, ", "").replace("10.255.1.1, ", "").replace("10.255.1.11, ", "")
    assert {"ospfd.conf", "ospf6d.conf"} & files(of("hq1", six.replace("10.255.1.12, ", ""))) == {"ospf6d.conf"}


def test_networks_of_the_family_are_told_and_no_guests() -> None:
    told = lines(of("par1", EXAMPLE), "ospf6d.conf")
    assert [line for line in told if line.startswith("interface")] == ["interface delta-blue", "interface eth1"]
    assert told[told.index("interface eth1") :][:4] == [
        "interface eth1",
        " ipv6 ospf6 area 0",
        " ipv6 ospf6 passive",
        "exit",
    ]
    assert "ipv6 prefix-list dmvpn-behind seq 5 permit fd00:1:21::/64" in told
    assert not any("fd00:1:21" in line for line in lines(of("par1", EXAMPLE), "ospfd.conf"))


def test_nothing_but_internal_networks_gets_into_the_kernel() -> None:
    zebra = lines(of("par1", EXAMPLE), "zebra.conf")
    assert [line for line in zebra if line.startswith("ipv6 prefix-list")] == [
        "ipv6 prefix-list dmvpn-ospf6 seq 5 permit fd00::/16 le 128",
        "ipv6 prefix-list dmvpn-ospf6 seq 10 permit fd00:255:1::/64 le 128",
    ]
    assert "ipv6 protocol ospf6 route-map dmvpn-ospf6" in zebra


def test_what_a_partner_s_bgp_knows_comes_in_and_its_own_goes_out() -> None:
    hub = of("hq2", TWO_CLOUDS)
    told = lines(hub, "ospf6d.conf")
    assert " redistribute bgp route-map dmvpn-to-ospf" in told
    assert " distance ospf6 intra-area 30 inter-area 30 external 210" in told
    assert "ipv6 prefix-list dmvpn-to-ospf seq 5 deny fd00:255:2::/64 le 128" in told
    bgp = lines(hub, "bgpd.conf")
    six = bgp[bgp.index(" address-family ipv6 unicast") :]
    assert "  redistribute ospf6 route-map dmvpn-to-bgp" in six
    assert "  redistribute ospf route-map dmvpn-to-bgp" not in six
    clauses = [line for line in bgp if line.startswith("route-map dmvpn-to-bgp")]
    assert clauses == ["route-map dmvpn-to-bgp permit 10", "route-map dmvpn-to-bgp permit 20"]
    assert bgp.count(" match interface acme-green") == 2


def test_on_the_kernel_plane_dmvpnd_copies_what_ospf_says_and_nothing_else_of_ipv6() -> None:
    plan = of("hq1", EXAMPLE, Plane.KERNEL)
    (file,) = nftables.render(plan, Layout(plan.network)).files
    chain = file.text.partition("chain own_blue {")[2].partition("\n\t}")[0]
    group = plan.clouds[0].multicast_group
    six = [line.strip() for line in chain.splitlines() if "ip6 daddr" in line]
    assert six == [
        f"ip6 daddr ff02::5 meta l4proto 89 log group {group} counter name multicast_blue drop",
        "ip6 daddr ff00::/8 counter name multicast_blue drop",
    ]
    assert chain.index("ff02::5") < chain.index("ff00::/8") < chain.index("meta l4proto 89 return")


@pytest.mark.skipif(bool(frr10.why_not()), reason=frr10.why_not())
@pytest.mark.parametrize(
    ("router", "text"),
    [pytest.param("hq1", EXAMPLE, id="a hub"), pytest.param("hq2", TWO_CLOUDS, id="with a partner")],
)
def test_vtysh_of_frr_10_reads_it(router: str, text: str, tmp_path: Path) -> None:
    for file in frr.render(of(router, text), Layout("delta")).files:
        (tmp_path / file.path).write_text(file.text)
        process.run((*frr10.shell(), "-C", "-f", str(tmp_path / file.path)), timeout_s=20)
