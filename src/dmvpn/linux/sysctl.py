"""Kernel settings below /proc/sys by their names of sysctl(8)."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dmvpn.errors import Fault


def sysctl_path(name: str) -> Path:
    """sysctl(8): dots separate; a slash stands for a dot within a device's name."""
    return Path("/proc/sys") / name.translate(str.maketrans("./", "/."))


def sysctl_value(name: str) -> str | None:
    """The value now, white space made even; None when there is no such setting (yet)."""
    try:
        return " ".join(sysctl_path(name).read_text().split())
    except OSError:
        return None


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
