"""The NAT table on the kernel plane: two spokes behind NATs of one kind, for each kind."""

from itertools import combinations

import pytest
from nat_table import KERNEL_ALIKE, VIA_HUB, expected
from nat_talk import Talk
from vpn_lab import Vpn

NETWORK = "nat-kernel-alike"
ROUTERS = KERNEL_ALIKE
pytestmark = [pytest.mark.lab, pytest.mark.vm, pytest.mark.wide, pytest.mark.timeout(300)]

PAIRS = tuple(combinations(ROUTERS, 2))


def test_everybody_is_on_the_kernel_plane(vpn: Vpn) -> None:
    for router in ("hq1", *ROUTERS):
        assert [cloud.plane for cloud in vpn.status(router).clouds] == ["kernel"]


@pytest.mark.parametrize(("one", "other"), PAIRS)
def test_a_pair_goes_the_way_of_the_table(talk: Talk, one: str, other: str) -> None:
    assert talk.way(one, other) == expected(one, other)


def test_explain_names_the_nat_of_two_that_are_symmetric(talk: Talk) -> None:
    assert expected("sym1", "sym2") == VIA_HUB
    talk.assert_explained("sym1", "sym2")
