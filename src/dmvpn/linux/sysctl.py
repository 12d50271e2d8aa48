"""Kernel settings below /proc/sys by their names of sysctl(8)."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dmvpn.errors import Fault

_ALL_RP_FILTER = "net.ipv4.conf.all.rp_filter"
_STRICT, _LOOSE = "1", "2"


def sysctl_path(name: str) -> Path:
    """sysctl(8): dots separate; a slash stands for a dot within a device's name."""
    return Path("/proc/sys") / name.translate(str.maketrans("./", "/."))


def sysctl_value(name: str) -> str | None:
    """The value now, white space made even; None when there is no such setting (yet)."""
    try:
        return " ".join(sysctl_path(name).read_text().split())
    except OSError:
        return None


def sysctl_holds(name: str, value: str) -> bool:
    """Whether the setting is as it is wanted to be.

    The kernel takes the greater of `all` and the device's rp_filter (ip-sysctl): 2, loose, in `all` is wanted against
    devices that are strict. Where none is, nor `default` for those that come, it would only have each packet's source
    looked up, which costs the kernel plane a fiftieth (docs/bench.md). Of a device that somebody makes strict later
    doctor tells.
    """
    if name != _ALL_RP_FILTER or value != _LOOSE:
        return sysctl_value(name) == value
    devices = sorted(sysctl_path(name).parent.parent.iterdir())
    settings = {sysctl_value(f"net.ipv4.conf.{one.name.replace('.', '/')}.rp_filter") for one in devices}
    return sysctl_value(name) == value or _STRICT not in settings


@contextmanager
def sysctl_faults(name: str, value: str) -> Iterator[None]:
    """A refusal as a Fault that says how to set it from outside."""
    try:
        yield
    except OSError as error:
        fix = (
            f"set {name}={value} where this container is started" if error.errno in (errno.EROFS, errno.EACCES) else ""
        )
        raise Fault(f"sysctl {name}", f"cannot be set to {value}: {(error.strerror or '').lower()}", fix) from error
