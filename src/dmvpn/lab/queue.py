"""One direction of an impaired link: a ring of frames, and when each run of them leaves. The time is passed in."""

from collections import deque
from dataclasses import dataclass
from random import Random
from typing import Final

from dmvpn.lab.impairment import Impairment
from dmvpn.linux.frame_ring import FrameRing

BATCH: Final = 64
# 4,096 frames are 60 ms of 700 Mbit/s in full frames; what does not fit is dropped at the tail and counted.
SLOTS: Final = 4096
QUEUE_LIMIT_S: Final = 0.1  # what a rate-limited link buffers before it drops, like a customer's router
LATE_S: Final = 0.002
_NEVER: Final = float("inf")


@dataclass(slots=True)
class Counts:
    """What happened to this direction's frames. `late` left more than 2 ms after their time: the relay's own limit."""

    packets: int = 0
    octets: int = 0
    lost: int = 0
    silenced: int = 0
    queue_full: int = 0
    refused: int = 0
    late: int = 0
    latest_s: float = 0.0


@dataclass(slots=True)
class Run:
    """Consecutive slots with one due time; `keep` False gives the slots back without sending them."""

    due: float
    first: int
    count: int
    keep: bool = True


class DelayQueue:
    """`due` is when the first waiting run leaves; `waiting` whether there is one."""

    def __init__(self, frame_octets: int, impairment: Impairment, random: Random) -> None:
        self.ring = FrameRing(SLOTS + BATCH, frame_octets)  # the last BATCH slots take what has no room
        self.random = random
        self.counts = Counts()
        self.impairment = impairment
        self._runs: deque[Run] = deque()
        self._head = 0  # next slot to fill
        self._used = 0
        self._last_due = 0.0
        self._line_free = 0.0  # when the rate limit lets the next frame start
        self.due = _NEVER

    @property
    def waiting(self) -> bool:
        return bool(self._runs)

    def impair(self, impairment: Impairment) -> None:
        """From the next frame on; what waits keeps its time, and nothing overtakes it."""
        self.impairment = impairment
        self._line_free = 0.0

    def take(self, descriptor: int, now: float) -> int:
        """Reads what waits at the socket; how many frames."""
        taken = 0
        for _ in range(8):
            room = min(BATCH, SLOTS - self._head, SLOTS - self._used)
            if room <= 0:
                dropped = self.ring.receive(descriptor, SLOTS, BATCH)
                self.counts.queue_full += dropped
                return taken + dropped
            count = self.ring.receive(descriptor, self._head, room)
            if count == 0:
                break
            self._schedule(self._head, count, now)
            self._used += count
            self._head = (self._head + count) % SLOTS
            taken += count
            if count < room:
                break
        return taken

    def _schedule(self, first: int, count: int, now: float) -> None:
        quality = self.impairment
        if quality.silent:
            self.counts.silenced += count
            self._append(Run(now, first, count, keep=False))
        elif quality.loss or quality.rate_bps or quality.jitter_s:
            for slot in range(first, first + count):
                self._schedule_one(slot, now)
        else:
            self._append(Run(now + quality.delay_s, first, count))

    def _schedule_one(self, slot: int, now: float) -> None:
        quality = self.impairment
        if quality.loss and self.random.random() < quality.loss:
            self.counts.lost += 1
            self._append(Run(now, slot, 1, keep=False))
            return
        leaves = now
        if quality.rate_bps:
            start = max(now, self._line_free)
            if start - now > QUEUE_LIMIT_S:
                self.counts.queue_full += 1
                self._append(Run(now, slot, 1, keep=False))
                return
            leaves = self._line_free = start + self.ring.lengths[slot] * 8 / quality.rate_bps
        if quality.jitter_s:
            leaves += self.random.uniform(-quality.jitter_s, quality.jitter_s)
        self._append(Run(max(now, leaves + quality.delay_s), slot, 1))

    def _append(self, run: Run) -> None:
        # A direction keeps its order: real paths rarely reorder, and a VPN's replay window is not what a lab is about.
        run.due = self._last_due = max(run.due, self._last_due)
        self._runs.append(run)
        self.due = self._runs[0].due

    def release(self, descriptor: int, now: float) -> int:
        """Sends what is due; how many frames."""
        runs = self._runs
        released = 0
        while runs and runs[0].due <= now:
            run = runs.popleft()
            late_s = now - run.due
            while runs and runs[0].due <= now and self._continues(run, runs[0]):
                run.count += runs.popleft().count
            if run.keep:
                self._send(descriptor, run, late_s)
            self._used -= run.count
            released += run.count
        if not runs:
            self._head = self._used = 0  # a quiet link then lives in the first few slots, which stay in the cache
        self.due = runs[0].due if runs else _NEVER
        return released

    @staticmethod
    def _continues(run: Run, following: Run) -> bool:
        return run.keep == following.keep and run.first + run.count == following.first

    def _send(self, descriptor: int, run: Run, late_s: float) -> None:
        sent = 0
        while sent < run.count:
            accepted = self.ring.send(descriptor, run.first + sent, min(BATCH, run.count - sent))
            if accepted == 0:
                self.counts.refused += 1
                accepted = 1  # this one the device will not have; the next one perhaps
            else:
                self.counts.packets += accepted
            sent += accepted
        self.counts.octets += sum(self.ring.lengths[run.first : run.first + run.count])
        if late_s > LATE_S:
            self.counts.late += run.count
            self.counts.latest_s = max(self.counts.latest_s, late_s)
