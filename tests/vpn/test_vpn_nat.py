"""Every kind of NAT with every other, in one network: which pairs become direct, and what is said of those that cannot.

The table is docs/nat.md's. test_vpn_nat_kernel.py holds it on the kernel plane.
"""

from itertools import combinations

import pytest
from nat_table import DIRECT, KIND_OF, VIA_HUB, expected
from nat_talk import SETTLE_LIMIT_S, Talk
from vpn_lab import until

NETWORK = "nat"
ROUTERS = tuple(KIND_OF)
pytestmark = [pytest.mark.lab, pytest.mark.timeout(300)]

PAIRS = tuple(combinations(ROUTERS, 2))


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
        pytest.param("static1", {"4500"}, id="1:1"),
        pytest.param("sym1", None, id="symmetric"),
    ],
)
def test_the_labs_nat_shows_the_ports_of_its_kind(talk: Talk, router: str, alike: set[str] | None) -> None:
    talk.assert_ports(router, alike)


FORWARDING = """
add chain ip nat prerouting { type nat hook prerouting priority dstnat; }
add rule ip nat prerouting iifname outside udp dport 4500 dnat to 192.168.1.2:4500
insert rule ip nat forward iifname outside ip daddr 192.168.1.2 udp dport 4500 accept
"""


def test_one_forwarded_port_lets_symmetric_nat_in(talk: Talk) -> None:
    """The last one: it changes the lab. What docs/nat.md advises, at the end that is not symmetric."""
    assert talk.way("kept1", "sym1") == VIA_HUB
    talk.vpn.node("kept1-isp-nat").run(("nft", "-f", "-"), input=FORWARDING.encode())
    for router in ("kept1", "sym1"):
        assert talk.vpn.dmvpn(router, "nhrp", "purge").status == 0

    def direct() -> bool:
        talk.again()
        return talk.way("kept1", "sym1") == DIRECT

    until("a direct path", direct, within_s=SETTLE_LIMIT_S)
