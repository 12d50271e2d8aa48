"""One cloud of this router: its TAP, what its senders may do, whom it floods to, and its counters."""

import logging
from collections.abc import Callable
from ipaddress import IPv4Address

from dmvpn.errors import Fault
from dmvpn.linux import tap
from dmvpn.plane.counters import Carried, Counters, Drop
from dmvpn.plane.headers import NHRP
from dmvpn.plane.permits import Permits, Prefix
from dmvpn.plane.settings import TunnelSettings

logger = logging.getLogger(__name__)


class Tunnel:
    """`changed` is called whenever something that both directions remember may no longer be true."""

    def __init__(self, settings: TunnelSettings, attached: tap.Tap, changed: Callable[[], None]) -> None:
        self.settings = settings
        self.tap: tap.Tap | None = attached
        self.mac = bytes(6)
        self.gone = False  # somebody removed the TAP under us; whoever watches it lets go of it
        self.permits = Permits()
        self.counters = Counters()
        self.flood: tuple[bytes, ...] = ()
        self._changed = changed
        self.look()

    def allow(self, nbma: IPv4Address, prefixes: tuple[Prefix, ...]) -> None:
        self.permits.allow(nbma, prefixes)
        self._changed()

    def forget(self, nbma: IPv4Address) -> None:
        self.permits.forget(nbma)
        self._changed()

    def flood_to(self, nbmas: tuple[IPv4Address, ...]) -> None:
        self.flood = tuple(dict.fromkeys(nbma.packed for nbma in nbmas))
        self._changed()

    def carried(self, nbma: bytes, protocol: int) -> Carried:
        """Counters of this NBMA address and kind of packet. Room for a new one may cost another that is remembered."""
        if self.counters.is_full() and nbma not in self.counters.peers:
            self._changed()
        peer = self.counters.peer(nbma)
        return peer.nhrp if protocol == NHRP else peer.data

    def drop(self, reason: Drop, packets: int = 1) -> None:
        self.counters.drops[reason] += packets

    def detach(self) -> None:
        if self.tap is not None:
            self.tap.close()
            self.tap = None

    def look(self) -> None:
        """Take note of the TAP's own MAC: whoever made the device may have set it after we attached."""
        if self.tap is None:
            return
        try:
            mac = self.tap.mac()
        except OSError:  # it is going; reading it says so
            return
        if mac != self.mac:
            self.mac = mac
            self._changed()

    def attach_again(self) -> None:
        """Attach if the device is there now; else stay as it is."""
        try:
            self.tap = tap.attach(self.settings.device)
        except Fault:
            return
        self.gone = False
        self.look()
        logger.info("device %s is back", self.settings.device)

    def read_frame(self, room: memoryview) -> int | None:
        """Length of the next frame, now in `room`; None if none waits or the device has gone."""
        if self.tap is None:
            return None
        try:
            return self.tap.frames.readinto(room)
        except OSError as error:
            logger.warning("device %s is gone (%s); waiting for it", self.settings.device, error.strerror)
            self.gone = True
            return None

    def write_frame(self, frame: memoryview) -> bool:
        """Hand a frame to the kernel; False, and counted, if the device is down or gone."""
        if self.tap is not None:
            try:
                if self.tap.frames.write(frame) is not None:
                    return True
            except OSError:
                pass
        self.drop(Drop.DEVICE)
        return False
