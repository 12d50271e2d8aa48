"""Programs: an argument tuple, a time limit, bounded output. No shell is ever involved."""

import os
import selectors
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from dmvpn.errors import Fault
from dmvpn.linux.pace import patience

OUTPUT_LIMIT_OCTETS = 64 * 1024 * 1024
STDERR_SHOWN_CHARS = 600
_CHUNK_OCTETS = 65536

# Debian keeps daemons and nft in sbin, which an ordinary login's PATH does not have.
SEARCH_PATH = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")

# Console scripts of this distribution stand beside its interpreter, also in a virtual environment that is not on PATH.
OWN_PROGRAMS = frozenset({"dmvpn", "dmvpnd", "dmvpn-gre"})
_PYTHON = frozenset({"python", "python3"})

PACKAGES: Mapping[str, str] = {
    "bgpd": "frr",
    "charon": "strongswan-charon",
    "conntrack": "conntrack",
    "dhcpcd": "dhcpcd-base",
    "ip": "iproute2",
    "iperf3": "iperf3",
    "keepalived": "keepalived",
    "nft": "nftables",
    "nsenter": "util-linux",
    "openvpn": "openvpn",
    "ping": "iputils-ping",
    "pppd": "ppp",
    "swanctl": "strongswan-swanctl",
    "tc": "iproute2",
    "tcpdump": "tcpdump",
    "unshare": "util-linux",
    "vtysh": "frr",
    "zebra": "frr",
}


@dataclass(frozen=True, slots=True)
class Result:
    """How a program ended. `status` is its exit status, or minus the signal that ended it."""

    argv: tuple[str, ...]
    status: int
    stdout: bytes
    stderr: bytes

    @property
    def text(self) -> str:
        return self.stdout.decode(errors="replace")


class ProcessFault(Fault):
    """A program that could not run, ran too long, or said no. `status` is None where it did not end by itself."""

    def __init__(self, argv: tuple[str, ...], status: int | None, stderr: str, what: str, fix: str = "") -> None:
        self.argv = argv
        self.status = status
        self.stderr = stderr
        super().__init__(argv[0].rsplit("/", 1)[-1], what, fix)


class TooLate(ProcessFault):
    """A program that ran longer than it may, and was ended."""


def find(program: str, package: str = "") -> str:
    """The absolute path of a program; `python` is the running interpreter.

    Raises ProcessFault, one line with the Debian package that has it.
    """
    if program in _PYTHON:
        return sys.executable
    if program in OWN_PROGRAMS:
        beside = Path(sys.executable).with_name(program)
        if os.access(beside, os.X_OK):
            return str(beside)
    path = os.pathsep.join((os.environ.get("PATH", ""), *SEARCH_PATH))
    found = shutil.which(program, path=path)
    if found is not None:
        return found
    package = package or PACKAGES.get(program.rsplit("/", 1)[-1], "")
    fix = f"install the Debian package {package}" if package else ""
    raise ProcessFault((program,), None, "", "no such program on this machine", fix)


def run(
    argv: tuple[str, ...],
    *,
    timeout_s: float,
    input: bytes | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    netns: str | None = None,
    package: str = "",
    accept: Collection[int] = (0,),
    started: Callable[[int], None] | None = None,
) -> Result:
    """Run a program to its end. `env` is added to ours; `netns` is a name of ip-netns(8). `started` is told the id of
    its process group, for whoever would end it from another thread.

    Raises ProcessFault for a missing program, a status outside `accept`, and after `timeout_s` seconds or more than
    64 MiB of output; then the whole process group is killed, so that no grandchild holds the pipes open.
    """
    resolved = (find(argv[0], package), *argv[1:])
    if netns is not None:
        resolved = (find("ip"), "netns", "exec", netns, *resolved)
    with ExitStack() as stack:
        try:
            child = subprocess.Popen(
                resolved,
                stdin=subprocess.DEVNULL if input is None else stack.enter_context(_memory(input)),
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=None if env is None else {**os.environ, **env},
                cwd=cwd,
                start_new_session=True,
            )
        except OSError as error:
            raise ProcessFault(argv, None, "", f"cannot be started: {error.strerror}") from error
        stack.enter_context(child)
        try:
            if started is not None:
                started(child.pid)
            stdout, stderr = _listen(child, argv, patience(timeout_s))
        except BaseException:
            with suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            raise
    result = Result(argv, child.returncode, stdout, stderr)
    if result.status not in accept:
        said = shown(stderr) or shown(stdout)
        ended = f"ended with status {result.status}" if result.status >= 0 else f"was ended by signal {-result.status}"
        raise ProcessFault(argv, result.status, said, f"{' '.join(argv)}: {ended}" + (f": {said}" if said else ""))
    return result


def shown(output: bytes) -> str:
    """The end of what a program said, in one line short enough for a Fault."""
    lines = (line.strip() for line in output.decode(errors="replace").splitlines())
    text = " | ".join(line for line in lines if line)
    return text if len(text) <= STDERR_SHOWN_CHARS else "..." + text[-STDERR_SHOWN_CHARS:]


def _memory(octets: bytes) -> IO[bytes]:
    """A file in memory: unlike a pipe, it needs nobody to write while the program reads. memfd_create(2)."""
    file = os.fdopen(os.memfd_create("stdin"), "w+b")
    file.write(octets)
    file.seek(0)
    return file


def _listen(child: subprocess.Popen[bytes], argv: tuple[str, ...], timeout_s: float) -> tuple[bytes, bytes]:
    assert child.stdout is not None
    assert child.stderr is not None
    deadline = time.monotonic() + timeout_s
    heard = {child.stdout.fileno(): b"", child.stderr.fileno(): b""}
    with selectors.DefaultSelector() as selector:
        for pipe in heard:
            selector.register(pipe, selectors.EVENT_READ)
        while selector.get_map():
            ready = selector.select(max(0.0, deadline - time.monotonic()))
            if not ready and time.monotonic() >= deadline:
                said = shown(heard[child.stderr.fileno()])
                raise TooLate(argv, None, said, f"{' '.join(argv)}: did not end within {timeout_s:g} s")
            for key, _ in ready:
                octets = os.read(key.fd, _CHUNK_OCTETS)
                heard[key.fd] += octets
                if not octets:
                    selector.unregister(key.fd)
                if len(heard[key.fd]) > OUTPUT_LIMIT_OCTETS:
                    raise ProcessFault(argv, None, "", f"{' '.join(argv)}: said more than {OUTPUT_LIMIT_OCTETS} octets")
    stdout, stderr = heard.values()
    try:
        child.wait(max(0.0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired as error:
        what = f"{' '.join(argv)}: did not end within {timeout_s:g} s"
        raise TooLate(argv, None, shown(stderr), what) from error
    return stdout, stderr
