"""What one pytest tells another of its tests arrives as pytest itself makes it."""

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from reports import VARIABLE, heard

TESTS = Path(__file__).parents[1]
SMALL = """
    import pytest

    def test_good(): pass

    def test_bad(): assert 1 == 2

    def test_skipped_inside(): pytest.skip("not here")

    @pytest.mark.skip(reason="never")
    def test_skipped_by_mark(): pass
"""
TELLER = """
    from reports import Teller

    def pytest_configure(config):
        config.pluginmanager.register(Teller(config), "teller")
"""


def test_every_report_arrives_as_it_was_made(tmp_path: Path, pytestconfig: pytest.Config) -> None:
    (tmp_path / "conftest.py").write_text(textwrap.dedent(TELLER))
    (tmp_path / "test_small.py").write_text(textwrap.dedent(SMALL))
    (tmp_path / "pytest.ini").touch()
    with (tmp_path / "told").open("wb") as told:
        subprocess.run(
            (sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"),
            cwd=tmp_path,
            env={**os.environ, VARIABLE: str(told.fileno()), "PYTHONPATH": str(TESTS)},
            pass_fds=(told.fileno(),),
            check=False,
            capture_output=True,
            timeout=60,
        )
    reports = [heard(pytestconfig, json.loads(line)) for line in (tmp_path / "told").read_text().splitlines()]
    assert None not in reports
    ended = {report.nodeid.partition("::")[2]: report for report in reports if report and not report.passed}
    good = {
        report.nodeid.partition("::")[2] for report in reports if report and report.when == "call" and report.passed
    }
    assert good == {"test_good"}
    assert ended.keys() == {"test_bad", "test_skipped_inside", "test_skipped_by_mark"}
    assert "assert 1 == 2" in ended["test_bad"].longreprtext
    for name, reason in {"test_skipped_inside": "Skipped: not here", "test_skipped_by_mark": "Skipped: never"}.items():
        where = ended[name].longrepr
        assert isinstance(where, tuple), "the summary of pytest takes nothing else"
        assert where[0].endswith("test_small.py")
        assert where[2] == reason
