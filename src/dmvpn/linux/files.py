"""Files that are whole or not there, secrets that nobody else can read at any moment, links that change in one step."""

import errno
import fcntl
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from dmvpn.errors import Fault

SECRET_MODE = 0o600
READ_LIMIT_OCTETS = 16 * 1024 * 1024


@contextmanager
def faults(path: Path) -> Iterator[None]:
    """The kernel's refusals as Faults that name the file."""
    try:
        yield
    except OSError as error:
        fix = "free some space" if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
        raise Fault(str(path), (error.strerror or str(error)).lower(), fix) from error


def write(path: Path, content: bytes | str, *, mode: int = 0o644) -> None:
    """Replace `path` in one step: after a crash it has the old content or the new, also on disk. Raises Fault."""
    octets = content.encode() if isinstance(content, str) else content
    with faults(path):
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        try:
            _create(temporary, octets, mode)
            temporary.rename(path)
        except BaseException:
            with suppress(FileNotFoundError):
                temporary.unlink()
            raise
        sync_directory(path.parent)


def write_secret(path: Path, content: bytes | str) -> None:
    """As write(), readable by its owner only from the first octet on. Raises Fault."""
    write(path, content, mode=SECRET_MODE)


def create(path: Path, content: bytes | str, *, mode: int = 0o644) -> None:
    """Write a file that must not exist yet, to the disk; its directory is the caller's to sync. Raises Fault."""
    with faults(path):
        _create(path, content.encode() if isinstance(content, str) else content, mode)


def _create(path: Path, octets: bytes, mode: int) -> None:
    # Mode at creation and O_EXCL: no moment with wider rights, and no link that somebody laid there is followed.
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode & SECRET_MODE)
    with os.fdopen(descriptor, "wb") as file:
        file.write(octets)
        file.flush()
        os.fchmod(descriptor, mode)  # the umask must not decide who reads a daemon's configuration
        os.fsync(descriptor)


def replace_symlink(link: Path, target: Path) -> None:
    """Point `link` at `target` in one step: whoever opens it finds the old target or the new. Raises Fault."""
    with faults(link):
        temporary = link.with_name(f".{link.name}.{secrets.token_hex(4)}")
        temporary.symlink_to(target)
        try:
            temporary.replace(link)
        except BaseException:
            temporary.unlink()
            raise
        sync_directory(link.parent)


def remove(path: Path) -> None:
    """Remove a file or link, to the disk; one that is not there is no fault."""
    with faults(path):
        try:
            path.unlink()
        except FileNotFoundError:
            return
        sync_directory(path.parent)


def rename(source: Path, target: Path) -> None:
    """Rename within one directory, to the disk. Raises Fault."""
    with faults(target):
        source.rename(target)
        sync_directory(target.parent)


def make_directory(path: Path, *, mode: int = 0o755) -> None:
    """Make a directory and those above it, whatever the umask says; existing ones keep their mode. Raises Fault."""
    if not path.parent.is_dir():
        make_directory(path.parent)
    with faults(path):
        try:
            path.mkdir(mode=0o700)
        except FileExistsError:
            if not path.is_dir():
                raise
        else:
            path.chmod(mode)


def remove_tree(path: Path) -> None:
    """Remove a directory and all in it; one that is not there is no fault. Half of it never keeps its name."""
    with faults(path):
        doomed = path.with_name(f".gone.{path.name}.{secrets.token_hex(4)}")
        try:
            path.rename(doomed)
        except FileNotFoundError:
            return
        shutil.rmtree(doomed)


@contextmanager
def alone(directory: Path) -> Iterator[None]:
    """One process at a time in there, of those that ask; the others wait. flock(2). Raises Fault if it is none."""
    with faults(directory):
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def sync_directory(path: Path) -> None:
    """A rename is on disk only when its directory is. fsync(2)."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read(path: Path, *, limit_octets: int = READ_LIMIT_OCTETS) -> bytes:
    """The file's octets. Raises Fault if it cannot be read, is no regular file, or is larger than the limit."""
    with faults(path):
        # O_NONBLOCK: opening a FIFO that somebody put there must not wait for a writer.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise Fault(str(path), "is not a regular file")
            octets = file.read(limit_octets + 1)
    if len(octets) > limit_octets:
        raise Fault(str(path), f"is larger than {limit_octets} octets")
    return octets


def read_text(path: Path, *, limit_octets: int = READ_LIMIT_OCTETS) -> str:
    """The file as UTF-8. Raises Fault, also for octets that are not UTF-8."""
    try:
        return read(path, limit_octets=limit_octets).decode()
    except UnicodeDecodeError as error:
        raise Fault(str(path), f"octet {error.start} is not UTF-8") from error


def read_private(path: Path, *, limit_octets: int = READ_LIMIT_OCTETS) -> bytes:
    """A secret's octets. Raises Fault as read() does, and where others can use the file."""
    check_private(path)
    return read(path, limit_octets=limit_octets)


def check_private(path: Path) -> None:
    """Raises Fault unless we or root own the file and nobody else can read or write it."""
    with faults(path):
        facts = path.stat()
    if facts.st_uid not in (os.geteuid(), 0):
        raise Fault(str(path), f"belongs to uid {facts.st_uid}", f"chown {os.geteuid()} {path}")
    if facts.st_mode & 0o077:
        raise Fault(str(path), f"others can use it (mode {stat.S_IMODE(facts.st_mode):04o})", f"chmod 600 {path}")
