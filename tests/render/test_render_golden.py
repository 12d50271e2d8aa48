"""The tree each router of an example gets, reviewed as a diff. `DMVPN_ACCEPT=1 pytest tests/render` rewrites them."""

import os
import shutil
from pathlib import Path

import pytest
from render_trees import REPOSITORY, example_plan, example_routers

from dmvpn.render.engines import render_all
from dmvpn.render.result import Rendered

GOLDEN = Path(__file__).with_name("golden")
UNITS = "units.txt"
EXAMPLES = ("demo", "minimal", "ospf", "ospf6", "wiki", "kernel", "bfd")


def _routers() -> list[tuple[str, str]]:
    return [(example, router) for example in EXAMPLES for router in example_routers(example)]


def _tree(parts: tuple[Rendered, ...]) -> dict[str, str]:
    tree = {str(file.path): file.text for part in parts for file in part.files}
    lines = []
    for part in parts:
        lines += [f"check {' '.join(check.argv)}" for check in part.checks]
    for part in parts:
        for unit in part.units:
            lines.append(f"unit {unit.name}: {' '.join(unit.argv)}")
            lines += [f"  {name}={value}" for name, value in unit.environment]
            lines += [
                f"  {verb} {' '.join(argv)}" for verb, argv in (("reload", unit.reload), ("stop", unit.stop)) if argv
            ]
            lines += [f"  ready {unit.ready}"] if unit.ready else []
            lines += [f"  sees {source} as {place}" for source, place in unit.binds]
            lines += [f"  may {' '.join(unit.needs.capabilities)}", f"  speaks {' '.join(unit.needs.families)}"]
            lines += [f"  {unit.on_change.value} for {' '.join(map(str, unit.reads))}"] if unit.reads else []
    tree[UNITS] = "\n".join(lines) + "\n"
    return tree


@pytest.mark.parametrize(("example", "router"), _routers())
def test_a_router_gets_the_tree_that_was_reviewed(example: str, router: str) -> None:
    tree = _tree(render_all(example_plan(example, router)))
    directory = GOLDEN / example / router
    if os.environ.get("DMVPN_ACCEPT") == "1":
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
        for name, text in tree.items():
            (directory / name).parent.mkdir(exist_ok=True)
            (directory / name).write_text(text)
    files = (path for path in directory.rglob("*") if path.is_file())
    reviewed = {str(path.relative_to(directory)): path.read_text() for path in files}
    assert sorted(tree) == sorted(reviewed)
    for name, text in tree.items():
        assert text == reviewed[name], f"{directory.relative_to(REPOSITORY) / name}: accept it with DMVPN_ACCEPT=1"
