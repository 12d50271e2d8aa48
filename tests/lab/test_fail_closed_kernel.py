"""GRE leaves and enters in ESP or not at all, on the kernel plane: the story of test_fail_closed.py in one lab.

Its own file, since emulated time is dear: that one makes a lab for each guard and repeats all events. Here a guard
alone meets the two that take the SAs away; after a rekeying, a crash or a move they stand. `make test` tells the story
and shows that without the guards it would be seen; each guard alone, both ways, is `make wide`.
"""

import logging
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial

import pytest
from fail_closed_lab import (
    TAP,
    TRANSPORT_RANGE,
    Guard,
    answered,
    direct,
    flowing,
    guarded_by,
    in_kernel,
    lead_right,
    mislead,
    on_the_wire,
    reload_unit,
    restart_unit,
    settle,
    small_lab,
    start_unit,
    wait_for,
)
from fail_closed_story import ATTEMPTS, FORGED, flush_xfrm, forge, in_esp, smuggle, stop, tell_story, unseen

from dmvpn.daemon.control import NodeStatus
from dmvpn.lab.node import LabNode
from dmvpn.lab.running import Lab
from dmvpn.lab.stream import Stream
from dmvpn.operations import here, observing

pytestmark = [pytest.mark.vm, pytest.mark.lab, pytest.mark.timeout(120)]

log = logging.getLogger(__name__)
GATEWAY = "198.51.100.1"
Wire = Callable[[], Counter[str]]


@pytest.fixture(scope="module")
def watched() -> Iterator[tuple[Lab, Stream, Wire]]:
    """The lab, a stream, and what the WAN has seen since before any router had its configuration."""
    with ExitStack() as stack:
        wire: list[Wire] = []
        flows: list[Stream] = []

        def watch(lab: Lab) -> None:
            wire.append(stack.enter_context(on_the_wire(lab.node("internet"))))
            flows.append(stack.enter_context(flowing(lab, "east-pc", "west-pc")))

        lab = stack.enter_context(small_lab("kernel", before_start=watch))
        yield lab, flows[0], wire[0]


@pytest.fixture
def lab(watched: tuple[Lab, Stream, Wire]) -> Lab:
    return watched[0]


@pytest.fixture
def flow(watched: tuple[Lab, Stream, Wire]) -> Stream:
    return watched[1]


def test_nothing_is_in_clear_whatever_becomes_of_charon(watched: tuple[Lab, Stream, Wire]) -> None:
    lab, flow, counted = watched
    assert in_kernel()
    tell_story(lab, flow)
    for node in lab.routers():
        node.run(("nft", "flush", "ruleset"))
    unseen(lab.node("east"), stop)
    start_unit(lab.node("east"), "charon")
    settle(flow, answered, "the stream after a flush of the rules and charon's stop")
    for node in lab.routers():
        restart_unit(node, "nftables")
    seen = counted()
    log.info("%s", dict(seen))
    assert seen["gre_in_clear"] == 0
    assert in_esp(seen) > 1000


@pytest.mark.parametrize(
    ("kept", "events"),
    [
        pytest.param({Guard.RULES}, (flush_xfrm, stop), id="the rule set alone holds", marks=pytest.mark.wide),
        # Somebody's flush would take this guard itself: then it is the two others that hold.
        pytest.param({Guard.SENDER}, (stop,), id="policies that block alone hold", marks=pytest.mark.wide),
        pytest.param({Guard.ROUTE}, (flush_xfrm, stop), id="the routes alone hold", marks=pytest.mark.wide),
        pytest.param(set(), (stop,), id="without any of them it is seen"),
    ],
)
def test_each_guard_alone_keeps_gre_from_leaving_in_clear(
    lab: Lab, flow: Stream, kept: set[Guard], events: tuple[Callable[[LabNode], None], ...]
) -> None:
    east = lab.node("east")
    settle(flow, direct, "a direct path to begin with")
    misleading = () if Guard.ROUTE in kept else (partial(mislead, gateway=GATEWAY),)
    with guarded_by(lab, frozenset(kept), "east"), on_the_wire(lab.node("internet")) as counted:
        unseen(east, *misleading, *events)
        seen = counted()
        start_unit(east, "charon")
        settle(flow, answered, "the stream after all that")
        if misleading:
            lead_right(east, GATEWAY)
    log.info("guards %s: %s", sorted(kept), dict(seen))
    if kept:
        assert seen["gre_in_clear"] == 0
    else:
        assert seen["gre_in_clear"] >= ATTEMPTS / 2


def test_somebody_elses_flush_of_xfrm_is_mended_and_told(lab: Lab, flow: Stream) -> None:
    east = lab.node("east")
    settle(flow, direct, "a direct path to begin with")
    before = blocking(east)
    with on_the_wire(lab.node("internet")) as counted:
        flush_xfrm(east)
        wait_for(lambda: blocking(east) == before, "the policies that block")
        settle(flow, direct, "a direct path after the flush")
        assert counted()["gre_in_clear"] == 0
    row = status(east).policies
    assert before > 0
    assert row is not None
    assert (row.mended, row.damaged_s, row.contested) == (1, None, False)
    told = [trouble.what for trouble in status(east).troubles]
    assert [what for what in told if what.startswith("the fail-closed XFRM policies were changed and put back")]


@pytest.mark.wide
def test_the_way_to_peers_comes_back(lab: Lab, flow: Stream) -> None:
    """The kernel takes it away with the device that goes down, and the SAs outlive that."""
    east = lab.node("east")
    settle(flow, direct, "a direct path to begin with")
    east.run(("ip", "link", "set", TAP, "down"))
    assert way(east).startswith("unreachable")
    reload_unit(east, "network")  # the device, and all that the kernel forgot with it but the way to peers
    wait_for(lambda: f"dev {TAP}" in way(east), "the way into the tunnel")
    settle(flow, direct, "a direct path after that")


# ---------------------------------------------------------------- inwards


@pytest.mark.parametrize(
    ("kept", "source", "target"),
    [
        pytest.param(Guard.RULES, "100.64.0.12", "100.64.0.11", id="rules: from a peer's transport address to ours"),
        pytest.param(
            Guard.RULES,
            "203.0.113.2",
            "198.51.100.2",
            id="rules: from public to public address",
            marks=pytest.mark.wide,
        ),
        pytest.param(
            Guard.SENDER,
            "100.64.0.12",
            "100.64.0.11",
            id="XFRM: from a peer's transport address to ours",
            marks=pytest.mark.wide,
        ),
        pytest.param(Guard.SENDER, "203.0.113.2", "198.51.100.2", id="XFRM: from public to public address"),
    ],
)
def test_gre_in_clear_does_not_come_in(lab: Lab, flow: Stream, kept: Guard, source: str, target: str) -> None:
    fate = forge(lab, flow, frozenset({kept}), source, target)
    assert fate.inside == 0
    assert (fate.by_rules if kept is Guard.RULES else fate.by_policies) == FORGED


@pytest.mark.wide
def test_without_the_guards_a_forgery_does_come_in(lab: Lab, flow: Stream) -> None:
    assert forge(lab, flow, frozenset({Guard.ROUTE}), "203.0.113.2", "100.64.0.11").inside == FORGED


def test_no_rule_of_ours_is_asked_for_each_packet(lab: Lab) -> None:
    """charon runs and shortcuts are up; local, main and default are the kernel's own."""
    for node in lab.routers():
        rules = node.run(("ip", "rule")).text.splitlines()
        assert [rule.split()[-1] for rule in rules] == ["local", "main", "default"], rules


def test_a_lan_host_cannot_smuggle_packets_to_a_transport_address(lab: Lab, flow: Stream) -> None:
    smuggle(lab, flow)


# ---------------------------------------------------------------- looks


def status(node: LabNode) -> NodeStatus:
    return node.call(lambda: observing.status(here.find(None)))


def blocking(node: LabNode) -> int:
    return node.run(("ip", "xfrm", "policy")).text.count("action block")


def way(node: LabNode) -> str:
    """The routes to transport addresses of others."""
    return node.run(("ip", "route", "show", TRANSPORT_RANGE)).text
