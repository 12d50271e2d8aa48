"""A process that dies at one of its own system calls: they are taken from a trace, and strace(1) kills it at each.

The process is forked from this one, so that it imports nothing any more, and strace joins it before it begins: what it
counts is what the change does. A call at which it is killed does not happen.
"""

import os
import re
import select
import shutil
import signal
import subprocess
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from dmvpn.errors import Fault
from dmvpn.linux.pace import patience

STRACE = shutil.which("strace")
WHY_NOT = "" if STRACE and os.geteuid() == 0 else "needs root and strace"
# What a disk, another process or the kernel's tables see of a process; `%process` has forks, execs and ends.
SEEN = (
    "rename,renameat,renameat2,link,linkat,symlink,symlinkat,unlink,unlinkat,mkdir,mkdirat,rmdir,"
    "openat,write,pwrite64,ftruncate,fchmod,chmod,fchmodat,fsync,fdatasync,flock,"
    "clone,clone3,fork,vfork,kill,connect,sendto,sendmsg"
)
ATTACH_S = 20.0
_CALL = re.compile(r"^(?:\d+ )?([a-z0-9_]+)\((.*)$")
_READS = re.compile(r"O_RDONLY|O_PATH")


@dataclass(frozen=True)
class Call:
    """The `number`th call of this name, from 1; `words` are its arguments as strace shows them."""

    name: str
    number: int
    words: str

    @property
    def what(self) -> str:
        return f"{self.name} {self.number}: {self.words[:90]}"


def traced(act: Callable[[], object]) -> list[Call]:
    """The calls of a run to its end that change something."""
    status, lines = _run(act, ())
    assert status == 0, f"the undisturbed run ended with {status}"
    counted: Counter[str] = Counter()
    calls = []
    for line in lines:
        found = _CALL.match(line)
        if found is None:
            continue
        name, words = found.groups()
        counted[name] += 1
        if not (name == "openat" and _READS.search(words)):
            calls.append(Call(name, counted[name], words))
    return calls


def killed_at(act: Callable[[], object], call: Call) -> bool:
    """Run it again, to its death at this call. False if it never came there."""
    status, _ = _run(act, ("-e", f"inject={call.name}:signal=SIGKILL:when={call.number}"))
    return status == -signal.SIGKILL


def _run(act: Callable[[], object], more: tuple[str, ...]) -> tuple[int, list[str]]:
    assert STRACE is not None
    waits, goes = os.pipe()
    pid = os.fork()
    if pid == 0:
        _be_traced(act, waits)
    os.close(waits)
    with tempfile.NamedTemporaryFile("r") as log:
        argv = (STRACE, "-y", "-p", str(pid), "-o", log.name, "-e", f"trace={SEEN}", *more)
        tracer = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
        assert tracer.stderr is not None
        try:
            _await(tracer.stderr.fileno())
            os.write(goes, b"x")
            _, status = os.waitpid(pid, 0)
        finally:
            os.close(goes)
            tracer.wait(ATTACH_S)
            tracer.stderr.close()
        return os.waitstatus_to_exitcode(status), log.read().splitlines()


def _await(stderr: int) -> None:
    said = b""
    while b"attached" not in said:
        assert select.select((stderr,), (), (), patience(ATTACH_S))[0], f"strace did not attach: {said!r}"
        octets = os.read(stderr, 4096)
        assert octets, f"strace ended: {said!r}"
        said += octets


def _be_traced(act: Callable[[], object], waits: int) -> None:
    status = 1
    try:
        if os.read(waits, 1):
            act()
            status = 0
    except (Fault, OSError) as error:
        os.write(2, f"{error}\n".encode())
    finally:
        os._exit(status)


@dataclass
class Count:
    """Of the places that were planned: which were good, which were not and how, and which no run came to."""

    good: int = 0
    bad: list[str] = field(default_factory=list)
    unreached: list[str] = field(default_factory=list)

    def saw(self, place: str, trouble: str = "") -> None:
        """One place was tried; `trouble` says what was wrong afterwards."""
        if trouble:
            self.bad.append(f"{place}: {trouble}")
        else:
            self.good += 1

    def missed(self, place: str) -> None:
        """The run ended without coming there, so nothing was tried."""
        self.unreached.append(place)


@contextmanager
def counted(what: str, planned: int) -> Iterator[Count]:
    """Tell whoever runs `make faults` how many of the planned places were good, also when the test fails half-way.

    At the end all that were bad fail the test at once. What was not reached is told, and the test's to judge.
    """
    count = Count()
    try:
        yield count
    finally:
        _told(what, count, planned)
    assert not count.bad, "\n".join(count.bad)
    tried = count.good + len(count.unreached)
    assert tried == planned, f"{what}: {tried} places tried of {planned} planned"


def _told(what: str, count: Count, planned: int) -> None:
    """One line: `what: good of planned`, and what was not reached."""
    path = os.environ.get("DMVPN_FAULTS")
    if path:
        missed = f"; {len(count.unreached)} not reached" if count.unreached else ""
        with Path(path).open("a") as file:
            file.write(f"{what}: {count.good} of {planned}{missed}\n")
