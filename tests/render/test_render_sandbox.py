"""Which units have no sandbox: those that the page names, and no other."""

import re
from dataclasses import replace
from pathlib import Path

from render_trees import example_plan

from dmvpn.network.plan import Plan
from dmvpn.render.engines import render_all
from dmvpn.render.systemd import Programs, unit_files

PAGE = Path(__file__).parents[2] / "docs/system.md"
PLANS = (
    example_plan("demo", "hq1"),
    example_plan("kernel", "hq1"),
    example_plan("ospf", "hq1"),
    replace(example_plan("wiki", "vpnc"), adopts=("frr",)),
)


def unprotected(plan: Plan) -> set[str]:
    """Without the network's name."""
    units = [unit for part in render_all(plan) for unit in part.units]
    found = unit_files(plan.network, units, Programs(lambda name, _package: f"/usr/bin/{name}"))
    prefix = f"dmvpn-{plan.network}-"
    services = {name.removesuffix(".service").removeprefix(prefix): text for name, text in found.items()}
    return {
        name for name, text in services.items() if "\n[Service]\n" in text and "\nProtectSystem=strict\n" not in text
    }


def test_the_page_names_every_unit_without_a_sandbox() -> None:
    paragraph = PAGE.read_text().partition("units have no sandbox. ")[2].partition("\n\n")[0]
    assert set(re.findall(r"`dmvpn-NET-([a-z]+)`", paragraph)) == set().union(*map(unprotected, PLANS))
