"""What a hub learned, in its bgpd's file: who gets a neighbour, what is taken from it, and what is refused outright."""

from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest
import render_plans as plans

from dmvpn.errors import Fault
from dmvpn.network.plan import ForeignPeer, Role
from dmvpn.operations import learned as step
from dmvpn.render import frr_spokes
from dmvpn.render.frr import bgpd_conf
from dmvpn.render.frr_delta import delta
from dmvpn.render.learned import Spoke, parse

HUB = plans.hub()
CLOUD = HUB.clouds[0]
SPOKE = plans.LEARNED["blue"][0]


def _neighbours(*spokes: Spoke) -> list[str]:
    assert CLOUD.bgp is not None
    return [f"{address} {spoke.asn}" for address, spoke in frr_spokes.neighbours(CLOUD, CLOUD.bgp, {"blue": spokes})]


def test_a_file_that_nobody_learned_for_has_no_neighbour() -> None:
    text = bgpd_conf(HUB)
    assert "remote-as" not in text
    assert "listen" not in text
    assert "  neighbor blue-spokes prefix-list blue-from-nobody in" in text.splitlines()


def test_each_spoke_is_a_neighbour_with_a_filter_of_its_own() -> None:
    lines = bgpd_conf(HUB, plans.LEARNED).splitlines()
    for number in (11, 12):
        assert f" neighbor 10.255.1.{number} remote-as {65000 + number}" in lines
        assert f"  neighbor 10.255.1.{number} prefix-list blue-from-10.255.1.{number} in" in lines
        permits = [line for line in lines if f"blue-from-10.255.1.{number} seq" in line and "permit" in line]
        assert [line.partition("permit ")[2] for line in permits] == [f"10.1.{number}.0/24 le 32"]


@pytest.mark.parametrize(
    "spoke",
    [
        pytest.param(replace(SPOKE, overlay=(ip_address("10.255.1.1"),)), id="the hub's own address"),
        pytest.param(replace(SPOKE, overlay=(ip_address("10.254.1.11"),)), id="an address outside the overlay"),
        pytest.param(replace(SPOKE, asn=0), id="no AS"),
        pytest.param(replace(SPOKE, asn=65000), id="the hub's AS"),
    ],
)
def test_what_is_not_a_spokes_to_be_is_nobodys(spoke: Spoke) -> None:
    assert _neighbours(spoke) == []


def test_an_address_has_one_holder() -> None:
    assert _neighbours(SPOKE, replace(SPOKE, router="sp99", asn=65099)) == ["10.255.1.11 65011"]


def test_whom_the_file_vouches_for_needs_no_certificate() -> None:
    peer = ForeignPeer("c1", "c1.example.net", None, SPOKE.overlay, SPOKE.prefixes, 65077, Role.SPOKE)
    plan = replace(HUB, clouds=(replace(CLOUD, foreign=(peer,)),))
    assert " neighbor 10.255.1.11 remote-as 65077" in bgpd_conf(plan).splitlines()
    assert " neighbor 10.255.1.11 remote-as 65077" in bgpd_conf(plan, plans.LEARNED).splitlines()


@pytest.mark.parametrize(
    ("claimed", "taken"),
    [
        pytest.param("10.1.11.0/24", ["10.1.11.0/24"], id="a network of ours"),
        pytest.param("0.0.0.0/0", ["10.0.0.0/8"], id="everything: what is internal"),
        pytest.param("192.0.2.0/24", [], id="somebody outside"),
        pytest.param("fd00::/8", [], id="another family"),
    ],
)
def test_a_claim_counts_as_far_as_the_network_goes(claimed: str, taken: list[str]) -> None:
    assert CLOUD.bgp is not None
    spoke = replace(SPOKE, prefixes=(ip_network(claimed),))
    ((_, entries),) = frr_spokes.filters(CLOUD, CLOUD.bgp, {"blue": (spoke,)})
    assert [entry for entry in entries if entry.startswith("permit")] == [f"permit {one} le 32" for one in taken]


ROW = '{"router": "sp11", "overlay": ["10.255.1.11"], "asn": 65011, "prefixes": ["10.1.11.0/24"]}'


@pytest.mark.parametrize(
    "row",
    [
        pytest.param(ROW.replace("sp11", "sp11\\n exit"), id="a name with a line break"),
        pytest.param(ROW.replace("10.255.1.11", "10.255.1.11 peer-group x"), id="an address with words behind it"),
        pytest.param(ROW.replace("65011", '"65011\\n"'), id="an AS that is no number"),
        pytest.param(ROW.replace("65011", "4294967296"), id="an AS that is too large"),
        pytest.param(ROW.replace("10.1.11.0/24", "10.1.11.1/24"), id="host bits"),
        pytest.param("{}", id="nothing"),
    ],
)
def test_a_row_that_dmvpnd_does_not_write_is_refused(row: str) -> None:
    text = f'{{"version": 1, "network": "acme", "clouds": {{"blue": [{ROW}]}}}}'
    assert parse(text, "acme") == {"blue": (SPOKE,)}
    with pytest.raises(Fault):
        parse(text.replace(ROW, row), "acme")
    with pytest.raises(Fault):
        parse(text, "other")


def test_a_seal_breaks_with_any_edit() -> None:
    text = step.sealed(bgpd_conf(HUB, plans.LEARNED), "12.34")
    assert step.is_sealed(text)
    head = text.partition("! sealed")[0]
    for broken in (text.replace("65011", "65012"), text + "router bgp 1\n", text.replace("12.34", "12.35"), head, ""):
        assert not step.is_sealed(broken)


FIRST, SECOND = plans.LEARNED["blue"]
MORE = replace(FIRST, prefixes=(*FIRST.prefixes, ip_network("10.1.99.0/24")))


@pytest.mark.parametrize(
    ("before", "after", "lines", "again"),
    [
        pytest.param((FIRST,), (FIRST,), [], (), id="nothing"),
        pytest.param(
            (FIRST, SECOND),
            (FIRST,),
            ["router bgp 65000", " no neighbor 10.255.1.12", "exit", "no ip prefix-list blue-from-10.255.1.12"],
            (),
            id="one goes",
        ),
        pytest.param(
            (FIRST,),
            (MORE,),
            [
                "ip prefix-list blue-from-10.255.1.11 seq 35 deny 0.0.0.0/0 le 32",
                "ip prefix-list blue-from-10.255.1.11 seq 30 permit 10.1.99.0/24 le 32",
            ],
            ("10.255.1.11",),
            id="one more network",
        ),
        pytest.param(
            (MORE,),
            (FIRST,),
            [
                "ip prefix-list blue-from-10.255.1.11 seq 30 deny 0.0.0.0/0 le 32",
                "no ip prefix-list blue-from-10.255.1.11 seq 35 deny 0.0.0.0/0 le 32",
            ],
            ("10.255.1.11",),
            id="one network less",
        ),
        pytest.param(
            (FIRST,),
            (replace(FIRST, asn=65099),),
            [
                "router bgp 65000",
                " no neighbor 10.255.1.11",
                " neighbor 10.255.1.11 remote-as 65099",
                " neighbor 10.255.1.11 peer-group blue-spokes",
                " neighbor 10.255.1.11 description sp11",
                " address-family ipv4 unicast",
                "  neighbor 10.255.1.11 prefix-list blue-from-10.255.1.11 in",
                " exit-address-family",
                "exit",
            ],
            (),
            id="another AS",
        ),
    ],
)
def test_only_who_changed_is_touched(
    before: tuple[Spoke, ...], after: tuple[Spoke, ...], lines: list[str], again: tuple[str, ...]
) -> None:
    change = delta(bgpd_conf(HUB, {"blue": before}), bgpd_conf(HUB, {"blue": after}))
    unchanged = [line for line in bgpd_conf(HUB, {"blue": before}).splitlines() if line.startswith("ip prefix-list")]
    assert [line for line in change.lines if line not in unchanged] == lines
    assert (change.again, change.is_all) == (again, True)


def test_who_comes_is_known_before_it_is_heard() -> None:
    change = delta(bgpd_conf(HUB, {"blue": (FIRST,)}), bgpd_conf(HUB, plans.LEARNED))
    places = [
        change.lines.index(line)
        for line in (
            "ip prefix-list blue-from-10.255.1.12 seq 30 deny 0.0.0.0/0 le 32",
            " neighbor 10.255.1.12 remote-as 65012",
            "  neighbor 10.255.1.12 prefix-list blue-from-10.255.1.12 in",
        )
    ]
    assert places == sorted(places)
    assert not [line for line in change.lines if "10.255.1.11" in line]


def test_a_change_of_the_operators_is_more_than_the_spokes() -> None:
    bgp = CLOUD.bgp
    assert bgp is not None
    slower = replace(HUB, clouds=(replace(CLOUD, bgp=replace(bgp, hold_s=99)),))
    assert not delta(bgpd_conf(HUB, plans.LEARNED), bgpd_conf(slower, plans.LEARNED)).is_all
