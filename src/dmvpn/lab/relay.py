"""The relay: delay, jitter, loss and rate for every impaired link of a lab, where the kernel has no netem.

One process joins the two ends of each cable. Frames wait in rings and leave by due time; a direction keeps its order
whatever the jitter. What it cannot keep up with is counted, so that a figure measured through it can be judged.
Run as `python -m dmvpn.lab.relay`, its links as JSON on standard input; it says "ready" and serves its control socket.
"""

import gc
import json
import os
import select
import socket
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from random import Random
from typing import Any, Final

from dmvpn.errors import Fault
from dmvpn.lab.impairment import Direction, Impairment
from dmvpn.lab.queue import DelayQueue
from dmvpn.linux import frame_ring

REQUEST_LIMIT_OCTETS: Final = 1 << 16
# Departures are bundled on this grid: waking up for every frame of a busy link costs more than the frames do.
GRID_S: Final = 0.0005
BUSY_FRAMES: Final = 16


@dataclass(slots=True)
class Port:
    """One cable end: frames that arrive here wait in `queue` and leave at `outlet`."""

    link: str
    direction: Direction
    inlet: socket.socket
    outlet: socket.socket
    queue: DelayQueue
    overflow: int = 0  # frames lost before we read them: the relay was too slow


@dataclass(slots=True)
class Relay:
    ports: list[Port]
    control: socket.socket
    clients: dict[int, socket.socket] = field(default_factory=dict)
    started: float = field(default_factory=time.monotonic)

    def serve(self) -> None:
        """Runs until it is killed."""
        # Nothing here makes cycles, and a collection would delay every packet of the lab.
        gc.disable()
        poll = select.epoll()
        readers: dict[int, Port] = {port.inlet.fileno(): port for port in self.ports}
        for descriptor in (*readers, self.control.fileno()):
            poll.register(descriptor, select.EPOLLIN)
        queues = [(port.queue, port.outlet.fileno()) for port in self.ports]
        busy = False
        while True:
            if busy:
                time.sleep(GRID_S / 2)  # arrivals gather meanwhile, and are read in one call
            events = poll.poll(0 if busy else self._pause())
            now = time.monotonic()
            moved = 0
            for descriptor, _ in events:
                port = readers.get(descriptor)
                if port is None:
                    self._converse(poll, descriptor)
                else:
                    moved += port.queue.take(descriptor, now)
            for queue, out in queues:
                if queue.waiting and queue.due <= now:
                    moved += queue.release(out, now)
            busy = moved >= BUSY_FRAMES

    def _pause(self) -> float:
        """Seconds until the next departure, on the grid; -1 waits for a frame. epoll rounds up to milliseconds, so the
        last part is slept."""
        soonest = min((port.queue.due for port in self.ports if port.queue.waiting), default=None)
        if soonest is None:
            return -1
        left = soonest - time.monotonic()
        if left > 2 * GRID_S:
            return max(left - GRID_S, 0.001)
        if left > 0:
            time.sleep(-(-left // GRID_S) * GRID_S)
        return 0

    def _converse(self, poll: select.epoll, descriptor: int) -> None:
        if descriptor == self.control.fileno():
            client, _ = self.control.accept()
            client.settimeout(0)
            self.clients[client.fileno()] = client
            poll.register(client.fileno(), select.EPOLLIN)
            return
        client = self.clients[descriptor]
        try:
            request = client.recv(REQUEST_LIMIT_OCTETS)
            if request:
                client.send(json.dumps(self._answer(request)).encode())
                return
        except OSError:
            pass  # a client that went away in the middle
        poll.unregister(descriptor)
        self.clients.pop(descriptor).close()

    def _answer(self, request: bytes) -> dict[str, Any]:
        try:
            asked = json.loads(request)
            if asked["op"] == "state":
                return {"ok": True, **self._state()}
            wanted = (asked["link"], Direction(asked["direction"]))
            port = next(port for port in self.ports if (port.link, port.direction) == wanted)
            port.queue.impair(Impairment.from_json(asked["impairment"]))
        except (ValueError, KeyError, TypeError, StopIteration) as trouble:
            return {"ok": False, "error": f"{type(trouble).__name__}: {trouble}"}
        return {"ok": True}

    def _state(self) -> dict[str, Any]:
        for port in self.ports:
            port.overflow += frame_ring.overflowed(port.inlet)
        return {
            "cpu_s": time.process_time(),
            "elapsed_s": time.monotonic() - self.started,
            "links": [
                {
                    "link": port.link,
                    "direction": port.direction.value,
                    "impairment": port.queue.impairment.to_json(),
                    "overflow": port.overflow,
                    **asdict(port.queue.counts),
                }
                for port in self.ports
            ],
        }


def connect(links: list[dict[str, Any]], open_device: Callable[[str], socket.socket]) -> list[Port]:
    """Both directions of every link."""
    ports: list[Port] = []
    for link in links:
        a, b = open_device(link["a"]), open_device(link["b"])
        octets = link["mtu_octets"] + frame_ring.FRAME_OVERHEAD_OCTETS
        for direction, here, there in ((Direction.UP, a, b), (Direction.DOWN, b, a)):
            queue = DelayQueue(octets, Impairment.from_json(link[direction.value]), Random())
            ports.append(Port(link["name"], direction, here, there, queue))
    return ports


def _go_before_others() -> None:
    """A WAN does not get slower because the routers are busy; nor must this one. Refused in some containers."""
    try:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    except OSError:
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, 0, -15)


def main() -> int:
    configuration = json.load(sys.stdin)
    control = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        ports = connect(configuration["links"], frame_ring.open_device)
        path = Path(configuration["socket"])
        control.bind(str(path))
        path.chmod(0o600)
        control.listen(8)
    except (Fault, OSError) as trouble:
        sys.stdout.write(f"{trouble}\n")
        return 1
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 1)
    os.dup2(nothing, 2)
    _go_before_others()
    Relay(ports, control).serve()
    return 0


if __name__ == "__main__":
    sys.exit(main())
