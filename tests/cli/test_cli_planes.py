"""What a machine without GRE and ESP in its kernel is told."""

from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dmvpn.cli.main import app
from dmvpn.errors import Fault
from dmvpn.linux import kernel_facts
from dmvpn.network.compile import compile_plan
from dmvpn.network.loading import load
from dmvpn.network.plan import Plan, Plane, Role
from dmvpn.operations import host

MIXED = Path(__file__).parents[1] / "render" / "networks" / "kernel.yaml"


def plan_of(router: str) -> Plan:
    """As a file with plane: auto gives it on a machine that has userspace only."""
    text = MIXED.read_text().replace("plane: kernel", "plane: auto")
    return compile_plan(load(text, "kernel.yaml"), router, planes=(Plane.USERSPACE,))


def test_a_hub_needs_the_kernel_plane_for_a_foreign_spoke() -> None:
    with pytest.raises(Fault) as caught:
        host._refuse_unspoken(plan_of("hq1"))
    assert str(caught.value) == (
        "clouds.blue: rom1 is foreign and needs ESP in transport mode, which the userspace plane lacks; "
        "modprobe ip_gre esp4: with GRE and ESP in the kernel it uses those"
    )


def test_a_spoke_needs_it_for_a_foreign_hub_only() -> None:
    plan = plan_of("par1")
    host._refuse_unspoken(plan)
    (blue,) = plan.clouds
    hub = replace(blue.foreign[0], role=Role.HUB)
    with pytest.raises(Fault, match="rom1 is foreign"):
        host._refuse_unspoken(replace(plan, clouds=(replace(blue, foreign=(hub,)),)))


def test_a_cloud_in_clear_needs_it() -> None:
    with pytest.raises(Fault, match=r"clouds\.mpls: crypto: none needs GRE in the kernel"):
        host._refuse_unspoken(plan_of("mil1"))


@pytest.mark.parametrize(
    ("gre", "esp", "said"),
    [
        pytest.param(False, False, "kernel without GRE and ESP", id="neither"),
        pytest.param(True, False, "kernel without ESP", id="no ESP"),
        pytest.param(True, True, None, id="both"),
    ],
)
def test_a_forced_kernel_plane_is_refused_by_what_is_missing(
    *, gre: bool, esp: bool, said: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernel_facts, "has_gre", lambda: gre)
    monkeypatch.setattr(kernel_facts, "has_esp", lambda: esp)
    plan = compile_plan(load(MIXED.read_text(), "kernel.yaml"), "par1")
    if said is None:
        host._need_kernel_plane(plan)
        return
    with pytest.raises(Fault) as caught:
        host._need_kernel_plane(plan)
    assert str(caught.value) == f"{said}: the kernel plane needs it; modprobe ip_gre esp4, or write plane: userspace"


@pytest.mark.parametrize(("router", "said"), [("par1", True), ("osl1", False)])
def test_render_says_which_plane_it_assumed(router: str, tmp_path: Path, *, said: bool) -> None:
    file = tmp_path / "network.yaml"
    file.write_text(MIXED.read_text().replace("plane: kernel", "plane: auto"))
    done = CliRunner().invoke(app, ["render", router, "-f", str(file)])
    assert done.exit_code == 0
    assert (f"{router}: plane auto: shown for userspace" in done.output) is said
