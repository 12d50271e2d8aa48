"""Every kind of NAT with every other, in one network: which pairs become direct, and what is said of those that cannot.

The table is docs/nat.md's. On the kernel plane the same file and the same table hold.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from ipaddress import ip_address
from itertools import combinations
from typing import Any

import pytest
from nat_table import DIRECT, KINDS, TABLE, VIA_HUB
from vpn_lab import Vpn, until, until_nothing

from dmvpn.daemon.control import State, WhyNot
from dmvpn.errors import Fault
from dmvpn.lab.node import call_all
from dmvpn.lab.stream import DIRECT_ROUTERS, TTL
from dmvpn.linux.echo import Pinger
from dmvpn.linux.pace import patience

NETWORK = "nat"
pytestmark = [pytest.mark.lab, pytest.mark.both_planes, pytest.mark.timeout(patience(300))]

KIND_OF = {router: kind for kind, routers in KINDS.items() for router in routers}
PAIRS = tuple(combinations(KIND_OF, 2))
SETTLE_LIMIT_S = 60.0  # the wait for an answer to IKE is 20 s, and both ends need one
ECHO_LIMIT_S = 1.0


def expected(one: str, other: str) -> str:
    row, column = KIND_OF[one], KIND_OF[other]
    return TABLE[row].get(column) or TABLE[column][row]


@dataclass(slots=True)
class Talk:
    """Everybody's host talks to everybody's. `routers_back` counts those on the way of the answers."""

    vpn: Vpn
    routers_back: dict[tuple[str, str], int] = field(default_factory=dict)

    def again(self) -> None:
        """One echo of each host to each other one. A lost one changes nothing."""
        hosts = {router: self.vpn.lab.hosts[f"{router}-pc"] for router in KIND_OF}
        tasks = {
            self.vpn.node(f"{router}-pc"): partial(_echoes, {other: hosts[other] for other in hosts if other != router})
            for router in hosts
        }
        for node, answer in call_all(tasks, timeout_s=patience(60)).items():
            if isinstance(answer, Fault):
                raise answer
            router = node.name.removesuffix("-pc")
            self.routers_back |= {(other, router): TTL - ttl for other, ttl in answer.items()}

    def way(self, one: str, other: str) -> str:
        ways = {self.routers_back.get((one, other)), self.routers_back.get((other, one))}
        if ways == {DIRECT_ROUTERS}:
            return DIRECT
        return VIA_HUB if ways == {DIRECT_ROUTERS + 1} else f"by {ways} routers"

    def undecided(self) -> list[str]:
        """Pairs that are neither direct both ways nor given up at both ends; after another round."""
        self.again()
        left = [pair for pair in PAIRS if self.way(*pair) != DIRECT]
        given_up = {router: self._given_up(router) for router in {end for pair in left for end in pair}}
        return [
            f"{one} and {other} ({self.way(one, other)})"
            for one, other in left
            if other not in given_up[one] or one not in given_up[other]
        ]

    def _given_up(self, router: str) -> set[str]:
        """Whom this router has tried in vain."""
        rows = [row for row in self.vpn.status(router).peers if row.kind == "shortcut" and row.state is State.VIA_HUB]
        return {
            other
            for other in KIND_OF
            if any(row.overlay in (self.vpn.lab.hosts[f"{other}-pc"], _overlay(self.vpn, other)) for row in rows)
        }


def _overlay(vpn: Vpn, router: str) -> str:
    return vpn.lab.hosts[f"{router}-pc"].replace("10.1.", "10.255.1.").removesuffix(".10")


def _echoes(targets: Mapping[str, str]) -> dict[str, int]:
    """The TTL of each answer."""
    ttls = {}
    for name, address in targets.items():
        pinger = Pinger(ip_address(address))
        try:
            pinger.send(1)
            echo = next(pinger.answers(ECHO_LIMIT_S), None)
        finally:
            pinger.close()
        if echo is not None:
            ttls[name] = echo.ttl
    return ttls


@pytest.fixture(scope="module")
def talk(vpn: Vpn) -> Talk:
    talking = Talk(vpn)
    until_nothing("every pair to be direct or given up", talking.undecided, within_s=patience(SETTLE_LIMIT_S))
    return talking


def views(vpn: Vpn, one: str, other: str) -> dict[str, dict[str, Any]]:
    """What `explain` says, by the two routers at the ends of the path."""
    found = vpn.json(one, "explain", one, other)
    return {view["router"]: view for view in found if view["router"] in (one, other) and not view["arrived"]}


@pytest.mark.parametrize(("one", "other"), PAIRS)
def test_a_pair_goes_the_way_of_the_table(talk: Talk, one: str, other: str) -> None:
    assert talk.way(one, other) == expected(one, other)


@pytest.mark.parametrize(("one", "other"), [pair for pair in PAIRS if expected(*pair) == VIA_HUB])
def test_explain_names_the_nat_where_only_the_relay_is_possible(talk: Talk, one: str, other: str) -> None:
    """A router knows its own NAT by the ports that hub and direct peers see; the other end's it cannot know."""

    def given_up() -> dict[str, dict[str, Any]] | None:
        talk.again()  # what was given up is forgotten after a while: then it is tried anew
        found = views(talk.vpn, one, other)
        return None if any(view["why"] == WhyNot.CONNECTING for view in found.values()) else found

    found = until("both to have given up", given_up, within_s=patience(SETTLE_LIMIT_S))
    assert set(found) == {one, other}
    for router, view in found.items():
        symmetric = KIND_OF[router] == "symmetric"
        assert view["state"] == State.VIA_HUB
        assert view["why"] == (WhyNot.SYMMETRIC_NAT if symmetric else WhyNot.BOTH_NATTED)
        if symmetric:
            ports = re.findall(r"(\w+) sees port (\d+)", view["detail"])
            assert len({port for _, port in ports}) == len(ports) > 1
            assert {seer for seer, _ in ports} <= {"hq1", "none1", "none2", "static1", "static2"}


def test_two_behind_one_public_address_meet_on_their_private_network(talk: Talk) -> None:
    for here, there, address in (("twin1", "twin2", "192.168.1.3"), ("twin2", "twin1", "192.168.1.2")):
        peer = talk.vpn.peer(here, there)
        assert peer is not None
        assert (peer.kind, peer.state, peer.endpoint) == ("shortcut", State.DIRECT, f"{address}:4500")


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
    seen = [talk.vpn.peer(other, router) for other in ("hq1", "none1", "none2")]
    ports = [peer.endpoint.rpartition(":")[2] for peer in seen if peer is not None]
    assert len(ports) == 3
    if alike is None:
        assert len(set(ports)) == 3
    else:
        assert set(ports) == alike


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

    until("a direct path", direct, within_s=patience(SETTLE_LIMIT_S))
