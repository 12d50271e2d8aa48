"""Tests on a stock kernel: one virtual machine runs them all, and each is reported here as a test of its own.

Marker `vm`: runs in the machine only. Marker `both_planes`: runs here as `[native]` and in the machine as `[vm]`, which
`make test` leaves to `make wide` with `both_planes(vm_is_wide=True)`; the summary shows both columns. The machine
starts first and works beside the tests here that start no router, or are marked `patient`; then it is waited for, and
the others have the processors for themselves.
"""

import json
import os
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from typing import Any

import pytest

from dmvpn.errors import Fault
from dmvpn.lab import vm, vm_image
from dmvpn.lab.vm_command import Command
from dmvpn.lab.vm_wire import Kind
from dmvpn.linux import pace
from reports import VARIABLE, Teller, heard, silence

INSIDE = vm.VARIABLE in os.environ
REPORTS = 3  # in the guest: where one line of JSON goes for each report
# In the guest: its pytest's reports, words and process. There they wait until this pytest has come to them.
REPORTS_FILE, SAID_FILE, PID_FILE = "/run/dmvpn-reports", "/run/dmvpn-said", "/run/dmvpn-pytest"
_WORK = f'echo $$ >{PID_FILE}; exec "$@" {REPORTS}>{REPORTS_FILE} >{SAID_FILE} 2>&1'
_READ = (
    f"until test -s {PID_FILE} -a -e {REPORTS_FILE}; do sleep 0.1; done; "
    f"tail -n +1 -f --pid=$(cat {PID_FILE}) {REPORTS_FILE}; cat {SAID_FILE} >&2"
)
SHOWN_OCTETS = 16_000
BUSY = ("lab", "slow", "alone")  # markers of what wants the processors for itself, unless it is `patient`
PLACES = ("native", "vm")

_RUN = pytest.StashKey["GuestRun"]()


# ---------------------------------------------------------------- which tests


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if marker := metafunc.definition.get_closest_marker("both_planes"):
        if "place" not in metafunc.fixturenames:
            metafunc.fixturenames.append("place")
        marks = [pytest.mark.vm, *([pytest.mark.wide] if marker.kwargs.get("vm_is_wide") else [])]
        metafunc.parametrize("place", ["native", pytest.param("vm", marks=marks)])


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    chosen = [item for item in items if item.get_closest_marker("vm")]
    if INSIDE:
        for item in chosen:
            _allow_time(item)
        return
    why = vm_image.why_not() if chosen else ""
    for item in chosen:
        item.add_marker(pytest.mark.timeout(0), append=False)  # the guest has its own
        if why:
            item.add_marker(pytest.mark.skip(reason=why))
    if chosen:
        busy = list(filter(is_busy, items))
        apart = {*chosen, *busy}
        items[:] = [item for item in items if item not in apart] + chosen + busy


def is_busy(item: pytest.Item) -> bool:
    """Whether a test of this machine minds what else goes on there: it waits for limits, or counts what is lost."""
    if item.get_closest_marker("vm") or item.get_closest_marker("patient"):
        return False
    return any(map(item.get_closest_marker, BUSY))


def _allow_time(item: pytest.Item) -> None:
    given = item.get_closest_marker("timeout")
    limit_s = float(given.args[0] if given and given.args else item.config.getini("timeout") or 300)
    item.add_marker(pytest.mark.timeout(pace.patience(limit_s)), append=False)


# ---------------------------------------------------------------- in the guest: every report is told


def pytest_configure(config: pytest.Config) -> None:
    if INSIDE and os.environ.get(VARIABLE):
        config.pluginmanager.register(Teller(config), "teller")


# ---------------------------------------------------------------- on the host: the guest's run, test by test


@dataclass(slots=True)
class GuestRun:
    """The machine and the one pytest in it. `said` is the end of what that wrote."""

    config: pytest.Config
    stack: ExitStack
    machine: vm.Machine | None = None
    lines: Iterator[dict[str, Any]] | None = None
    said: bytearray = field(default_factory=bytearray)
    waiting: dict[str, list[pytest.TestReport]] = field(default_factory=dict)
    why: str = ""

    def start(self, nodeids: list[str]) -> None:
        """Raises Fault when the machine does not come up."""
        reporter = self.config.pluginmanager.get_plugin("terminalreporter")

        def tell(what: str, seconds: float) -> None:
            if reporter is not None and self.config.get_verbosity() >= 0:
                reporter.ensure_newline()
                reporter.write_line(f"{what} ({seconds:.0f} s)")

        self.machine = self.stack.enter_context(vm.held(f"tests-{os.getpid()}", tell))
        words = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", *nodeids]
        # Nobody reads of it until `listen`: all that it says goes to files.
        self._command(("sh", "-c", _WORK, "sh", *words)).start()

    def listen(self) -> None:
        """From now on the reports are read. Raises Fault when the machine is gone."""
        if self.lines is None and not self.why:
            self.lines = self._lines(self._command(("sh", "-c", _READ)))

    def _command(self, argv: tuple[str, ...]) -> Command:
        assert self.machine is not None
        command = self.machine.command(argv, env={VARIABLE: str(REPORTS)}, cwd=self.config.rootpath)
        self.stack.callback(command.close)
        return command

    def _lines(self, command: Command) -> Iterator[dict[str, Any]]:
        held = b""
        for frame in command.frames():
            if frame.kind is Kind.OUTPUT:
                *lines, held = (held + frame.content).split(b"\n")
                yield from (json.loads(line) for line in lines)
            elif frame.kind is Kind.ERRORS:
                self.said += frame.content
                del self.said[:-SHOWN_OCTETS]

    def reports(self, nodeid: str) -> Iterator[pytest.TestReport]:
        """What the guest reports of one test; nothing more when its pytest is over."""
        while True:
            for report in self.waiting.pop(nodeid, []):
                yield report
                if report.when == "teardown":
                    return
            data = next(self.lines, None) if self.lines is not None else None
            if data is None:
                return
            report = heard(self.config, data)
            if report is not None:
                self.waiting.setdefault(report.nodeid, []).append(report)


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> None:
    """Every test that is for the machine goes there at once."""
    if INSIDE or session.config.option.collectonly:
        return
    mine = [one.nodeid for one in session.items if one.get_closest_marker("vm") and not one.get_closest_marker("skip")]
    if mine:
        run = session.config.stash[_RUN] = GuestRun(session.config, ExitStack())
        session.config.add_cleanup(run.stack.close)
        try:
            run.start(mine)
        except Fault as fault:
            run.why = str(fault)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> bool | None:
    if INSIDE or not item.get_closest_marker("vm") or item.get_closest_marker("skip"):
        return None
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    ended = False
    began = time.monotonic()
    run = item.config.stash[_RUN]
    try:
        run.listen()
        for report in run.reports(item.nodeid):
            ended = ended or report.when == "teardown"
            item.ihook.pytest_runtest_logreport(report=report)
    except Fault as fault:
        run.why = run.why or str(fault)
        run.lines = None
    if not ended:
        _report_silence(item, run, time.monotonic() - began)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True


def _report_silence(item: pytest.Item, run: GuestRun, seconds: float) -> None:
    """The guest died, or its pytest ended before this test was over: that is a failure, with what was said last."""
    words = bytes(run.said).decode(errors="replace")
    text = f"{run.why or 'pytest in the virtual machine ended before this test did'}\n{words}"
    run.said.clear()
    item.ihook.pytest_runtest_logreport(report=silence(item, text, seconds))


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    run = session.config.stash.get(_RUN, None)
    if run is not None:
        with suppress(Fault):
            run.stack.close()


# ---------------------------------------------------------------- both columns


@dataclass(slots=True)
class Table:
    """By test and place: how it went and how long it took."""

    cells: dict[str, dict[str, tuple[str, float]]] = field(default_factory=dict)

    def note(self, nodeid: str, outcome: str, seconds: float) -> None:
        name, place = self.split(nodeid)
        if not place:
            return
        row = self.cells.setdefault(name, {})
        worst, sum_s = row.get(place, ("passed", 0.0))
        row[place] = (outcome if worst == "passed" else worst, sum_s + seconds)

    @staticmethod
    def split(nodeid: str) -> tuple[str, str]:
        """The test's name without the place, and the place."""
        head, bracket, inner = nodeid.partition("[")
        words = inner.removesuffix("]").split("-")
        place = next((word for word in words if word in PLACES), "")
        rest = "-".join(word for word in words if word not in PLACES)
        return (f"{head}{bracket}{rest}]" if rest else head), place if bracket else ""


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    _table.note(report.nodeid, report.outcome, report.duration)


_table = Table()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if INSIDE or not _table.cells:
        return
    width = min(max(len(name) for name in _table.cells), shutil.get_terminal_size().columns - 34)
    terminalreporter.section("both planes")
    terminalreporter.line(f"{'':{width}}  {'native':>15}  {'vm':>15}")
    for name, row in _table.cells.items():
        columns = (f"{row[place][0]} {row[place][1]:6.1f} s" if place in row else "-" for place in PLACES)
        terminalreporter.line(f"{name[-width:]:{width}}  {'  '.join(f'{column:>15}' for column in columns)}")
