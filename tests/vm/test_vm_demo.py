"""The demo, unchanged, on a stock kernel."""

import json
import os
import sys
from pathlib import Path

import pytest

from dmvpn.linux import process


@pytest.mark.lab
@pytest.mark.both_planes
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root for labs")
def test_the_demo_passes(place: str) -> None:
    dmvpn = str(Path(sys.executable).with_name("dmvpn"))
    done = process.run((dmvpn, "lab", "run", "demo", "--json"), timeout_s=200, accept=range(256))
    assert done.stdout, done.stderr
    steps = json.loads(done.stdout)
    assert [(row["step"], row["why"]) for row in steps if row["outcome"] != "passed"] == []
    assert done.status == 0
    # Here the kernel's own modules decide; in the machine they are all there.
    expected = "kernel plane" if place == "vm" else "plane;"
    assert expected in steps[0]["told"]
