"""What each process's death costs a stream of 100 packets/s, and that it goes on by itself. The bounds are those of the
design, which a loaded machine keeps too; `pytest --log-cli-level=INFO` shows the figures.
"""

import logging
import signal
import time
from collections.abc import Callable, Iterator

import pytest
from fail_closed_lab import (
    Outage,
    answered,
    cost,
    direct,
    flowing,
    restart_unit,
    send_signal,
    sent_more,
    settle,
    small_lab,
)

from dmvpn.lab.running import Lab
from dmvpn.lab.stream import Stream

pytestmark = [pytest.mark.kernel, pytest.mark.lab]

DEAD_PATH_S = 5.0  # a dead direct path is given up within this time; whatever else dies is back by then
MISSED_S = 10.0  # a peer that was asleep has been missed by others, and misses them in turn: DPD's time, twice at most
log = logging.getLogger(__name__)


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with small_lab("recovery") as lab:
        yield lab


@pytest.fixture(scope="module")
def spokes(lab: Lab) -> Iterator[Stream]:
    with flowing(lab, "east-pc", "west-pc") as flow:
        yield flow


@pytest.fixture(scope="module")
def with_hub(lab: Lab) -> Iterator[Stream]:
    with flowing(lab, "east-pc", "hq-pc") as flow:
        yield flow


def outage(flow: Stream, event: Callable[[], None]) -> Outage:
    """What the event cost until the stream goes through for good."""
    began = time.monotonic()
    event()
    sent_more(flow, 50)
    settle(flow, answered, "the stream after the event")
    sent_more(flow, 300)  # a cure that cures twice shows in these
    settle(flow, answered, "the stream well after the event")
    found = cost(flow.packets, began)
    log.info("%s", found)
    return found


def test_the_hub_may_die_under_a_direct_flow(lab: Lab, spokes: Stream) -> None:
    settle(spokes, direct, "a direct path")
    found = outage(spokes, lambda: send_signal(lab.node("hub"), "charon", signal.SIGKILL))
    assert (found.lost, found.direct_again_s is not None) == (0, True)


@pytest.mark.parametrize("router", ["hub", "east", "west"])
@pytest.mark.parametrize("event", ["kill", "restart"])
def test_dmvpnd_may_die_under_a_direct_flow(lab: Lab, spokes: Stream, router: str, event: str) -> None:
    settle(spokes, direct, "a direct path")
    node = lab.node(router)
    events = {
        "kill": lambda: send_signal(node, "dmvpnd", signal.SIGKILL),
        "restart": lambda: restart_unit(node, "dmvpnd"),
    }
    found = outage(spokes, events[event])
    assert found.lost == 0


@pytest.mark.parametrize("router", ["east", "west"])
def test_a_direct_path_survives_the_death_of_charon_at_either_end(lab: Lab, spokes: Stream, router: str) -> None:
    settle(spokes, direct, "a direct path")
    found = outage(spokes, lambda: send_signal(lab.node(router), "charon", signal.SIGKILL))
    assert found.silent_s <= DEAD_PATH_S


@pytest.mark.parametrize("router", ["east", "hub"])
def test_the_path_to_the_hub_survives_the_death_of_charon_at_either_end(
    lab: Lab, with_hub: Stream, router: str
) -> None:
    settle(with_hub, answered, "the path to the hub")
    found = outage(with_hub, lambda: send_signal(lab.node(router), "charon", signal.SIGKILL))
    assert found.silent_s <= DEAD_PATH_S


@pytest.mark.parametrize("router", ["east", "west"])
def test_a_direct_path_survives_the_death_of_the_gre_process(lab: Lab, spokes: Stream, router: str) -> None:
    settle(spokes, direct, "a direct path")
    found = outage(spokes, lambda: send_signal(lab.node(router), "gre", signal.SIGKILL))
    assert found.silent_s <= DEAD_PATH_S


@pytest.mark.parametrize("router", ["east", "hub"])
def test_the_path_to_the_hub_survives_the_death_of_the_gre_process(lab: Lab, with_hub: Stream, router: str) -> None:
    """The TAP loses its carrier meanwhile: the kernel must keep the routes over it."""
    settle(with_hub, answered, "the path to the hub")
    found = outage(with_hub, lambda: send_signal(lab.node(router), "gre", signal.SIGKILL))
    assert found.silent_s <= DEAD_PATH_S


def test_a_charon_that_hangs_is_forgiven(lab: Lab, spokes: Stream) -> None:
    """Longer than it takes to give the direct path up; what counts is the time after it goes on."""
    settle(spokes, direct, "a direct path")
    west = lab.node("west")
    send_signal(west, "charon", signal.SIGSTOP)
    try:
        sent_more(spokes, 600)
    finally:
        found = outage(spokes, lambda: send_signal(west, "charon", signal.SIGCONT))
    assert found.silent_s <= MISSED_S


def test_a_dead_direct_path_is_given_up_for_the_hub(lab: Lab, spokes: Stream) -> None:
    settle(spokes, direct, "a direct path")
    try:
        found = outage(spokes, lambda: lab.cut_path("east", "west"))
        assert found.silent_s <= DEAD_PATH_S
        assert found.direct_again_s is None
    finally:
        lab.heal_path("east", "west")
