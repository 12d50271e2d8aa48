"""Running a scenario on a lab that is up: step by step, told as it goes, judged at each step."""

import time
from collections.abc import Callable, Mapping
from string import Formatter
from types import SimpleNamespace
from typing import Any

from dmvpn.errors import Fault
from dmvpn.lab.acting import RestartUnit, Stage, act
from dmvpn.lab.expectation import refusals
from dmvpn.lab.running import Lab
from dmvpn.lab.scenario import Level, Scenario, Step
from dmvpn.lab.story import Event, Figures, Outcome, StepBegan, StepEnded, StepGoesOn, StoryEnded

Tell = Callable[[Event], None]
GOES_ON_EVERY_S = 0.5


def run_scenario(
    story: Scenario,
    lab: Lab,
    *,
    restart_unit: RestartUnit,
    tell: Tell,
    known: Mapping[str, Figures] | None = None,
) -> StoryEnded:
    """Plays the story. After a failed step the rest is skipped; a failed step of level warning only counts.

    `known` are figures from before the first step, by a name that stands for an id. What the scenario started is
    ended when it is over, also by Ctrl-C; impairments stay as the scenario left them.
    """
    figures: dict[str, Figures] = dict(known or {})
    counts = dict.fromkeys(Outcome, 0)
    began = time.monotonic()
    stage = Stage(lab, restart_unit, lambda _what: None)
    try:
        for number, step in enumerate(story.steps, start=1):
            if counts[Outcome.FAILED]:
                counts[Outcome.SKIPPED] += 1
                tell(StepEnded(number, step.name, Outcome.SKIPPED, 0.0, {}, "", ()))
                continue
            tell(StepBegan(number, len(story.steps), step.name))
            ended = _play(stage, number, step, figures, tell)
            if step.id is not None:
                figures[step.id] = {**figures.get(step.id, {}), **ended.figures}
            counts[ended.outcome] += 1
            tell(ended)
    finally:
        stage.clear()
    outcome = next((worst for worst in (Outcome.FAILED, Outcome.WARNED) if counts[worst]), Outcome.PASSED)
    end = StoryEnded(
        name=story.name,
        outcome=outcome,
        seconds=time.monotonic() - began,
        passed=counts[Outcome.PASSED],
        warned=counts[Outcome.WARNED],
        failed=counts[Outcome.FAILED],
        skipped=counts[Outcome.SKIPPED],
        closing=story.closing if outcome is not Outcome.FAILED else (),
    )
    tell(end)
    return end


def _play(stage: Stage, number: int, step: Step, figures: Mapping[str, Figures], tell: Tell) -> StepEnded:
    began = last = time.monotonic()

    def seen(what: str) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= GOES_ON_EVERY_S:
            last = now
            tell(StepGoesOn(number, what, now - began))

    stage.seen = seen
    measured: Figures = {}
    told = row = ""
    try:
        measured = act(stage, step)
        why = tuple(
            f"{name}: {refusal}"
            for name, expected in step.expect.items()
            for refusal in refusals(expected, measured.get(name))
        )
        told = words(step.tell or "", measured, figures)
        row = words(step.row or "", measured, figures)
    except Fault as fault:
        why = (str(fault),)
    failed = Outcome.WARNED if step.level is Level.WARNING else Outcome.FAILED
    outcome = failed if why else Outcome.PASSED
    return StepEnded(number, step.name, outcome, time.monotonic() - began, measured, told, why, row)


def words(template: str, measured: Figures, figures: Mapping[str, Figures]) -> str:
    """The step's words with the figures in them. Raises Fault for a figure that nobody measured."""
    spaces: dict[str, Any] = {name: SimpleNamespace(**known) for name, known in figures.items()}
    try:
        return _Absent().vformat(template, (), {**spaces, **measured})
    except (KeyError, IndexError, AttributeError, ValueError, TypeError) as trouble:
        raise Fault("tell", f"{template!r} cannot be told: {trouble}", "use the step's figures, or ID.FIGURE") from None


class _Absent(Formatter):
    """A figure that could not be measured is told as a dash, whatever its format."""

    def format_field(self, value: Any, format_spec: str) -> str:
        return "-" if value is None else str(super().format_field(value, format_spec))
