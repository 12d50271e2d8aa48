"""The NAT table on the kernel plane: fewer spokes, since they run in an emulated machine, but every kind of NAT."""

from itertools import combinations

import pytest
from nat_table import KERNEL_ROUTERS, VIA_HUB, expected
from nat_talk import Talk
from vpn_lab import Vpn

NETWORK = "nat-kernel"
ROUTERS = KERNEL_ROUTERS
pytestmark = [pytest.mark.lab, pytest.mark.vm, pytest.mark.wide, pytest.mark.timeout(300)]

PAIRS = tuple(combinations(ROUTERS, 2))


@pytest.mark.parametrize("router", ["hq1", *ROUTERS])
def test_everybody_is_on_the_kernel_plane(vpn: Vpn, router: str) -> None:
    assert [cloud.plane for cloud in vpn.status(router).clouds] == ["kernel"]


@pytest.mark.parametrize(("one", "other"), PAIRS)
def test_a_pair_goes_the_way_of_the_table(talk: Talk, one: str, other: str) -> None:
    assert talk.way(one, other) == expected(one, other)


@pytest.mark.parametrize(("one", "other"), [pair for pair in PAIRS if expected(*pair) == VIA_HUB])
def test_explain_names_the_nat_where_only_the_relay_is_possible(talk: Talk, one: str, other: str) -> None:
    talk.assert_explained(one, other)


def test_two_behind_one_public_address_meet_on_their_private_network(talk: Talk) -> None:
    talk.assert_twins_meet_in_private()


@pytest.mark.parametrize(
    ("router", "alike"),
    [
        pytest.param("kept1", {"4500"}, id="port-restricted"),
        pytest.param("moved1", {"24500"}, id="other port"),
        pytest.param("sym1", None, id="symmetric"),
    ],
)
def test_the_labs_nat_shows_the_ports_of_its_kind(talk: Talk, router: str, alike: set[str] | None) -> None:
    talk.assert_ports(router, alike)
