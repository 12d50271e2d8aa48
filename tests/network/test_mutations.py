"""Every value of the examples replaced by something else: problems, never a traceback."""

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dmvpn.network import checks
from dmvpn.network.compile import compile_plan, routers, secret_files
from dmvpn.network.loading import _modelled
from dmvpn.network.source import Key, Source, read

EXAMPLES = Path(__file__).parents[2] / "examples"
NAMES = ("minimal", "demo", "figure2", "ospf", "ospf6", "wiki")
OTHERS: tuple[object, ...] = (
    [],
    {},
    "",
    "x",
    -1,
    0,
    4294967296,
    True,
    [[]],
    {"x": {}},
    "10.0.0.0/8",
    "10.1.8.7",
    "auto",
)


def keys(values: Any, here: Key = ()) -> Iterator[Key]:
    items = values.items() if isinstance(values, dict) else enumerate(values) if isinstance(values, list) else ()
    for part, value in items:
        yield (*here, part)
        yield from keys(value, (*here, part))


def examine(values: object) -> None:
    network, refusals = _modelled(Source("mutated", values))
    if network is None:
        assert refusals
        return
    found = [problem for problem in checks.problems(network, {}) if not problem.warning]
    if not found and not refusals:
        for router in routers(network):
            secrets = {path: b"Muenchen" for path in secret_files(network, router)}
            compile_plan(network, router, secrets=secrets)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("other", OTHERS, ids=str)
def test_a_value_replaced_is_a_problem_or_a_plan(name: str, other: object) -> None:
    good = read((EXAMPLES / f"{name}.yaml").read_text(), name).values
    for key in keys(good):
        values: Any = copy.deepcopy(good)
        here = values
        for part in key[:-1]:
            here = here[part]
        here[key[-1]] = copy.deepcopy(other)
        examine(values)


@pytest.mark.parametrize("name", NAMES)
def test_a_value_removed_is_a_problem_or_a_plan(name: str) -> None:
    good = read((EXAMPLES / f"{name}.yaml").read_text(), name).values
    for key in keys(good):
        values: Any = copy.deepcopy(good)
        here = values
        for part in key[:-1]:
            here = here[part]
        del here[key[-1]]
        examine(values)
