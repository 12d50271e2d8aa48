"""Processes by their directories in /proc. proc(5)"""

from collections.abc import Iterator
from pathlib import Path

PROC = Path("/proc")


def every() -> Iterator[Path]:
    """Of all processes that can be seen here."""
    return (path for path in PROC.iterdir() if path.name.isdigit())


def beside_us() -> Iterator[Path]:
    """Of those in our network namespace, as far as we may know: others' namespaces are root's to see."""
    own = _network_of(PROC / "self")
    return (path for path in every() if _network_of(path) == own)


def _network_of(process: Path) -> str:
    try:
        return str((process / "ns/net").readlink())
    except OSError:
        return ""
