"""Who has a file open, and ending a process that holds one for too long. proc(5), pidfd_send_signal(2)."""

import os
import signal
from contextlib import suppress
from pathlib import Path


def end_holder(pid: int, path: Path) -> bool:
    """kill -9 the process if it has `path` open: its number may be another one's by now. True if it was told."""
    with suppress(OSError):
        descriptor = os.pidfd_open(pid)
        try:
            if any(_is(entry, path) for entry in Path(f"/proc/{pid}/fd").iterdir()):
                signal.pidfd_send_signal(descriptor, signal.SIGKILL)
                return True
        finally:
            os.close(descriptor)
    return False


def _is(entry: Path, path: Path) -> bool:
    with suppress(OSError):
        return entry.samefile(path)
    return False
