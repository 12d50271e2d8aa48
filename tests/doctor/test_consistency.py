"""Whether cache and kernel agree, where a peer has shortcuts of both families and routing names next hops."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from ipaddress import ip_address, ip_network
from typing import Any

import pytest
from test_checks import patient, peer, status

from dmvpn.daemon.control import PeerRow, State
from dmvpn.doctor import consistency
from dmvpn.linux.neighbours import Neighbour
from dmvpn.linux.routes import RouteKind, RouteRow

FOUR, SIX = "10.255.1.13", "fd00:255:1::13"
NBMA = "100.64.1.13"


def far(*prefixes: str, overlay: str = f"{FOUR} {SIX}") -> PeerRow:
    return replace(
        peer("lyo1", State.DIRECT), kind="shortcut", overlay=overlay, nbma=NBMA, prefixes=prefixes, layer="UP"
    )


@dataclass
class Kernel:
    """What it has: shortcuts by prefix, and neighbour entries."""

    routes: dict[str, str]
    entries: dict[str, str]

    def ours(self, device: str | None = None) -> tuple[Any, ...]:
        if device is not None:
            return tuple(Neighbour(device, ip_address(one), ip_address(at)) for one, at in self.entries.items())
        return tuple(
            RouteRow(ip_network(prefix), RouteKind.UNICAST, "dev", ip_address(gateway), 254, 1, 10)
            for prefix, gateway in self.routes.items()
        )


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    found = Kernel({}, {})

    @contextmanager
    def opened(*_how: object) -> Iterator[Kernel]:
        yield found

    monkeypatch.setattr(consistency, "Shortcuts", opened)
    monkeypatch.setattr(consistency, "Neighbours", opened)
    monkeypatch.setattr(consistency, "_overruled", lambda _prefix: {})
    return found


def test_each_prefix_goes_by_the_gateway_of_its_family(kernel: Kernel) -> None:
    seen = status(peers=(far("10.1.13.0/24", "fd00:1:13::/64"),))
    kernel.routes = {"10.1.13.0/24": FOUR, "fd00:1:13::/64": SIX}
    assert consistency.shortcuts(patient(), seen) == {}
    kernel.routes["fd00:1:13::/64"] = "fd00:255:1::14"
    (what,) = consistency.shortcuts(patient(), seen)
    assert what == f"fd00:1:13::/64 goes by fd00:255:1::14, and by {SIX} for dmvpnd"


def test_a_next_hop_that_routing_named_needs_no_route_and_may_have_one(kernel: Kernel) -> None:
    seen = status(peers=(far(f"{FOUR}/32", overlay=FOUR),))
    assert consistency.shortcuts(patient(), seen) == {}
    kernel.routes = {f"{FOUR}/32": FOUR}
    assert consistency.shortcuts(patient(), seen) == {}
    kernel.routes["10.1.99.0/24"] = FOUR
    (what,) = consistency.shortcuts(patient(), seen)
    assert what.startswith("there is a shortcut 10.1.99.0/24")


@pytest.mark.parametrize("link_local", [True, False])
def test_link_local_entries_are_wanted_where_routing_names_them(kernel: Kernel, *, link_local: bool) -> None:
    one = patient()
    if link_local:
        clouds = tuple(replace(cloud, bgp=None) for cloud in one.plan.clouds)
        one = replace(one, plan=replace(one.plan, clouds=clouds))
    seen = status(peers=(far("10.1.13.0/24", "fd00:1:13::/64"),))
    kernel.entries = {FOUR: NBMA, SIX: NBMA}
    missing = [what for what in consistency.neighbours(one, seen) if "fe80" in what]
    kernel.entries["fe80::13"] = NBMA
    strange = [what for what in consistency.neighbours(one, seen) if "fe80" in what]
    assert (bool(missing), bool(strange)) == (link_local, not link_local)
