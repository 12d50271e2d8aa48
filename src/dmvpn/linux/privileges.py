"""Give up what a process will not need: capabilities(7), capset(2), prctl(2). An exec cannot widen what is left."""

import ctypes
import grp
import os
from collections.abc import Iterable
from contextlib import suppress
from enum import IntEnum
from pathlib import Path

from dmvpn.errors import Fault

_PR_CAPBSET_DROP = 24
_PR_SET_NO_NEW_PRIVS = 38
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_CLEAR_ALL = 4
_CAPABILITY_VERSION_3 = 0x20080522


class Capability(IntEnum):
    """Numbers of <linux/capability.h>; those that a process of ours keeps or asks for."""

    CHOWN = 0
    NET_BIND_SERVICE = 10
    NET_ADMIN = 12
    NET_RAW = 13
    SETFCAP = 31


INDISPENSABLE = (Capability.NET_ADMIN, Capability.NET_RAW)  # without these there is no router


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Set(ctypes.Structure):
    _fields_ = (("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32))


_libc = ctypes.CDLL(None, use_errno=True)


def effective() -> frozenset[Capability]:
    """Those capabilities of `Capability` that this process has now."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    mask = int(next(line.split()[1] for line in status.splitlines() if line.startswith("CapEff:")), 16)
    return frozenset(capability for capability in Capability if mask >> capability & 1)


def join_groups(names: Iterable[str]) -> None:
    """Become a member of those groups that there are, for files that are neither root's nor everybody's.

    Raises Fault if the kernel refuses; without CAP_SETGID we stay in those we have.
    """
    wanted = set(os.getgroups())
    for name in names:
        with suppress(KeyError):
            wanted.add(grp.getgrnam(name).gr_gid)
    try:
        os.setgroups(sorted(wanted))
    except PermissionError:
        return
    except OSError as error:
        raise Fault("setgroups", error.strerror or str(error)) from error


def keep_only(kept: Iterable[Capability]) -> None:
    """Drop every capability but these from all sets of this process, for good, and set no_new_privs.

    Raises Fault if the kernel refuses.
    """
    mask = sum(1 << capability for capability in kept)
    last = int(Path("/proc/sys/kernel/cap_last_cap").read_text(encoding="ascii"))
    for number in range(last + 1):
        if not mask >> number & 1:
            # EPERM without CAP_SETPCAP: then the bounding set stays, and no_new_privs below is what holds.
            _libc.prctl(_PR_CAPBSET_DROP, number, 0, 0, 0)
    _libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    sets = (_Set * 2)()
    sets[0].effective = sets[0].permitted = mask & 0xFFFFFFFF
    sets[1].effective = sets[1].permitted = mask >> 32
    header = _Header(version=_CAPABILITY_VERSION_3, pid=0)
    if _libc.capset(ctypes.byref(header), ctypes.byref(sets)) != 0:
        raise Fault("capset", os.strerror(ctypes.get_errno()), "run as root")
    if _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        raise Fault("prctl no_new_privs", os.strerror(ctypes.get_errno()))
