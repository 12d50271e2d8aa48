"""What cannot be rendered is refused in one line, before anything is staged."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import PurePosixPath

import pytest
import render_plans as plans

from dmvpn.errors import Fault
from dmvpn.network.plan import Cloud, Plan
from dmvpn.render import engines
from dmvpn.render.layout import Layout
from dmvpn.render.result import File, Rendered
from dmvpn.render.words import word


def _changed(change: Callable[[Cloud], Cloud]) -> Plan:
    plan = plans.spoke()
    return replace(plan, clouds=tuple(change(cloud) for cloud in plan.clouds))


def _twice() -> Plan:
    plan = plans.spoke()
    cloud = plan.clouds[0]
    return replace(plan, clouds=(cloud, replace(cloud, name="green", device="acme-green")))


@pytest.mark.parametrize(
    ("plan", "fault"),
    [
        pytest.param(
            _twice(),
            "clouds.green.gre-key: the same as of blue, on one router; give each cloud its own key",
            id="two clouds, one GRE key",
        ),
        pytest.param(
            _changed(lambda cloud: replace(cloud, name="blue; flush ruleset")),
            "cloud: 'blue; flush ruleset' cannot stand in a configuration file; "
            "use letters, digits and . _ : / % @ + -",
            id="a name that is a command",
        ),
    ],
)
def test_what_cannot_be_rendered_is_one_fault(plan: Plan, fault: str) -> None:
    with pytest.raises(Fault) as caught:
        engines.render_all(plan)
    assert str(caught.value) == fault


@pytest.mark.parametrize("value", ["", "a b", "a\nb", 'a"b', "a}", "a;b", "a#b", "a$b", "a'b", "a\\b", "ä"])
def test_a_word_is_one_word(value: str) -> None:
    with pytest.raises(Fault, match="cannot stand in a configuration file"):
        word(value, "here")


def test_a_path_claimed_twice_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def grabs(plan: Plan, layout: Layout) -> Rendered:
        return Rendered("grabber", files=(File(PurePosixPath("gre.json"), ""),))

    monkeypatch.setattr(engines, "ENGINES", (*engines.ENGINES, ("grabber", grabs)))
    with pytest.raises(Fault, match=r"grabber: gre\.json is claimed by gre too"):
        engines.render_all(plans.spoke())
