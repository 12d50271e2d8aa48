"""A larger receive buffer for UDP sockets of another process. pidfd_open(2), pidfd_getfd(2), socket(7).

charon has no setting for it, and the kernel's default holds about ninety packets: a sender in full flight loses one
packet in fourteen there (measured, docs/bench.md). Raising net.core.rmem_default would change every socket of the host.
"""

import ctypes
import errno
import os
import socket
import stat
from typing import Final

from dmvpn.errors import Fault

ESP_BUFFER_OCTETS: Final = 4 << 20

# Tried one by one: /proc may be that of another PID namespace than the one the number counts in. charon opens sockets
# when it starts, so they are among the first.
DESCRIPTORS: Final = 256

_SYS_PIDFD_GETFD: Final = 438  # the same number on every architecture, as all calls since Linux 5.0
_SO_RCVBUFFORCE: Final = 33

_libc = ctypes.CDLL(None, use_errno=True)


def enlarge_udp(pid: int, octets: int = ESP_BUFFER_OCTETS) -> int:
    """Give every UDP socket of process `pid` at least this receive buffer; returns how many sockets have it now.

    Raises Fault without CAP_SYS_PTRACE or CAP_NET_ADMIN, before Linux 5.6, or if the process has gone.
    """
    where = f"UDP sockets of process {pid}"
    try:
        process = os.pidfd_open(pid)
    except OSError as error:
        raise Fault(where, error.strerror or str(error)) from error
    try:
        return sum(_enlarge(process, number, octets) for number in range(DESCRIPTORS))
    except OSError as error:
        raise Fault(where, error.strerror or str(error), "run as root, on Linux 5.6 or newer") from error
    finally:
        os.close(process)


def _enlarge(process: int, number: int, octets: int) -> bool:
    descriptor = _libc.syscall(_SYS_PIDFD_GETFD, process, number, 0)
    if descriptor < 0:
        error = ctypes.get_errno()
        if error == errno.EBADF:  # no descriptor of that number
            return False
        raise OSError(error, os.strerror(error))
    if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        return False
    with socket.socket(fileno=descriptor) as theirs:
        if theirs.family not in (socket.AF_INET, socket.AF_INET6) or theirs.type != socket.SOCK_DGRAM:
            return False
        # The kernel doubles what is set, and tells the double. socket(7)
        if theirs.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) < 2 * octets:
            theirs.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, octets)
        return True
