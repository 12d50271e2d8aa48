"""One direction of the relay, with a virtual clock and a socket pair for the two cable ends."""

import socket
from collections.abc import Iterator
from random import Random

import pytest

from dmvpn.lab import queue
from dmvpn.lab.impairment import Impairment
from dmvpn.lab.queue import DelayQueue

FRAME_OCTETS = 1518


class Wire:
    """A DelayQueue between two sockets; frames are their number in two octets, padded."""

    def __init__(self, impairment: Impairment) -> None:
        self.left, self.inlet = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.outlet, self.right = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        for end in (self.left, self.inlet, self.outlet, self.right):
            end.setsockopt(socket.SOL_SOCKET, 32, 1 << 22)  # SO_SNDBUFFORCE where allowed
        self.right.settimeout(0)
        self.queue = DelayQueue(FRAME_OCTETS, impairment, Random(1))

    def close(self) -> None:
        for end in (self.left, self.inlet, self.outlet, self.right):
            end.close()

    def send(self, numbers: range, now: float, octets: int = 100) -> None:
        for number in numbers:
            self.left.send(number.to_bytes(2, "big") + bytes(octets - 2))
            self.queue.take(self.inlet.fileno(), now)

    def received(self, now: float) -> list[int]:
        self.queue.release(self.outlet.fileno(), now)
        found = []
        while True:
            try:
                found.append(int.from_bytes(self.right.recv(2000)[:2], "big"))
            except BlockingIOError:
                return found


@pytest.fixture
def wire(request: pytest.FixtureRequest) -> Iterator[Wire]:
    wire = Wire(request.param)
    yield wire
    wire.close()


def with_link(impairment: Impairment) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("wire", [impairment], indirect=True, ids=str)


@with_link(Impairment())
def test_a_clean_link_passes_frames_at_once_and_in_order(wire: Wire) -> None:
    wire.send(range(5), now=1.0)
    assert wire.received(1.0) == [0, 1, 2, 3, 4]


@with_link(Impairment(delay_s=0.02))
def test_a_frame_leaves_when_its_delay_is_over(wire: Wire) -> None:
    wire.send(range(2), now=1.0)
    wire.send(range(2, 3), now=1.01)
    assert wire.received(1.019) == []
    assert wire.received(1.0201) == [0, 1]
    assert wire.received(1.0301) == [2]
    assert not wire.queue.waiting


@with_link(Impairment(delay_s=0.02, jitter_s=0.015))
def test_jitter_spreads_the_delay_and_keeps_the_order(wire: Wire) -> None:
    seen: list[int] = []
    instants: set[int] = set()
    for number in range(30):
        wire.send(range(number, number + 1), now=1.0 + number * 0.001)
    for step in range(100):
        if arrived := wire.received(1.0 + step * 0.001):
            instants.add(step)
            seen += arrived
    assert seen == list(range(30))
    assert len(instants) > 5
    assert min(instants) >= 5


@with_link(Impairment(loss=0.25))
def test_a_lossy_link_counts_what_it_loses(wire: Wire) -> None:
    arrived = 0
    for start in range(0, 1000, 50):
        wire.send(range(start, start + 50), now=1.0)
        arrived += len(wire.received(1.0))
    assert arrived + wire.queue.counts.lost == 1000
    assert 200 < wire.queue.counts.lost < 300


@with_link(Impairment(rate_bps=800_000))
def test_a_rate_spaces_frames_by_their_length(wire: Wire) -> None:
    wire.send(range(3), now=1.0, octets=1000)  # 10 ms each
    assert wire.received(1.009) == []
    assert wire.received(1.0101) == [0]
    assert wire.received(1.0301) == [1, 2]


@with_link(Impairment(rate_bps=800_000))
def test_a_full_buffer_of_a_slow_link_drops_at_the_tail(wire: Wire) -> None:
    wire.send(range(20), now=1.0, octets=1000)
    passed = [frame for step in range(40) for frame in wire.received(1.0 + step * 0.01)]
    assert passed == list(range(len(passed)))
    assert len(passed) + wire.queue.counts.queue_full == 20
    assert wire.queue.counts.queue_full > 5


@with_link(Impairment(silent=True))
def test_a_silent_link_drops_everything(wire: Wire) -> None:
    wire.send(range(3), now=1.0)
    assert wire.received(9.0) == []
    assert wire.queue.counts.silenced == 3


@with_link(Impairment(delay_s=0.05))
def test_a_shorter_delay_does_not_let_frames_overtake(wire: Wire) -> None:
    wire.send(range(1), now=1.0)
    wire.queue.impair(Impairment())
    wire.send(range(1, 2), now=1.0)
    assert wire.received(1.049) == []
    assert wire.received(1.051) == [0, 1]


@with_link(Impairment(delay_s=1.0))
def test_frames_beyond_the_ring_are_dropped_and_counted(wire: Wire) -> None:
    for start in range(0, queue.SLOTS + 200, 100):
        wire.send(range(start, start + 100), now=1.0)
    assert wire.queue.counts.queue_full >= 200
    arrived: list[int] = []
    while wire.queue.waiting:
        arrived += wire.received(2.0)
    assert len(arrived) <= queue.SLOTS
    wire.send(range(7, 8), now=3.0)
    assert wire.received(4.0) == [7]
