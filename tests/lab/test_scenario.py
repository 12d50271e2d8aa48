"""Scenario files: what is wrong in one is said with its position; conditions and words are exact."""

from pathlib import Path
from typing import Any

import pytest

from dmvpn.errors import Fault, Problems
from dmvpn.lab import scenario
from dmvpn.lab.expectation import Condition, follow, refusals
from dmvpn.lab.runner import words
from dmvpn.lab.scenario import ACTIONS, Step

HEAD = "version: 1\nname: story\nsteps:\n"


def load(tmp_path: Path, text: str) -> scenario.Scenario:
    path = tmp_path / "story.yaml"
    path.write_text(text)
    return scenario.load(path)


@pytest.mark.parametrize(
    ("steps", "fault"),
    [
        pytest.param(
            "- {name: x, wiat: {seconds: 1}}",
            "story.yaml:4:13: wiat is no word of a scenario; its words are background, cables, capture, carry, count, "
            "cut, end, expect, heal, id, impair, level, name, renumber, restart, row, run, stop, stream, tell, "
            "throughput, until, wait, watch",
            id="misspelt action",
        ),
        pytest.param("- {name: x}", "story.yaml:4:3: a step has exactly one action, this one has none", id="no action"),
        pytest.param(
            "- {name: x, wait: {seconds: 1}, heal: {}}",
            "story.yaml:4:3: a step has exactly one action, this one has heal, wait",
            id="two actions",
        ),
        pytest.param(
            "- {name: x, capture: {on: hub}}",
            "story.yaml:4:3: a capture needs an id, so that a later step can name it",
            id="no id",
        ),
        pytest.param("- {name: x, run: {argv: [ls]}}", "story.yaml:4:13: on is missing; add it", id="no node"),
        pytest.param(
            "- {name: x, run: {on: hub, argv: [ls], within: soon}}",
            "story.yaml:4:48: soon is not a time; write a number with s, ms, m, h, d, such as 25ms",
            id="no time",
        ),
        pytest.param(
            "- {name: x, count: {capture: wan}}",
            "story.yaml:1:1: step 1: no step before it has the id wan",
            id="what nobody started",
        ),
        pytest.param(
            "- {name: x, id: a, wait: {seconds: 1}}\n- {name: y, id: a, wait: {seconds: 1}}",
            "story.yaml:1:1: step 2: the id a is taken",
            id="one id twice",
        ),
    ],
)
def test_a_wrong_scenario_says_where_and_what(tmp_path: Path, steps: str, fault: str) -> None:
    with pytest.raises(Problems) as caught:
        load(tmp_path, HEAD + steps + "\n")
    assert [str(finding).removeprefix(f"{tmp_path}/") for finding in caught.value.findings] == [fault]


def test_all_that_is_wrong_comes_at_once(tmp_path: Path) -> None:
    with pytest.raises(Problems) as caught:
        load(tmp_path, HEAD + "- {name: x, oops: 1, wait: {seconds: -1}}\n- {name: y, cut: {path: [a]}}\n")
    lines = sorted(finding.where.rsplit(":", 2)[1] for finding in caught.value.findings)
    assert lines[0] == "4"
    assert lines[-1] == "5"


def test_the_demo_is_a_scenario_and_names_its_network() -> None:
    path = Path(scenario.__file__).parent / "scenarios" / "demo.yaml"
    story = scenario.load(path)
    network = scenario.network_path(story, path)
    assert network is not None
    assert network.name == "demo.yaml"
    assert network.is_file()


def test_every_action_has_words_for_the_operator() -> None:
    for name in ACTIONS:
        kinds = [kind for kind in Step.model_fields[name].annotation.__args__ if kind is not type(None)]  # type: ignore[union-attr]
        assert all(kind.__doc__ for kind in kinds), name


DOCUMENT = {"peers": [{"state": "direct", "rtt": 31.5}, {"state": "down", "rtt": None}], "hub": {"up": True}}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        pytest.param("peers.0.state", "direct", id="list index"),
        pytest.param("peers.-1.state", "down", id="from the end"),
        pytest.param("peers.*.state", ["direct", "down"], id="every member"),
        pytest.param("hub.*", [True], id="every value of a mapping"),
        pytest.param("hub.up.more", None, id="beyond a value"),
        pytest.param("peers.7.state", None, id="beyond a list"),
        pytest.param("", DOCUMENT, id="all of it"),
    ],
)
def test_a_path_leads_to_a_value_or_to_none(path: str, value: Any) -> None:
    assert follow(DOCUMENT, path) == value


@pytest.mark.parametrize(
    ("condition", "value", "why"),
    [
        pytest.param({"is": 4}, 4, [], id="equal"),
        pytest.param({"is": None}, 1, ["1 is not None"], id="none is a value"),
        pytest.param({"is-not": 1}, 1, ["is 1"], id="not equal"),
        pytest.param({"above": 3, "below": 5}, 4.5, [], id="between"),
        pytest.param({"below": 5}, 5, ["5 is not below 5"], id="the bound itself"),
        pytest.param({"above": 0}, None, ["None is not above 0"], id="no number"),
        pytest.param({"above": 0}, True, ["True is not above 0"], id="true is no number"),
        pytest.param({"matches": "^v1"}, "v1.2", [], id="found"),
        pytest.param({"matches": "^v2"}, "v1.2", ["v1.2 does not match ^v2"], id="not found"),
        pytest.param({"count": 2, "every": "up"}, ["up", "up"], [], id="all of them"),
        pytest.param({"count": 2}, ["up"], ["has 1 members, not 2"], id="too few"),
        pytest.param({"every": "up"}, ["up", "down"], ["down is not up"], id="one differs"),
        pytest.param({"every": "up"}, [], ["nothing is not up"], id="an empty list proves nothing"),
    ],
)
def test_a_condition_holds_or_says_why_not(condition: dict[str, Any], value: Any, why: list[str]) -> None:
    assert refusals(Condition.model_validate(condition), value) == why


def test_a_bare_value_stands_for_equality() -> None:
    assert refusals(0, 0) == []
    assert refusals(0, 3) == ["3 is not 0"]


def test_words_take_figures_of_this_step_and_of_others() -> None:
    told = words(
        "{rtt_ms:.1f} after {hub.rtt_ms:.1f}, {gap_s:.1f}", {"rtt_ms": 31.26, "gap_s": None}, {"hub": {"rtt_ms": 60}}
    )
    assert told == "31.3 after 60.0, -"


def test_a_figure_nobody_measured_is_a_fault() -> None:
    with pytest.raises(Fault, match="cannot be told: 'nothing'; use the step's figures"):
        words("{nothing}", {}, {})
