"""The raw GRE socket, which exists only while charon's device does. raw(7), SO_BINDTODEVICE in socket(7), rtnetlink(7).

Fail closed: the socket is bound to the device before it is handed out, so without the device there is no socket, and
what it sends can leave by no other. When charon restarts, the device has another index and the old socket stays dead.
"""

import errno
import logging
import socket
from contextlib import suppress
from ipaddress import IPv4Address
from typing import Final

from dmvpn.errors import Fault

_GRE: Final = 47
_BUFFER_OCTETS: Final = 8 << 20
_SO_SNDBUFFORCE: Final = 32
_SO_RCVBUFFORCE: Final = 33
_RTMGRP_LINK: Final = 0x1
_RTMGRP_IPV4_IFADDR: Final = 0x10
_STRAYS_LIMIT: Final = 4096

logger = logging.getLogger(__name__)


class Underlay:
    """Where GRE packets go. `socket` is None while it waits for the device or for the local address."""

    def __init__(self, device: str, local: IPv4Address) -> None:
        self._device = device
        self._local = local
        self._index = 0
        self._reason = ""
        self.socket: socket.socket | None = None

    def is_current(self) -> bool:
        """Is the socket what it should be: bound to the device that exists now, or absent without one?"""
        index = _index_of(self._device)
        return index == self._index if self.socket is not None else index == 0

    def reopen(self) -> None:
        """Close the socket and open it anew if that is possible now. Raises Fault without CAP_NET_RAW."""
        index = _index_of(self._device)
        self.close()
        if index == 0:
            self._wait_for(f"waiting for device {self._device}")
            return
        try:
            self.socket = _bound_socket(self._device, self._local)
        except PermissionError as error:
            raise Fault("raw socket", error.strerror or str(error), "run as root, or with CAP_NET_RAW") from error
        except OSError as error:
            self._wait_for(f"waiting for {self._local} on {self._device}: {error.strerror}")
            return
        self._index = index
        self._reason = ""
        logger.info("bound to %s (index %d), source %s", self._device, index, self._local)

    def _wait_for(self, reason: str) -> None:
        if reason != self._reason:
            self._reason = reason
            logger.warning("%s; nothing is sent until then", reason)

    def close(self) -> None:
        if self.socket is not None:
            self.socket.close()
            self.socket = None


def _index_of(device: str) -> int:
    try:
        return socket.if_nametoindex(device)
    except OSError:
        return 0


def _bound_socket(device: str, local: IPv4Address) -> socket.socket:
    opened = socket.socket(socket.AF_INET, socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, _GRE)
    try:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode())
        opened.bind((str(local), 0))
        _discard_strays(opened)
        for forced, plain in ((_SO_RCVBUFFORCE, socket.SO_RCVBUF), (_SO_SNDBUFFORCE, socket.SO_SNDBUF)):
            try:
                opened.setsockopt(socket.SOL_SOCKET, forced, _BUFFER_OCTETS)
            except PermissionError:
                opened.setsockopt(socket.SOL_SOCKET, plain, _BUFFER_OCTETS)
    except OSError:
        opened.close()
        raise
    return opened


def _discard_strays(opened: socket.socket) -> None:
    """Throw away what came in before the socket was bound: it may have come in clear by any device."""
    with suppress(BlockingIOError):
        for _ in range(_STRAYS_LIMIT):
            opened.recv(1)


class LinkWatch:
    """Readable whenever a device or an address of this namespace changes."""

    def __init__(self) -> None:
        self._socket = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE
        )
        self._socket.bind((0, _RTMGRP_LINK | _RTMGRP_IPV4_IFADDR))

    def fileno(self) -> int:
        return self._socket.fileno()

    def drain(self) -> None:
        """Forget what was announced: whoever watches looks at the kernel itself, so lost announcements do no harm."""
        while True:
            try:
                self._socket.recv(65536)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise

    def close(self) -> None:
        self._socket.close()
