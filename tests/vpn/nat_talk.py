"""Everybody's host behind every kind of NAT talks to everybody's: who is direct, and what is said of who cannot be."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from ipaddress import ip_address
from itertools import combinations
from typing import Any

from nat_table import DIRECT, KIND_OF, VIA_HUB
from vpn_lab import Vpn, until, until_nothing

from dmvpn.daemon.control import State, WhyNot
from dmvpn.errors import Fault
from dmvpn.lab.node import call_all
from dmvpn.lab.stream import DIRECT_ROUTERS, TTL
from dmvpn.linux.echo import Pinger
from dmvpn.linux.pace import patience

SETTLE_LIMIT_S = 60.0  # the wait for an answer to IKE is 20 s, and both ends need one
ECHO_LIMIT_S = 1.0


@dataclass(slots=True)
class Talk:
    """Everybody's host talks to everybody's. `routers_back` counts those on the way of the answers."""

    vpn: Vpn
    routers: tuple[str, ...]
    routers_back: dict[tuple[str, str], int] = field(default_factory=dict)

    def settle(self) -> None:
        until_nothing("every pair to be direct or given up", self.undecided, within_s=SETTLE_LIMIT_S)

    def again(self) -> None:
        """One echo of each host to each other one. A lost one changes nothing."""
        hosts = {router: self.vpn.lab.hosts[f"{router}-pc"] for router in self.routers}
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
        left = [pair for pair in combinations(self.routers, 2) if self.way(*pair) != DIRECT]
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
            for other in self.routers
            if any(row.overlay in (self.vpn.lab.hosts[f"{other}-pc"], _overlay(self.vpn, other)) for row in rows)
        }

    def views(self, one: str, other: str) -> dict[str, dict[str, Any]]:
        """What `explain` says, by the two routers at the ends of the path."""
        found = self.vpn.json(one, "explain", one, other)
        return {view["router"]: view for view in found if view["router"] in (one, other) and not view["arrived"]}

    def assert_explained(self, one: str, other: str) -> None:
        """A router knows its own NAT by the ports that hub and direct peers see; the other end's it cannot know."""

        def given_up() -> dict[str, dict[str, Any]] | None:
            self.again()  # what was given up is forgotten after a while: then it is tried anew
            found = self.views(one, other)
            return None if any(view["why"] == WhyNot.CONNECTING for view in found.values()) else found

        found = until("both to have given up", given_up, within_s=SETTLE_LIMIT_S)
        assert set(found) == {one, other}
        for router, view in found.items():
            symmetric = KIND_OF[router] == "symmetric"
            assert view["state"] == State.VIA_HUB
            assert view["why"] == (WhyNot.SYMMETRIC_NAT if symmetric else WhyNot.BOTH_NATTED)
            if symmetric:
                ports = re.findall(r"(\w+) sees port (\d+)", view["detail"])
                assert len({port for _, port in ports}) == len(ports) > 1
                assert {seer for seer, _ in ports} <= {"hq1", *_open(self.routers)}

    def assert_twins_meet_in_private(self) -> None:
        for here, there, address in (("twin1", "twin2", "192.168.1.3"), ("twin2", "twin1", "192.168.1.2")):
            peer = self.vpn.peer(here, there)
            assert peer is not None
            assert (peer.kind, peer.state, peer.endpoint) == ("shortcut", State.DIRECT, f"{address}:4500")

    def assert_ports(self, router: str, alike: set[str] | None) -> None:
        """At which ports three others see a router; None: at three."""
        seen = [self.vpn.peer(other, router) for other in ("hq1", *_open(self.routers)) if other != router][:3]
        ports = [peer.endpoint.rpartition(":")[2] for peer in seen if peer is not None]
        assert len(ports) == 3
        if alike is None:
            assert len(set(ports)) == 3
        else:
            assert set(ports) == alike


def _open(routers: tuple[str, ...]) -> list[str]:
    """Those that strangers may call."""
    return [router for router in routers if KIND_OF[router] in ("none", "1:1")]


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
