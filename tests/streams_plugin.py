"""Two streams of what starts routers: they wait more than they work, so a second pytest takes files from the other end.

Each file is claimed by who comes to it first. What the second one did is told here as tests of this run, after this
one's own. `DMVPN_STREAMS=1` does without; a test that must not have company is marked `alone`.
"""

import ctypes
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from reports import Teller, heard, silence
from vm_plugin import INSIDE as IN_GUEST
from vm_plugin import is_busy

CLAIMS = os.environ.get("DMVPN_STREAM_CLAIMS", "")  # in the second stream: where files are claimed
LEAST_FILES = 6  # below that it is not worth the second collection
END_S = 120.0
LOOK_S = 0.2
_PR_SET_PDEATHSIG = 1  # prctl(2)

_SECOND = pytest.StashKey["Second"]()


@dataclass(slots=True)
class Second:
    """The second stream's pytest, and what it has told so far."""

    directory: Path
    config: pytest.Config
    child: subprocess.Popen[bytes] | None = None
    own: set[str] = field(default_factory=set)
    left: dict[pytest.Item, None] = field(default_factory=dict)  # both may take them

    def start(self) -> None:
        given = self.directory / "nodeids"
        given.write_text("\n".join(item.nodeid for item in self.left) + "\n")
        words = (sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"@{given}")
        with (self.directory / "reports").open("wb") as reports, (self.directory / "said").open("wb") as said:
            self.child = subprocess.Popen(
                words,
                cwd=self.config.rootpath,
                env={**os.environ, "DMVPN_STREAM_CLAIMS": str(self.directory), "DMVPN_REPORTS": str(reports.fileno())},
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                pass_fds=(reports.fileno(),),
                start_new_session=True,  # Ctrl-C comes from here, once
            )

    def stop(self) -> None:
        if self.child is not None and self.child.poll() is None:
            self.child.send_signal(signal.SIGINT)
            try:
                self.child.wait(END_S)
            except subprocess.TimeoutExpired:
                self.child.kill()
                self.child.wait()
        shutil.rmtree(self.directory, ignore_errors=True)

    def lines(self) -> Iterator[str]:
        """What it tells, until it has ended."""
        assert self.child is not None
        held = ""
        with (self.directory / "reports").open() as reports:
            while True:
                ended = self.child.poll() is not None
                *lines, held = (held + reports.read()).split("\n")
                yield from lines
                if ended and not lines:
                    return
                time.sleep(LOOK_S)

    def said(self) -> str:
        return (self.directory / "said").read_text(errors="replace")[-16_000:]


def _claim(directory: Path, item: pytest.Item) -> bool:
    """Whether this stream is the first to come to the item's file."""
    name = hashlib.sha256(str(item.path).encode()).hexdigest()
    try:
        os.close(os.open(directory / name, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        return False
    return True


# ---------------------------------------------------------------- the second stream


def pytest_configure(config: pytest.Config) -> None:
    if CLAIMS:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background is born without
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGINT)
        config.pluginmanager.register(Teller(config), "teller")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if IN_GUEST:
        return
    if CLAIMS:
        files = dict.fromkeys(item.path for item in items)
        order = {path: -index for index, path in enumerate(files)}
        items.sort(key=lambda item: order[item.path])
        config.stash[_SECOND] = Second(Path(CLAIMS), config)
        return
    shared = [item for item in items if is_busy(item) and not item.get_closest_marker("alone")]
    if len({item.path for item in shared}) >= LEAST_FILES and os.environ.get("DMVPN_STREAMS", "2") != "1":
        # At the end, after what is alone.
        chosen = set(shared)
        items[:] = [item for item in items if item not in chosen] + shared
        second = config.stash[_SECOND] = Second(Path(tempfile.mkdtemp(prefix="dmvpn-streams-")), config)
        config.add_cleanup(second.stop)
        second.left = dict.fromkeys(shared)


# ---------------------------------------------------------------- both


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> bool | None:
    second = item.config.stash.get(_SECOND, None)
    if second is None or (not CLAIMS and item not in second.left):
        return None
    if not CLAIMS and second.child is None:
        second.start()
    path = str(item.path)
    if path in second.own or _claim(second.directory, item):
        second.own.add(path)
        return None
    return True  # the other stream has it


# ---------------------------------------------------------------- the first one tells of the second


@pytest.hookimpl(wrapper=True)
def pytest_runtestloop(session: pytest.Session) -> Iterator[None]:
    result = yield
    second = session.config.stash.get(_SECOND, None)
    if not CLAIMS and second is not None and second.child is not None:
        _tell(session, second)
    return result


def _tell(session: pytest.Session, second: Second) -> None:
    theirs = {item.nodeid: item for item in second.left if str(item.path) not in second.own}
    hook, told = session.config.hook, set()
    for line in second.lines():
        report = heard(session.config, json.loads(line))
        if report is not None and report.nodeid in theirs:
            if report.when == "setup":
                hook.pytest_runtest_logstart(nodeid=report.nodeid, location=report.location)
            hook.pytest_runtest_logreport(report=report)
            if report.when == "teardown":
                told.add(report.nodeid)
                hook.pytest_runtest_logfinish(nodeid=report.nodeid, location=report.location)
    for nodeid in theirs.keys() - told:
        said = f"the second pytest ended before this test did\n{second.said()}"
        hook.pytest_runtest_logreport(report=silence(theirs[nodeid], said, 0.0))
