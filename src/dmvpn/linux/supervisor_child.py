"""Starting a process for the supervisor: what happens between fork and exec.

Not subprocess.Popen: what a process alone sees needs a mount namespace, and its failure must come back as a sentence.
"""

import ctypes
import os
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dmvpn.errors import Fault

CLONE_NEWNS = 0x00020000  # linux/sched.h
CLONE_NEWPID = 0x20000000
MS_BIND = 0x1000  # linux/mount.h
MS_REC = 0x4000
MS_SLAVE = 0x80000
PR_SET_PDEATHSIG = 1  # linux/prctl.h
PR_SET_CHILD_SUBREAPER = 36

MEMORY = Path("/var/lib/dmvpn")
Bind = tuple[Path, Path]  # a source, and the place where the process alone sees it

_libc = ctypes.CDLL(None, use_errno=True)


def _call(what: str, result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number).lower()}")


def unshare(flags: int) -> None:
    """unshare(2); os.unshare() is Python 3.12. Raises OSError."""
    _call("unshare", _libc.unshare(flags))


def mount(source: str | None, target: str, flags: int) -> None:
    """mount(2), without a file system type. Raises OSError."""
    from_, at = (None if source is None else os.fsencode(source)), os.fsencode(target)
    _call(f"mount {source or ''} on {target}", _libc.mount(from_, at, None, ctypes.c_ulong(flags), None))


def set_parent_death_signal(number: signal.Signals) -> None:
    """prctl(2). Lost when the process changes its user, as FRR does; the PID namespace covers that."""
    _call("prctl", _libc.prctl(PR_SET_PDEATHSIG, ctypes.c_ulong(number), 0, 0, 0))


def become_subreaper() -> None:
    """Orphans below us become our children, not init's. prctl(2)."""
    _call("prctl", _libc.prctl(PR_SET_CHILD_SUBREAPER, ctypes.c_ulong(1), 0, 0, 0))


@dataclass(frozen=True, slots=True)
class Child:
    """`pid` is for wait and kill; `shown_pid` is the same process as the mounted /proc shows it."""

    pid: int
    shown_pid: int


def spawn(
    argv: tuple[str, ...], *, environment: Mapping[str, str], output: Path, binds: tuple[Bind, ...] = ()
) -> Child:
    """Start a program in a session of its own, its words appended to `output`; it dies with us.

    With `binds`, a mount namespace of its own in which each is laid over its place. argv[0] is an absolute path.
    Raises Fault if anything up to exec fails.
    """
    parent = os.getpid()
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(reader)
            _become(argv, parent, environment, output, binds, writer)
        except OSError as error:
            os.write(writer, b"!" + (error.strerror or str(error)).encode())
        finally:
            os._exit(127)
    os.close(writer)
    said = b""
    with os.fdopen(reader, "rb") as pipe:
        said = pipe.read()  # ends at exec: the pipe is close-on-exec
    shown, failed, reason = said.partition(b"!")
    if failed:
        os.waitpid(pid, 0)
        raise Fault(Path(argv[0]).name, f"cannot be started: {reason.decode(errors='replace')}")
    return Child(pid, int(shown or pid))


def _become(
    argv: tuple[str, ...],
    parent: int,
    environment: Mapping[str, str],
    output: Path,
    binds: tuple[Bind, ...],
    writer: int,
) -> None:
    os.write(writer, str(Path("/proc/self").readlink()).encode())
    os.setsid()
    set_parent_death_signal(signal.SIGKILL)
    if os.getppid() != parent:  # it died before the line above
        os._exit(127)
    log = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
    nothing = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    if binds:
        lay_over(binds)
    os.dup2(nothing, 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    # Whoever started us may ignore some, as nohup(1) does, and a shell's trap takes none that was ignored before it.
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    os.chdir("/")
    os.umask(0o022)
    os.execve(argv[0], argv, dict(environment))


def make_places(binds: tuple[Bind, ...]) -> None:
    """Whatever a bind needs to be there: sources under /run, where nothing is after a boot, and in our memory, and
    places. Raises OSError.

    A place below an earlier place is made in that one's source.
    """
    for index, (source, place) in enumerate(binds):
        if (place.is_relative_to("/run") or source.is_relative_to(MEMORY)) and not source.exists():
            source.mkdir(parents=True)
        above = next(((under, over) for under, over in binds[:index] if place.is_relative_to(over)), None)
        real = place if above is None else above[0] / place.relative_to(above[1])
        if not real.exists():
            real.parent.mkdir(parents=True, exist_ok=True)
            real.mkdir() if source.is_dir() else real.touch()


def lay_over(binds: tuple[Bind, ...]) -> None:
    """A mount namespace of this process's own, with each source over its place. Raises OSError."""
    make_places(binds)
    unshare(CLONE_NEWNS)
    # What the host unmounts later must vanish here too, but nothing of ours there.
    mount(None, "/", MS_REC | MS_SLAVE)
    for source, place in binds:
        mount(str(source), str(place), MS_BIND)
