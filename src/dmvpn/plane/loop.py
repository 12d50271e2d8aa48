"""The event loop of `dmvpn-gre`: one epoll over TAPs, raw socket, link changes, control socket and signals."""

import logging
import signal
import socket
import time
from typing import Final

from dmvpn.linux import tap
from dmvpn.plane.commands import Commands
from dmvpn.plane.control import ControlServer
from dmvpn.plane.inbound import Inbound
from dmvpn.plane.outbound import Outbound
from dmvpn.plane.settings import Settings
from dmvpn.plane.tunnel import Tunnel
from dmvpn.plane.underlay import LinkWatch, Underlay
from dmvpn.plane.watch import Watch

logger = logging.getLogger(__name__)

# An address that is being added while we look, or a device renamed: announcements tell, this is the net below them.
_LOOK_AGAIN_S: Final = 5.0


class Loop:
    """Everything that runs. Raises Fault if a device, a capability or the control socket is not to be had."""

    def __init__(self, settings: Settings) -> None:
        self._watch = Watch()
        self._underlay = Underlay(settings.bind_device, settings.local)
        self._outbound: tuple[Outbound, ...] = ()
        self._inbound = Inbound()
        self._tunnels = tuple(Tunnel(one, tap.attach(one.device), self._forget) for one in settings.tunnels)
        self._outbound = tuple(Outbound(tunnel, self._underlay) for tunnel in self._tunnels)
        self._inbound.serve(self._tunnels)
        self._links = LinkWatch()
        self._stopping = False
        self._control = ControlServer(
            settings.control, self._watch, Commands(self._underlay, self._tunnels, self._inbound)
        )
        self._watch.add(self._links.fileno(), self._links_changed)
        for outbound in self._outbound:
            self._watch_tap(outbound)
        self._underlay.reopen()
        self._watch_underlay()

    def _forget(self) -> None:
        """What the directions remember may no longer be true."""
        self._inbound.forget_paths()
        for outbound in self._outbound:
            outbound.forget_hops()

    def run(self) -> None:
        """Carry packets until SIGTERM or SIGINT."""
        waker, wakened = socket.socketpair()
        for end in (waker, wakened):
            end.settimeout(0)
        signal.set_wakeup_fd(waker.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        self._watch.add(wakened.fileno(), lambda _events: None)
        look_at = 0.0
        while not self._stopping:
            self._watch.wait(_LOOK_AGAIN_S)
            now = time.monotonic()
            if now >= look_at:
                look_at = now + _LOOK_AGAIN_S
                self._look()
        signal.set_wakeup_fd(-1)
        waker.close()
        wakened.close()

    def _stop(self, _number: int, _frame: object) -> None:
        self._stopping = True

    def close(self) -> None:
        self._control.close()
        self._underlay.close()
        self._links.close()
        for tunnel in self._tunnels:
            tunnel.detach()
        self._watch.close()

    def _links_changed(self, _events: int) -> None:
        self._links.drain()
        self._look()

    def _look(self) -> None:
        """Bring the socket and the TAPs into line with what exists now."""
        if not self._underlay.is_current():
            if self._underlay.socket is not None:
                self._watch.remove(self._underlay.socket.fileno())
            self._underlay.reopen()
            self._watch_underlay()
        for outbound in self._outbound:
            outbound.tunnel.look()
            if outbound.tunnel.tap is None:
                outbound.tunnel.attach_again()
                self._watch_tap(outbound)

    def _watch_underlay(self) -> None:
        if self._underlay.socket is not None:
            self._watch.add(self._underlay.socket.fileno(), self._from_underlay)

    def _from_underlay(self, _events: int) -> None:
        if self._underlay.socket is None:
            return
        try:
            self._inbound.carry(self._underlay.socket.fileno(), time.monotonic())
        except OSError as error:
            # The device went down or away; what becomes of it is announced on its own.
            logger.warning("receiving GRE: %s", error.strerror)

    def _watch_tap(self, outbound: Outbound) -> None:
        tunnel = outbound.tunnel
        if tunnel.tap is None:
            return
        descriptor = tunnel.tap.fileno()

        def from_tap(_events: int) -> None:
            outbound.carry(time.monotonic())
            if tunnel.gone:
                self._watch.remove(descriptor)
                tunnel.detach()

        self._watch.add(descriptor, from_tap)
