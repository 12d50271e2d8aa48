"""A scenario played on a real WAN, without a VPN: steps, figures, expectations, exit codes."""

from pathlib import Path

import pytest

from dmvpn.lab import scenario
from dmvpn.lab.runner import run_scenario
from dmvpn.lab.running import Lab
from dmvpn.lab.story import Event, Outcome, StepEnded, StoryEnded

pytestmark = [pytest.mark.kernel, pytest.mark.lab]


def play(lab: Lab, tmp_path: Path, steps: str) -> tuple[StoryEnded, dict[str, StepEnded]]:
    path = tmp_path / "story.yaml"
    path.write_text(f"version: 1\nname: story\nclosing: [bye]\nsteps:\n{steps}")
    events: list[Event] = []
    end = run_scenario(scenario.load(path), lab, restart_unit=lambda *_: None, tell=events.append)
    return end, {event.name: event for event in events if isinstance(event, StepEnded)}


def test_a_story_measures_a_cut_and_its_healing(underlay: Lab, tmp_path: Path) -> None:
    end, steps = play(
        underlay,
        tmp_path,
        """
- {name: capture, id: wan, capture: {on: internet}}
- {name: start, id: flow, stream: {from: osl1, to: hq1, every: 10ms}}
- name: flows
  until: {stream: flow, way: direct, packets: 20, within: 10s}
  expect: {lost: 0, rtt_ms: {above: 35.9, below: 60}}
- {name: cut, cut: {path: [osl1, hq1]}}
- {name: silence, watch: {stream: flow, for: 0.5s}, expect: {received: {below: 10}}}
- {name: heal, heal: {path: [osl1, hq1]}}
- {name: back, until: {stream: flow, way: direct, packets: 5, within: 10s}, expect: {gap_s: {above: 0.4}}}
- {name: slower, impair: {link: osl1.isp1, set: [delay=50ms], direction: up}}
- {name: settle, watch: {stream: flow, for: 0.2s}}
- {name: slow, watch: {stream: flow, for: 0.3s}, expect: {rtt_ms: {above: 73, below: 100}, lost: 0}}
- {name: mend, heal: {}}
- {name: end, end: {stream: flow}, expect: {lost: {above: 40}}}
- {name: count, count: {capture: wan}, expect: {gre_in_clear: 0, udp: {above: 50}}, tell: "{udp} of {total}"}
""",
    )
    assert {name: step.why for name, step in steps.items() if step.why} == {}
    assert (end.outcome, end.exit_code, end.closing) == (Outcome.PASSED, 0, ("bye",))


def test_throughput_is_measured_up_to_the_links_rate(underlay: Lab, tmp_path: Path) -> None:
    _, steps = play(
        underlay,
        tmp_path,
        """
- {name: slow, impair: {link: osl1.isp1, set: [rate=20M]}}
- {name: tcp, throughput: {from: osl1, to: hq1, seconds: 2}, expect: {mbit_per_s: {above: 5, below: 21}}}
- {name: mend, heal: {link: osl1.isp1}}
""",
    )
    assert steps["tcp"].outcome is Outcome.PASSED, steps["tcp"].why


@pytest.mark.parametrize(
    ("steps", "code", "why"),
    [
        pytest.param(
            "- {name: x, run: {on: hq1, argv: [sh, -c, 'exit 3']}}\n- {name: y, wait: {seconds: 1}}\n",
            1,
            "hq1 sh -c exit 3: exit status 3, not 0",
            id="a failure ends the story",
        ),
        pytest.param(
            "- {name: x, level: warning, run: {on: hq1, argv: [echo, hi], matches: ho}}\n",
            3,
            "hq1 echo hi: its output does not match ho",
            id="a warning does not",
        ),
        pytest.param(
            "- {name: x, run: {on: hq1, argv: [echo, '{\"a\": [1, 2]}'], json: {a.1: 2}, keep: {n: a.0}}, "
            "expect: {n: 5}}\n",
            1,
            "n: 1 is not 5",
            id="a kept figure",
        ),
        pytest.param(
            "- {name: x, run: {on: nowhere, argv: [ls]}}\n",
            1,
            "lab underlay: has no node nowhere",
            id="a node that is not there",
        ),
    ],
)
def test_a_story_ends_with_the_code_of_its_worst_step(
    underlay: Lab, tmp_path: Path, steps: str, code: int, why: str
) -> None:
    end, ended = play(underlay, tmp_path, steps)
    assert end.exit_code == code
    assert ended["x"].why[0].startswith(why)
    assert "y" not in ended or ended["y"].outcome is Outcome.SKIPPED


def test_a_condition_is_waited_for(underlay: Lab, tmp_path: Path) -> None:
    end, _ = play(
        underlay,
        tmp_path,
        """
- {name: later, id: writer, background: {on: hq1, argv: [sh, -c, "sleep 0.5; touch /run/there; sleep 100"]}}
- {name: wait for it, run: {on: hq1, argv: [test, -e, /run/there], within: 10s}}
- {name: stop, stop: {what: writer}}
""",
    )
    assert end.exit_code == 0
