"""Namespaces, mounts and the process attributes a lab rests on. unshare(2), setns(2), mount(2), prctl(2), capset(2).

Python 3.11 has no os.unshare and os.setns (3.12 has), hence ctypes. Every call raises a Fault with the errno's text.
"""

import ctypes
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dmvpn.errors import Fault

CLONE_NEWNS: Final = 0x00020000
CLONE_NEWUTS: Final = 0x04000000
CLONE_NEWIPC: Final = 0x08000000
CLONE_NEWUSER: Final = 0x10000000
CLONE_NEWPID: Final = 0x20000000
CLONE_NEWNET: Final = 0x40000000

MS_NOSUID: Final = 2
MS_NODEV: Final = 4
MS_NOEXEC: Final = 8
MS_BIND: Final = 4096
MS_REC: Final = 16384
MS_PRIVATE: Final = 1 << 18

PR_SET_PDEATHSIG: Final = 1
PR_CAPBSET_DROP: Final = 24
CAP_SYS_TIME: Final = 25
LINUX_CAPABILITY_VERSION_3: Final = 0x20080522

LAB_VARIABLE: Final = "DMVPN_LAB"  # in the environment of every process of a lab: the lab's name

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mount.argtypes = (ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p)
_libc.prctl.argtypes = (ctypes.c_int, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong)


@dataclass(frozen=True, slots=True)
class Handles:
    """Paths that setns(2) can open: the namespaces of one node, as the caller's /proc shows them."""

    net: Path
    mnt: Path
    pid: Path
    uts: Path


def unshare(flags: int) -> None:
    """Leaves the namespaces named by `flags`. A new PID namespace holds the next children, not the caller."""
    _checked("unshare", _libc.unshare(flags))


def own_mounts() -> None:
    """A mount namespace for this process; without CAP_SYS_ADMIN a user namespace around it. Raises Fault."""
    _leave(CLONE_NEWNS)


def own_network() -> None:
    """An empty network namespace, likewise."""
    _leave(CLONE_NEWNET)


def _leave(flags: int) -> None:
    user, group = os.geteuid(), os.getegid()
    try:
        unshare(flags)
        return
    except Fault:
        unshare(CLONE_NEWUSER | flags)
    try:
        # user_namespaces(7): whoever made the namespace may map itself; a group, once nobody there can drop groups.
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
        Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
    except OSError as error:
        raise Fault("user namespace", error.strerror or str(error)) from error


def join(handle: Path) -> None:
    """Joins the namespace behind `handle`, of whatever kind it is."""
    try:
        descriptor = os.open(handle, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as refusal:
        raise Fault(str(handle), refusal.strerror or "cannot be opened", "see whether the lab is still up") from None
    try:
        _checked("setns", _libc.setns(descriptor, 0))
    finally:
        os.close(descriptor)


def enter(handles: Handles) -> None:
    """Joins all namespaces of a node; call it in a forked child, and fork once more: only children join the PID one.

    The mount namespace comes second, since a namespace's own path is looked up in the mounts the caller sees.
    """
    opened = [
        os.open(path, os.O_RDONLY | os.O_CLOEXEC) for path in (handles.net, handles.mnt, handles.pid, handles.uts)
    ]
    here = Path.cwd()
    for descriptor in opened:
        _checked("setns", _libc.setns(descriptor, 0))
        os.close(descriptor)
    # Joining a mount namespace moves the caller to its root; a relative argument must still mean what the caller typed.
    with suppress(OSError):
        os.chdir(here)


def mount(source: str, target: Path, kind: str = "", *, flags: int = 0, options: str = "") -> None:
    """mount(2). `kind` empty is NULL, for bind mounts and changes of propagation."""
    done = _libc.mount(
        source.encode(), os.fsencode(target), kind.encode() or None, flags, options.encode() if options else None
    )
    _checked(f"mount {kind or source} on {target}", done)


def die_with_parent(signal_number: int) -> None:
    """The kernel sends this process `signal_number` when the thread that forked it ends; 0 takes that back."""
    _checked("prctl", _libc.prctl(PR_SET_PDEATHSIG, signal_number, 0, 0, 0))


def give_up_clock() -> None:
    """Takes CAP_SYS_TIME from this process and from all it starts: namespaces do not isolate the wall clock."""
    _checked("prctl", _libc.prctl(PR_CAPBSET_DROP, CAP_SYS_TIME, 0, 0, 0))
    header = (ctypes.c_uint32 * 2)(LINUX_CAPABILITY_VERSION_3, 0)
    sets = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable for capabilities 0..31, then 32..63
    _checked("capget", _libc.capget(header, sets))
    for index in range(3):
        sets[index] &= ~(1 << CAP_SYS_TIME)
    _checked("capset", _libc.capset(header, sets))


def set_hostname(name: str) -> None:
    octets = name.encode()
    _checked("sethostname", _libc.sethostname(octets, len(octets)))


def has_filesystem(kind: str) -> bool:
    """Whether /proc/filesystems lists it now; a module that would load on demand does not count."""
    return any(line.split()[-1] == kind for line in Path("/proc/filesystems").read_text().splitlines() if line.strip())


def _checked(what: str, result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        fix = "run it as root, or in a container with CAP_SYS_ADMIN" if number == 1 else ""
        raise Fault(what, os.strerror(number), fix)
