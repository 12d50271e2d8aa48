"""TAP devices that exist already: attach, read and write frames. <linux/if_tun.h>."""

import errno
import fcntl
import io
import os
import socket
import struct
from pathlib import Path
from typing import Final

from dmvpn.errors import Fault

CLONE_DEVICE: Final = Path("/dev/net/tun")
_TUNSETIFF: Final = 0x400454CA
_TUNGETIFF: Final = 0x800454D2
_SIOCGIFHWADDR: Final = 0x8927
_IFF_TAP: Final = 0x0002
_IFF_NO_PI: Final = 0x1000
_IFF_PERSIST: Final = 0x0800
_IFREQ: Final = struct.Struct("16sH22x")


class Tap:
    """One end of a persistent TAP, non-blocking, one Ethernet frame for each read and write.

    `frames` reads and writes like any unbuffered file; both give None where a blocking one would wait.
    """

    def __init__(self, device: str, frames: io.FileIO) -> None:
        self.device = device
        self.frames = frames

    def fileno(self) -> int:
        return self.frames.fileno()

    def mac(self) -> bytes:
        """The device's own MAC now. Raises OSError if it is gone."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as query:
            answer = fcntl.ioctl(query, _SIOCGIFHWADDR, _IFREQ.pack(self.device.encode(), 0))
        return answer[18:24]

    def close(self) -> None:
        """Let go of the device; being persistent it stays, without carrier until somebody attaches again."""
        self.frames.close()


def attach(device: str) -> Tap:
    """Attach to a persistent TAP. Raises Fault if it is missing, not persistent, of another kind or taken."""
    where = f"device {device}"
    try:
        socket.if_nametoindex(device)
    except OSError as error:
        # TUNSETIFF would create it, without the address and MTU that the plan gives it.
        raise Fault(where, "does not exist", "run `dmvpn apply`, which creates it") from error
    try:
        descriptor = os.open(CLONE_DEVICE, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        fix = "load the module tun, or give the container /dev/net/tun"
        raise Fault(str(CLONE_DEVICE), error.strerror or str(error), fix) from error
    try:
        fcntl.ioctl(descriptor, _TUNSETIFF, _IFREQ.pack(device.encode(), _IFF_TAP | _IFF_NO_PI))
        answer = fcntl.ioctl(descriptor, _TUNGETIFF, _IFREQ.pack(device.encode(), 0))
        if not _IFREQ.unpack(answer)[1] & _IFF_PERSIST:
            raise Fault(where, "is not persistent, so its addresses would go with this process", "run `dmvpn apply`")
    except OSError as error:
        os.close(descriptor)
        raise Fault(where, *_refusal(error)) from error
    except Fault:
        os.close(descriptor)
        raise
    return Tap(device, io.FileIO(descriptor, "r+b"))


def _refusal(error: OSError) -> tuple[str, str]:
    match error.errno:
        case errno.EBUSY:
            return "another process is attached to it", "stop the other dmvpn-gre first"
        case errno.EINVAL:
            return "is not a TAP of one queue", "remove it and run `dmvpn apply`"
        case errno.EPERM:
            return "may not be attached to", "run as root, or with CAP_NET_ADMIN"
        case _:
            return error.strerror or str(error), ""
