"""Loss and latency of one target over its last probes."""

from collections import deque
from itertools import islice


class Figures:
    def __init__(self, window: int) -> None:
        self._lost: deque[bool] = deque(maxlen=window)
        self._rtts_s: deque[float] = deque(maxlen=window)

    def answered(self, rtt_s: float) -> None:
        self._lost.append(False)
        self._rtts_s.append(rtt_s)

    def missed(self) -> None:
        self._lost.append(True)

    def clear(self) -> None:
        self._lost.clear()
        self._rtts_s.clear()

    def forget_losses(self) -> None:
        """It answers again: what was lost meanwhile says nothing of now."""
        self._lost.clear()

    @property
    def is_full(self) -> bool:
        return len(self._lost) == self._lost.maxlen

    @property
    def loss(self) -> float | None:
        """A share; None without probes."""
        return sum(self._lost) / len(self._lost) if self._lost else None

    def latency_s(self, last: int | None = None) -> float | None:
        """The mean round trip, of the `last` answers only if given; None without answers."""
        rtts_s = list(islice(reversed(self._rtts_s), last))
        return sum(rtts_s) / len(rtts_s) if rtts_s else None
