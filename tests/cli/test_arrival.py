"""What a join ends with: the hub that was reached, or the first layer that failed and why."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dmvpn.daemon.control import HubRow, NodeStatus, PeerRow, State
from dmvpn.network.compile import compile_plan
from dmvpn.network.loading import load
from dmvpn.operations.arrival import Arrival, _look
from dmvpn.operations.here import Here
from dmvpn.render.layout import Layout

DEMO = (Path(__file__).parents[2] / "examples" / "demo.yaml").read_text()
HERE = Here("acme", Layout("acme"))
HUB = HubRow("blue", "hq1", "10.255.1.1", "100.64.0.1", "connecting", "no SA stands", None, None)
PEER = PeerRow(
    cloud="blue",
    name="hq1",
    overlay="10.255.1.1",
    nbma="100.64.0.1",
    kind="hub",
    state=State.CONNECTING,
    layer="UNDERLAY",
    why="no SA stands",
    prefixes=(),
    endpoint="",
    since_s=None,
    expires_s=None,
    rtt_ms=None,
    tx_octets=0,
    rx_octets=0,
)
UP = replace(PEER, state=State.DIRECT, layer="UP", why="")


def status(*peers: PeerRow, hubs: tuple[HubRow, ...] = (HUB,), bgp: tuple[dict[str, Any], ...] = ()) -> NodeStatus:
    return NodeStatus("acme", "par1", "100.64.0.12", 1.0, "charon", True, (), hubs, peers, (), bgp, {}, ())  # noqa: FBT003


@pytest.mark.parametrize(
    ("found", "layer", "why"),
    [
        pytest.param(status(hubs=()), "UNDERLAY", "dmvpnd knows no hub yet", id="nothing yet"),
        pytest.param(status(PEER), "IKE", "hq1 has no SA with us yet (no SA stands)", id="no SA"),
        pytest.param(
            status(replace(PEER, layer="IKE", why="not authorised"), hubs=(replace(HUB, why=""),)),
            "NHRP",
            "hq1 has not answered our registration (not authorised)",
            id="an SA, and no registration",
        ),
        pytest.param(status(UP), "ROUTE", "the BGP session with hq1 has not begun", id="no session"),
        pytest.param(
            status(UP, bgp=({"address": "10.255.1.1", "state": "Active", "prefixes": 0},)),
            "ROUTE",
            "the BGP session with hq1 is in state Active",
            id="a session that is not up",
        ),
        pytest.param(
            status(UP, bgp=({"address": "10.255.1.1", "state": "Established", "prefixes": 0},)),
            "ROUTE",
            "hq1 has told no route yet",
            id="a session without routes",
        ),
        pytest.param(
            status(UP, bgp=({"address": "10.255.1.1", "state": "Established", "prefixes": 1},)), "UP", "", id="all"
        ),
    ],
)
def test_the_first_layer_that_failed_is_named(found: NodeStatus, layer: str, why: str) -> None:
    arrival = _look(HERE, compile_plan(load(DEMO, "demo.yaml"), "par1"), found)
    assert (arrival.layer, arrival.why) == (layer, why)
    assert arrival.good is (layer == "UP")


def test_the_best_of_two_hubs_counts() -> None:
    other = replace(HUB, router="res1", overlay="10.255.1.2", nbma="100.64.0.2")
    session = {"address": "10.255.1.1", "state": "Established", "prefixes": 1}
    arrival = _look(HERE, compile_plan(load(DEMO, "demo.yaml"), "par1"), status(UP, hubs=(other, HUB), bgp=(session,)))
    assert arrival == Arrival("hq1", 0.0)


def test_a_hub_without_other_hubs_has_arrived_by_itself() -> None:
    assert _look(HERE, compile_plan(load(DEMO, "demo.yaml"), "hq1"), status(hubs=())).good
