"""Words for everybody who works on this router: a line on each terminal, as wall(1) does. proc(5), pts(4).

Only terminals of processes in our own network namespace count: a lab's router must not speak to the host's users.
"""

import os
import syslog
from contextlib import suppress
from pathlib import Path

from dmvpn.linux import process_list

_PTS_MAJORS = range(136, 144)  # devices.txt: Unix98 PTY slaves
WORDS_LIMIT = 2000


def tell_all(words: str) -> int:
    """Write `words` to every terminal that somebody has open here. Returns how many took them; never raises."""
    octets = f"\r\n\a*** {words} ***\r\n".encode()[:WORDS_LIMIT]
    return sum(_write(path, octets) for path in sorted(_terminals()))


def log(words: str) -> None:
    """To the system's log, as an alert."""
    syslog.openlog("dmvpn", syslog.LOG_PID, syslog.LOG_DAEMON)
    syslog.syslog(syslog.LOG_ALERT, words)


def _terminals() -> set[Path]:
    found = set()
    for entry in process_list.beside_us():
        with suppress(OSError, ValueError, IndexError):
            number = int((entry / "stat").read_text().rpartition(")")[2].split()[4])
            if os.major(number) in _PTS_MAJORS:
                found.add(Path(f"/dev/pts/{(os.major(number) - _PTS_MAJORS[0]) * 256 + os.minor(number)}"))
            elif os.major(number) == 4:
                found.add(Path(f"/dev/tty{os.minor(number)}"))
    return found


def _write(path: Path, octets: bytes) -> bool:
    # A terminal that was stopped must not stop us.
    with suppress(OSError):
        descriptor = os.open(path, os.O_WRONLY | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            os.write(descriptor, octets)
            return True
        finally:
            os.close(descriptor)
    return False
