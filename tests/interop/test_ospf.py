"""OSPF point-to-multipoint over a cloud in which nhrpd is a member: our hub, a spoke of ours and one of FRR's."""

from collections.abc import Iterator

import pytest
from mixed_lab import Mixed, held, until

LANS = {"hq1": "10.1.0.1", "par1": "10.1.1.1", "frr1": "10.1.2.1"}
HUB, OURS, THEIRS = "10.255.1.1", "10.255.1.11", "10.255.1.12"


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mixed]:
    with held("ospf", LANS, tmp_path_factory.mktemp("lab")) as lab:
        yield lab


def neighbours(mixed: Mixed) -> set[str]:
    """Whom the foreign router has met, by the address on the cloud."""
    rows = mixed.vty("frr1", "show ip ospf neighbor json").get("neighbors", {})
    return {row.get("ifaceAddress", row.get("address", "")) for found in rows.values() for row in found}


@pytest.mark.parametrize(
    ("router", "ways"),
    [
        pytest.param("hq1", {"10.1.1.0/24": OURS, "10.1.2.0/24": THEIRS}, id="the hub, each by its spoke"),
        pytest.param("par1", {"10.1.0.0/24": HUB, "10.1.2.0/24": HUB}, id="our spoke, all by the hub"),
        pytest.param("frr1", {"10.1.0.0/24": HUB, "10.1.1.0/24": HUB}, id="their spoke, all by the hub"),
    ],
)
def test_every_router_learns_every_network(mixed: Mixed, router: str, ways: dict[str, str]) -> None:
    def missing() -> list[str]:
        return [prefix for prefix, via in ways.items() if not mixed.route_to(router, prefix, via)]

    until("OSPF's routes", lambda: not missing(), within_s=90)


@pytest.mark.parametrize(("source", "target"), [("par1", "frr1"), ("frr1", "par1"), ("frr1", "hq1")])
def test_lan_reaches_lan(mixed: Mixed, source: str, target: str) -> None:
    assert until("a ping", lambda: mixed.ping(source, target, 3) == 3, within_s=60)


def test_shortcuts_both_ways_and_nobody_met_over_them(mixed: Mixed) -> None:
    def found() -> bool:
        mixed.ping("frr1", "par1", 4)
        mixed.ping("par1", "frr1", 4)
        there = mixed.nhrp_shortcuts("frr1").get("10.1.1.0/24") == OURS
        return there and mixed.route_to("par1", "10.1.2.0/24", THEIRS)

    assert until("a shortcut both ways", found, within_s=120)
    assert until("a ping", lambda: mixed.ping("frr1", "par1") == 5, within_s=60)
    assert neighbours(mixed) == {HUB}
