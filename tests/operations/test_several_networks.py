"""What two networks on one machine cannot both have. tests/vpn/test_vpn_two_networks.py has it from the command."""

from dataclasses import replace
from pathlib import Path

import pytest

from dmvpn.network.compile import compile_plan
from dmvpn.network.loading import load
from dmvpn.network.plan import Plan, Plane
from dmvpn.operations.neighbours import conflicts

NETWORKS = Path(__file__).parents[1] / "vpn" / "networks"
BOTH = (Plane.KERNEL, Plane.USERSPACE)
FIRST = (NETWORKS / "trio.yaml").read_text().replace("plane: userspace", "plane: auto")
SECOND = (NETWORKS / "beside-trio.yaml").read_text().replace("plane: userspace", "plane: auto")
MIXED = (("plane: auto", "plane: userspace"),)


def plan(text: str, router: str, *changes: tuple[str, str], planes: tuple[Plane, ...] = (Plane.USERSPACE,)) -> Plan:
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    return compile_plan(load(text, "network.yaml"), router, planes=planes)


@pytest.mark.parametrize("router", ["hq1", "par1"])
def test_two_networks_with_nothing_in_common_but_uplinks_and_lans_are_no_conflict(router: str) -> None:
    assert list(conflicts(plan(SECOND, router), plan(FIRST, router))) == []


def test_one_may_be_on_the_kernel_plane() -> None:
    second = plan(SECOND, "par1", *MIXED, planes=BOTH)
    assert list(conflicts(second, plan(FIRST, "par1", planes=BOTH))) == []


@pytest.mark.parametrize(
    ("changes", "planes", "key", "what"),
    [
        pytest.param(
            (("ports: {ike: 501, ike-nat: 4501, bgp: 1179}", "ports: {ike: 4500, ike-nat: 4501, bgp: 1179}"),),
            (Plane.USERSPACE,),
            "ports.ike",
            "UDP port 4500 is of network trio on this machine too",
            id="one's IKE port is the other's NAT port",
        ),
        pytest.param(
            (("bgp: 1179", "bgp: 179"),),
            (Plane.USERSPACE,),
            "ports.bgp",
            "TCP port 179 is of network trio on this machine too: it is a hub in both",
            id="a hub in both, called at one port",
        ),
        pytest.param(
            (("transport: 100.65.0.0/16", "transport: 100.64.0.0/15"),),
            (Plane.USERSPACE,),
            "transport",
            "100.64.0.0/15 overlaps 100.64.0.0/16 of network trio on this machine",
            id="transport ranges that overlap",
        ),
        pytest.param(
            (("gre-key: 2", "gre-key: 1"), *MIXED),
            BOTH,
            "clouds.red.gre-key",
            "GRE key 1 is of network trio on this machine too, and the kernel's device takes what has its key",
            id="one key, one of the two on the kernel plane",
        ),
        pytest.param(
            (),
            BOTH,
            "sites.hq.routers.hq1.plane",
            "network trio on this machine is on the kernel plane: two charons number their SAs alike, and XFRM would"
            " mix them up",
            id="both on the kernel plane",
        ),
    ],
)
def test_a_conflict_names_its_key_and_the_other_network(
    changes: tuple[tuple[str, str], ...], planes: tuple[Plane, ...], key: str, what: str
) -> None:
    found = list(conflicts(plan(SECOND, "hq1", *changes, planes=planes), plan(FIRST, "hq1", planes=planes)))
    assert [(where, words) for where, words, _ in found] == [(key, what)]
    assert all(fix for *_, fix in found)


def test_a_key_of_both_is_no_conflict_where_the_kernel_has_no_part() -> None:
    assert list(conflicts(plan(SECOND, "hq1", ("gre-key: 2", "gre-key: 1")), plan(FIRST, "hq1"))) == []


def test_bfd_is_for_one_of_them() -> None:
    bfd = ("plane: auto", "plane: auto, bfd: true")
    found = list(conflicts(plan(SECOND, "par1", bfd), plan(FIRST, "par1", bfd)))
    assert [where for where, *_ in found] == ["clouds.red.bfd"]


def test_a_spoke_of_both_needs_no_bgp_port_of_its_own() -> None:
    assert list(conflicts(plan(SECOND, "par1", ("bgp: 1179", "bgp: 179")), plan(FIRST, "par1"))) == []


def test_numbers_that_meet_by_chance_are_seen() -> None:
    second, first = plan(SECOND, "par1"), plan(FIRST, "par1")
    second = replace(second, registry=replace(second.registry, ipsec_group=first.registry.ipsec_group))
    assert [where for where, *_ in conflicts(second, first)] == ["network"]


UPLINK = "uplinks: {isp1: {port: eth0, address: [198.51.100.2/30], gateway: [198.51.100.1]}}"
SECOND_ISP = "isp2: {port: eth2, address: [203.0.113.2/30], gateway: [203.0.113.1]}"
TWO_ISPS = (UPLINK, f"{UPLINK[:-1]}, {SECOND_ISP}}}")
AT = "sites.paris.routers.par1.uplinks"
ONE_DEFAULT = "its default route has metric 100, as that of isp1 of network trio on this machine"


@pytest.mark.parametrize(
    ("first", "second", "key", "what"),
    [
        pytest.param((), ((UPLINK, f"uplinks: {{{SECOND_ISP}}}"),), f"{AT}.isp2", ONE_DEFAULT, id="another ISP"),
        pytest.param(
            (),
            (("198.51.100.2/30], gateway: [198.51.100.1]", "198.51.100.2/29], gateway: [198.51.100.3]"),),
            f"{AT}.isp1",
            ONE_DEFAULT,
            id="another gateway",
        ),
        pytest.param(
            (TWO_ISPS,),
            (TWO_ISPS,),
            AT,
            "network trio on this machine has several too, and each would undo the other's default routes",
            id="both choose",
        ),
    ],
)
def test_one_machine_has_one_set_of_default_routes(
    first: tuple[tuple[str, str], ...], second: tuple[tuple[str, str], ...], key: str, what: str
) -> None:
    found = list(conflicts(plan(SECOND, "par1", *second), plan(FIRST, "par1", *first)))
    assert [(where, words) for where, words, _ in found] == [(key, what)]


@pytest.mark.parametrize(("first", "second"), [((TWO_ISPS,), ()), ((), (TWO_ISPS,))])
def test_one_of_them_may_choose_between_isps_and_the_other_has_the_first(
    first: tuple[tuple[str, str], ...], second: tuple[tuple[str, str], ...]
) -> None:
    assert list(conflicts(plan(SECOND, "par1", *second), plan(FIRST, "par1", *first))) == []


def test_two_leased_uplinks_are_two_default_routes() -> None:
    leased = (UPLINK, "uplinks: {isp2: {port: eth2, dhcp: true}}")
    found = list(conflicts(plan(SECOND, "par1", leased), plan(FIRST, "par1")))
    assert [where for where, *_ in found] == [f"{AT}.isp2"]
    assert list(conflicts(plan(SECOND, "par1", leased), plan(FIRST, "par1", leased))) == []


SHARED = (NETWORKS / "gateways.yaml").read_text()
BESIDE = SHARED.replace("network: gates", "network: more")


@pytest.mark.parametrize(
    ("system", "gateway", "found"),
    [
        pytest.param("", "10.1.12.9", ["system.vrrp.group"], id="one group"),
        pytest.param("system: {vrrp: {group: 2}}\n", "10.1.12.9", [], id="each its own"),
        pytest.param(
            "system: {vrrp: {group: 2}}\n", "10.1.12.1", ["sites.paris.networks.lan.gateway"], id="one address"
        ),
    ],
)
def test_gateways_of_two_networks_on_one_lan(system: str, gateway: str, found: list[str]) -> None:
    text = BESIDE.replace('gateway: [10.1.12.1, "fd00:12::1"]', f"gateway: [{gateway}]") + system
    seen = conflicts(plan(text, "par1"), plan(SHARED, "par1"))
    assert [where for where, *_ in seen if "vrrp" in where or "gateway" in where] == found
