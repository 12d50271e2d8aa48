"""Many spokes in one process: registrations as octets, and the replies counted.

    gen eth0 198.18.0.2 --- 198.18.0.1 eth0 hub: a real mGRE device, and an NHRP hub on it
    gen ------------------------------- TAP hub: our hub alone, where the kernel has no GRE

Every spoke has an NBMA address of its own, behind `gen`. The frames are made beforehand, so that sending one is one
system call: what is measured is the hub. Only so many are unanswered at a time, and what was lost is sent again.
"""

import os
import select
import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, ip_network
from pathlib import Path
from random import Random
from typing import Final, Protocol

from bench.namespaces import Node
from dmvpn.errors import Fault
from dmvpn.linux import namespaces
from dmvpn.linux.pace import patience
from dmvpn.nhrp.core import Core
from dmvpn.nhrp.events import EngineSettings, HubSetting, Role
from dmvpn.nhrp.ids import Requests
from dmvpn.nhrp.messages import registration_request
from dmvpn.nhrp.numbers import Kind

HUB_NBMA: Final = IPv4Address("198.18.0.1")
GENERATOR: Final = IPv4Address("198.18.0.2")
HUB_OVERLAY: Final = IPv4Address("10.64.0.1")
OVERLAY: Final = ip_network("10.64.0.0/14")
NBMA: Final = ip_network("100.64.0.0/16")
OVERLAY_BEGIN: Final = IPv4Address("10.64.0.0")
NBMA_BEGIN: Final = IPv4Address("100.64.0.0")
KEY: Final = 1
MTU_OCTETS: Final = 1400
HOLDING_S: Final = 600.0
WINDOW: Final = 64  # unanswered registrations
SILENCE_S: Final = 3.0  # nothing came back for so long: what is open is lost
GIVEN_UP: Final = 3  # so often in one round
_ETHERNET, _IPV4, _GRE = 14, 20, 8
_KIND_AT: Final = 17  # of the NHRP fixed header, RFC 2332 5.1
_READ_OCTETS: Final = 2048


class Port(Protocol):
    """Where frames go in and out. `nhrp_at` and `nbma_at` are octets of a frame: NHRP, and the spoke it is for."""

    nhrp_at: int
    nbma_at: int

    def open(self) -> int:
        """A descriptor of whole frames that does not block; in the generator's own process."""

    def frame(self, nbma: bytes, packet: bytes) -> bytes:
        """Of a spoke's registration, which is IPv4 and GRE around NHRP."""


class Veth:
    """GRE on a wire to the hub."""

    nhrp_at = _ETHERNET + _IPV4 + _GRE
    nbma_at = _ETHERNET + 16

    def __init__(self, node: Node, hub_mac: bytes) -> None:
        self._node = node
        self._hub_mac = hub_mac
        self._own_mac = b""

    def open(self) -> int:
        namespaces.join(Path("/run/netns") / self._node.namespace)
        port = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 0)
        port.setsockopt(socket.SOL_SOCKET, 33, 1 << 23)  # SO_RCVBUFFORCE
        port.bind(("eth0", 0x0800))
        self._own_mac = port.getsockname()[4]
        return port.detach()

    def frame(self, nbma: bytes, packet: bytes) -> bytes:
        return self._hub_mac + self._own_mac + b"\x08\x00" + packet


class Tap:
    """The other end of the hub's TAP, whose MACs spell NBMA addresses."""

    nhrp_at = _ETHERNET
    nbma_at = 2
    hub_mac = b"\x02\x00" + HUB_NBMA.packed

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def open(self) -> int:
        return self._descriptor

    def frame(self, nbma: bytes, packet: bytes) -> bytes:
        return self.hub_mac + b"\x02\x00" + nbma + b"\x20\x01" + packet[_IPV4 + _GRE :]


@dataclass(frozen=True, slots=True)
class Spoke:
    protocol: IPv4Address
    nbma: IPv4Address


@dataclass(frozen=True, slots=True)
class Round:
    """One registration of every spoke, so many times over. `lost` were sent again."""

    answered: int
    seconds: float
    lost: int


def spokes(count: int) -> tuple[Spoke, ...]:
    """Overlay addresses from .0.2 on, NBMA addresses likewise."""
    return tuple(Spoke(OVERLAY_BEGIN + 2 + n, NBMA_BEGIN + 2 + n) for n in range(count))


def registrations(rows: tuple[Spoke, ...], number: int) -> dict[bytes, bytes]:
    """NHRP registration requests with this request id, in IPv4 and GRE, by their source NBMA address."""
    hub = HubSetting("hub", (HUB_OVERLAY,), HUB_NBMA, ours=False)
    plain = EngineSettings(
        role=Role.SPOKE,
        phase=3,
        protocol=(),
        overlay=(OVERLAY,),
        nbma=HUB_NBMA,
        hubs=(hub,),
        serves=(),
        mtu_octets=MTU_OCTETS,
        holding_time_s=HOLDING_S,
        registration_s=200.0,
        authentication=None,
        redirect=False,
        shortcut=True,
    )
    found = {}
    for spoke in rows:
        core = Core(replace(plain, protocol=(spoke.protocol,), nbma=spoke.nbma), Random(1), Requests(number), 0.0)
        request = registration_request(core, spoke.protocol, hub, HUB_OVERLAY, number).encode()
        found[spoke.nbma.packed] = _in_gre(spoke.nbma, request)
    return found


def _in_gre(nbma: IPv4Address, nhrp: bytes) -> bytes:
    gre = struct.pack("!HHI", 0x2000, 0x2001, KEY) + nhrp  # RFC 2784, RFC 2890
    fields = (0x45, 0, _IPV4 + len(gre), 0, 0, 64, socket.IPPROTO_GRE, 0)
    head = struct.pack("!BBHHHBBH", *fields) + nbma.packed + HUB_NBMA.packed
    total = sum(struct.unpack("!10H", head))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return head[:10] + struct.pack("!H", 0xFFFF - total) + head[12:] + gre


class Generator:
    """The spokes' side, in a process of its own for each round."""

    def __init__(self, port: Port) -> None:
        self._port = port

    def round(self, packets: dict[bytes, bytes], times: int = 1) -> Round:
        """Send all, `times` times over, as fast as they are answered. Raises Fault when the hub is silent."""
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(read)
            status = 1
            try:
                found = self._run(packets, times)
                os.write(write, struct.pack("!IdI", found.answered, found.seconds, found.lost))
                status = 0
            except OSError as error:
                os.write(2, f"bench: {error}\n".encode())
            finally:
                os._exit(status)
        os.close(write)
        with os.fdopen(read, "rb") as pipe:
            octets = pipe.read()
        os.waitpid(child, 0)
        if len(octets) != 16:
            raise Fault("bench.spokes", "the generator died")
        answered, seconds, lost = struct.unpack("!IdI", octets)
        if answered < times * len(packets):
            raise Fault("bench.spokes", f"{answered} of {times * len(packets)} registrations were answered")
        return Round(answered, seconds, lost)

    def _run(self, packets: dict[bytes, bytes], times: int) -> Round:
        descriptor = self._port.open()
        frames = {nbma: self._port.frame(nbma, packet) for nbma, packet in packets.items()}
        began = time.monotonic()
        answered, lost = 0, 0
        for _ in range(times):
            done, again = self._pass(descriptor, frames)
            answered, lost = answered + done, lost + again
        return Round(answered, time.monotonic() - began, lost)

    def _pass(self, descriptor: int, frames: dict[bytes, bytes]) -> tuple[int, int]:
        """Each frame until it is answered."""
        waiting = dict(frames)
        lost = 0
        for attempt in range(GIVEN_UP):
            lost += len(waiting) if attempt else 0
            self._exchange(descriptor, waiting)
            if not waiting:
                break
        return len(frames) - len(waiting), lost

    def _exchange(self, descriptor: int, waiting: dict[bytes, bytes]) -> None:
        """Once through all that wait; those answered are taken out. Ends after a silence."""
        to_send = iter(list(waiting.values()))
        buffer = bytearray(_READ_OCTETS)
        buffers, nbma_at, kind_at = [buffer], self._port.nbma_at, self._port.nhrp_at + _KIND_AT
        out = 0
        more = True
        while waiting:
            while more and out < WINDOW:
                frame = next(to_send, None)
                if frame is None:
                    more = False
                    break
                os.write(descriptor, frame)
                out += 1
            try:
                while True:
                    length = os.readv(descriptor, buffers)
                    if length > kind_at and buffer[kind_at] == Kind.REGISTRATION_REPLY:
                        if waiting.pop(bytes(buffer[nbma_at : nbma_at + 4]), None) is not None:
                            out -= 1
                        if more and out < WINDOW // 2:
                            break
            except BlockingIOError:
                pass
            if waiting and not (more and out < WINDOW) and not select.select([descriptor], [], [], SILENCE_S)[0]:
                return


def wait_until(condition: Callable[[], bool], what: str, limit_s: float) -> None:
    """Raises Fault if it does not come."""
    limit_s = patience(limit_s)
    end = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > end:
            raise Fault("bench.spokes", f"waited {limit_s:g} s for {what}")
        time.sleep(0.2)
