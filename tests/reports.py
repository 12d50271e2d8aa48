"""How one pytest tells another of its tests: one line of JSON for each report."""

import json
import os
from typing import Any

import pytest

VARIABLE = "DMVPN_REPORTS"  # the number of the descriptor they go to


class Teller:
    """Writes what happens to each test."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._descriptor = int(os.environ[VARIABLE])
        os.set_inheritable(self._descriptor, False)  # noqa: FBT003 - not for what the tests start

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        data = self._config.hook.pytest_report_to_serializable(config=self._config, report=report)
        line = memoryview(json.dumps(data).encode() + b"\n")
        while line:
            line = line[os.write(self._descriptor, line) :]


def heard(config: pytest.Config, data: dict[str, Any]) -> pytest.TestReport | None:
    """The report of a test that a line told of; None for one of a file's collection."""
    report = config.hook.pytest_report_from_serializable(config=config, data=data)
    if not isinstance(report, pytest.TestReport):
        return None
    if isinstance(report.longrepr, list):  # where and why a test was skipped: pytest wants a tuple, JSON has none
        path, line, reason = report.longrepr
        report.longrepr = (str(path), int(line), str(reason))
    return report


def silence(item: pytest.Item, said: str, seconds: float) -> pytest.TestReport:
    """The failure of a test of which the other pytest tells nothing any more."""
    keywords = dict.fromkeys(item.keywords, 1)
    return pytest.TestReport(item.nodeid, item.location, keywords, "failed", said, "call", duration=seconds)
