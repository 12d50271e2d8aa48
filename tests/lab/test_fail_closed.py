"""GRE leaves and enters in ESP or not at all: a stream of 100 packets/s, a capture on the WAN, and everything that can
happen to charon. The same story is told without the guards, to see that the capture would have told. On this machine,
whatever its plane; test_fail_closed_kernel.py is what of it is told in the virtual machine.
"""

import logging
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from fail_closed_lab import (
    ALL,
    Guard,
    answered,
    counters,
    direct,
    flowing,
    guarded_by,
    in_kernel,
    on_the_wire,
    restart_unit,
    send_signal,
    sent_more,
    settle,
    small_lab,
    start_unit,
)
from fail_closed_story import ATTEMPTS, FORGED, die, forge, in_esp, smuggle, stop, tell_story, unseen

from dmvpn.lab.running import Lab
from dmvpn.lab.stream import Stream
from dmvpn.operations import change, here

pytestmark = [pytest.mark.kernel, pytest.mark.lab, pytest.mark.timeout(120)]

log = logging.getLogger(__name__)


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with small_lab("inwards") as lab:
        yield lab


@pytest.fixture(scope="module")
def flow(lab: Lab) -> Iterator[Stream]:
    with flowing(lab, "east-pc", "west-pc") as flow:
        yield flow


@pytest.mark.parametrize(
    "kept",
    [
        pytest.param(frozenset({Guard.RULES}), id="the rule set alone holds"),
        pytest.param(frozenset({Guard.SENDER}), id="the plane's own alone holds"),
        pytest.param(frozenset({Guard.ROUTE}), id="the unreachable route alone holds"),
        pytest.param(frozenset(), id="without any of them it is seen"),
    ],
)
def test_each_guard_alone_keeps_gre_from_leaving_in_clear(kept: frozenset[Guard]) -> None:
    with small_lab("alone") as lab, flowing(lab, "east-pc", "west-pc") as flow:
        settle(flow, direct, "a direct path while the rule set still reports hairpins")
        with (
            flowing(lab, "east", "hq-pc") as own,
            guarded_by(lab, kept),
            on_the_wire(lab.node("internet")) as counted,
        ):
            settle(own, answered, "the router's own stream")
            tell_story(lab, flow)
            settle(own, answered, "the router's own stream after all that")
            seen = counted()
    log.info("guards %s: %s", sorted(kept), dict(seen))
    assert in_esp(seen) > ATTEMPTS
    if kept:
        assert seen["gre_in_clear"] == 0
    else:
        assert seen["gre_in_clear"] >= ATTEMPTS / 2


def test_nothing_is_in_clear_from_the_first_start_to_the_last_stop() -> None:
    """The capture and the stream are there before any router has its configuration, and after it is stopped."""
    with ExitStack() as stack:
        wire: list[Callable[[], Counter[str]]] = []
        flows: list[Stream] = []

        def watch(lab: Lab) -> None:
            wire.append(stack.enter_context(on_the_wire(lab.node("internet"))))
            flows.append(stack.enter_context(flowing(lab, "east-pc", "west-pc")))

        lab = stack.enter_context(small_lab("whole", before_start=watch))
        (counted,), (flow,) = wire, flows
        tell_story(lab, flow)
        for name in ("hub", "west"):
            send_signal(lab.node(name), "charon", signal.SIGKILL)
            settle(flow, answered, f"the stream after the death of charon at {name}")
        for verb in (change.stop, change.start):
            for node in lab.routers():
                node.call(lambda verb=verb: verb(here.find(None)))  # type: ignore[misc]
                sent_more(flow, ATTEMPTS)
        settle(flow, answered, "the stream after a new start of everything")
        seen = counted()
    log.info("%s", dict(seen))
    assert seen["gre_in_clear"] == 0
    assert in_esp(seen) > 1000


def test_somebody_elses_flush_takes_one_guard_and_no_packet(lab: Lab, flow: Stream) -> None:
    """Debian's /etc/nftables.conf begins with it, so a restart of nftables does this. The other guards hold."""
    settle(flow, direct, "a direct path to begin with")
    flow.mark()
    try:
        with on_the_wire(lab.node("internet")) as counted:
            for node in lab.routers():
                node.run(("nft", "flush", "ruleset"))
            sent_more(flow, ATTEMPTS)
            settle(flow, direct, "a direct path after the flush")
            assert [packet.sequence for packet in flow.stretch() if not packet.direct] == []
            for event in (die, stop):
                unseen(lab.node("east"), event)
                start_unit(lab.node("east"), "charon")
                settle(flow, answered, f"the stream after charon was made to {event.__name__}")
            seen = counted()
        assert seen["gre_in_clear"] == 0
    finally:
        for node in lab.routers():
            restart_unit(node, "nftables")


# ---------------------------------------------------------------- inwards


FORGERIES = [
    pytest.param("100.64.0.12", "100.64.0.11", id="from a peer's transport address to ours"),
    pytest.param("203.0.113.2", "100.64.0.11", id="from a peer's public address to our transport address"),
    pytest.param("203.0.113.2", "198.51.100.2", id="from public to public address"),
]


@pytest.mark.parametrize(("source", "target"), FORGERIES)
@pytest.mark.parametrize(
    "kept",
    [
        pytest.param(ALL, id="all guards"),
        pytest.param(frozenset({Guard.RULES}), id="the rule set alone"),
        pytest.param(frozenset({Guard.SENDER}), id="the plane's own alone"),
    ],
)
def test_gre_in_clear_does_not_come_in(
    lab: Lab, flow: Stream, kept: frozenset[Guard], source: str, target: str
) -> None:
    fate = forge(lab, flow, kept, source, target)
    assert fate.arrived == FORGED or in_kernel()
    assert fate.inside == 0
    if Guard.RULES in kept and (in_kernel() or target.startswith("100.64.")):
        assert fate.by_rules == FORGED
    elif in_kernel():
        assert fate.by_policies == FORGED


def test_without_the_guards_a_forgery_does_come_in(lab: Lab, flow: Stream) -> None:
    """In the kernel only from where no peer is: charon's policies want its peers' packets in ESP."""
    source = "203.0.113.2" if in_kernel() else "100.64.0.12"
    assert forge(lab, flow, frozenset({Guard.ROUTE}), source, "100.64.0.11").inside == FORGED


def test_a_lan_host_cannot_smuggle_packets_to_a_transport_address(lab: Lab, flow: Stream) -> None:
    before = counters(lab.node("east"))["transport_forwarded"]
    smuggle(lab, flow)
    if not in_kernel():  # there XFRM stops them before they are forwarded
        assert counters(lab.node("east"))["transport_forwarded"] >= before + FORGED
