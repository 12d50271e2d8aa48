"""Python's own files for the guest as disks: opening thousands of small files one by one over 9p is slow there."""

import os
import shutil
import sysconfig
from pathlib import Path
from typing import Final

from dmvpn.errors import Fault
from dmvpn.linux import process

_MAKER: Final = "mke2fs"
_LIMIT_S: Final = 120.0
_SPARE_SHARE: Final = 1.3  # inodes and block ends; the file is sparse
_SPARE_OCTETS: Final = 64 << 20


def directories() -> tuple[Path, ...]:
    """What every Python process of ours reads from: the environment's packages and the standard library."""
    return tuple(Path(sysconfig.get_path(name)) for name in ("purelib", "stdlib"))


def disks(private: Path) -> tuple[tuple[Path, Path], ...]:
    """Each directory with the file that holds it as an ext4 file system, made anew when the directory changed.

    Empty where mke2fs(8) is missing: the guest then reads them as it reads all other files. Raises Fault.
    """
    if shutil.which(_MAKER, path=os.pathsep.join(process.SEARCH_PATH)) is None:
        return ()
    return tuple((directory, _disk(private, directory)) for directory in directories())


def _disk(private: Path, directory: Path) -> Path:
    # pip and dpkg make and remove entries of the directory itself, whatever they change.
    changed_ns = directory.stat().st_mtime_ns
    stem = f"library-{directory.parent.name}-{directory.name}"
    disk = private / f"{stem}-{changed_ns}.ext4"
    if disk.exists():
        return disk
    making = private / f".{stem}.{os.getpid()}"
    try:
        size = int(_octets(directory) * _SPARE_SHARE) + _SPARE_OCTETS
        with making.open("wb") as file:
            file.truncate(size)
        argv = (_MAKER, "-q", "-t", "ext4", "-O", "^has_journal", "-m", "0", "-d", str(directory), str(making))
        process.run(argv, timeout_s=_LIMIT_S, package="e2fsprogs")
        for older in private.glob(f"{stem}-*.ext4"):
            older.unlink()
        making.replace(disk)
    except OSError as error:
        raise Fault(str(disk), f"cannot be made: {error.strerror}") from error
    finally:
        making.unlink(missing_ok=True)
    return disk


def _octets(directory: Path) -> int:
    """What the files take on a disk of 4 KiB blocks."""
    result = process.run(("du", "-s", "-B4096", str(directory)), timeout_s=_LIMIT_S, package="coreutils")
    return int(result.text.split()[0]) * 4096
