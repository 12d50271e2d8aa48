"""The bench runs: figures are for people, so only that there are some is looked at."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

TOP = Path(__file__).parents[2]
CHARON = Path("/usr/lib/ipsec/charon")


def test_the_engine_is_measured() -> None:
    command = (sys.executable, "-m", "bench.engine", "50")
    done = subprocess.run(command, cwd=TOP, capture_output=True, text=True, timeout=60, check=False)
    assert done.stderr == ""
    assert '"bindings": 50, "registrations_per_s": ' in done.stdout


@pytest.mark.kernel
def test_a_policy_is_measured_and_none_of_its_rules_is_in_vain() -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root for namespaces")
    script = """
from bench.policy import measure, text_of
from dmvpn.network.loading import check
print(check(text_of(120), "bench.yaml"))
run = measure(120)
print(run.lines > 240, min(run.read_s, run.compiled_s, run.loaded_s, run.again_s) > 0)
"""
    done = subprocess.run(
        (sys.executable, "-c", script), cwd=TOP, capture_output=True, text=True, timeout=90, check=False
    )
    assert (done.stdout, done.stderr) == ("[]\nTrue True\n", "")


@pytest.mark.kernel
@pytest.mark.slow
def test_two_hosts_reach_each_other_through_gre_and_esp() -> None:
    if os.geteuid() != 0 or not CHARON.exists():
        pytest.skip(f"needs root and {CHARON} (Debian package strongswan-charon)")
    # One second of TCP through everything that `make bench` sets up; the rest of it is the same with more time.
    script = """
from bench import load, ways
from bench.namespaces import Stage
with Stage() as stage:
    next(way for way in ways.WAYS if way.name == "plane").set_up(stage)
    print(load.tcp(stage, 1).mbit_per_s > 1)
"""
    done = subprocess.run(
        (sys.executable, "-c", script), cwd=TOP, capture_output=True, text=True, timeout=90, check=False
    )
    assert (done.stdout, done.stderr) == ("True\n", "")
