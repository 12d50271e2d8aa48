"""The stories that network files of ours name: what routing and shared gateways do when something dies."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dmvpn import lab
from dmvpn.lab import frr10
from dmvpn.linux.pace import patience
from dmvpn.network.loading import load
from dmvpn.network.places import places

ROOT = Path(__file__).parents[2]
STORIES = {
    "demo": Path(lab.__file__).with_name("scenarios") / "demo.yaml",
    "figure2": ROOT / "examples" / "figure2-story.yaml",
}
DMVPN = str(Path(sys.executable).with_name("dmvpn"))
pytestmark = [pytest.mark.lab, pytest.mark.timeout(900)]


@pytest.mark.parametrize(
    ("network", "rows"),
    [
        pytest.param("rip", 2, id="RIP counts hops, OSPF takes the faster tunnel"),
        # Nine routers and three minutes: more than make test has time for.
        pytest.param("figure2", 10, id="figure 2", marks=pytest.mark.wide),
    ],
)
def test_a_story_comes_true(network: str, rows: int, tmp_path: Path) -> None:
    report = tmp_path / "report.md"
    argv = (
        DMVPN,
        "lab",
        "run",
        f"examples/{network}.yaml",
        "--name",
        f"{network}-{os.getpid()}",
        "--report",
        str(report),
    )
    ended = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=patience(300), check=False)
    assert ended.returncode == 0, ended.stdout[-3000:] + ended.stderr[-1000:]
    table = report.read_text().partition("| step |")[0]
    assert table.count("\n| ") == rows + 1


@pytest.mark.skipif(bool(frr10.why_not()), reason=frr10.why_not())
@pytest.mark.parametrize(
    ("network", "story"),
    [
        pytest.param("demo", "demo-story", id="the demo", marks=pytest.mark.wide),
        pytest.param("figure2", "figure2-story", id="figure 2", marks=pytest.mark.wide),
    ],
)
def test_it_comes_true_with_frr_10_in_every_router(network: str, story: str, tmp_path: Path) -> None:
    """What Debian 13 has: bgpd, ospfd, bfdd and frr-reload.py of another release."""
    text = (ROOT / "examples" / f"{network}.yaml").read_text()
    ours = [place.name for place in places(load(text, f"{network}.yaml")) if place.ours]
    (tmp_path / f"{network}.yaml").write_text(text.replace("\nlab:\n", f"\nlab:\n  frr10: [{', '.join(ours)}]\n"))
    told = STORIES[network].read_text().replace("demo-network.yaml", "demo.yaml")
    (tmp_path / f"{story}.yaml").write_text(told)
    argv = (DMVPN, "lab", "run", str(tmp_path / f"{story}.yaml"), "--name", f"{network}10-{os.getpid()}")
    ended = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=patience(300), check=False)
    assert ended.returncode == 0, ended.stdout[-3000:] + ended.stderr[-1000:]


def test_a_network_file_without_a_story_says_what_to_do() -> None:
    argv = (DMVPN, "lab", "run", "examples/ospf.yaml")
    ended = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=patience(60), check=False)
    assert ended.returncode == 2
    assert "its lab has no story" in ended.stderr
    assert "lab: {story: FILE}" in ended.stderr
