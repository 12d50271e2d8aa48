"""Liveness of direct paths: a request for the peer's own overlay address, sent straight to its NBMA address.

Only a reply counts: it proves the way there and back. A peer's own probes prove one direction, so they do not.
Dead is found at most (probe_limit + 1) intervals after the last packet got through: 4 s with the defaults.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from dmvpn.nhrp.cie import Cie
from dmvpn.nhrp.core import Core
from dmvpn.nhrp.events import Address, DropReason, Endpoint
from dmvpn.nhrp.ids import Request
from dmvpn.nhrp.messages import resolution_request
from dmvpn.nhrp.numbers import CieCode, Kind
from dmvpn.nhrp.packet import Packet

FIRST_PROBE_AGAIN_S: Final = 0.2  # the far end may have its SA a little later; then doubled up to the interval
FIRST_PROBES_LIMIT: Final = 12  # without any answer at all: about 10 s


class PathState(StrEnum):
    WAITING = "waiting"  # no SA
    PROBING = "probing"  # SA up, no answer yet
    ALIVE = "alive"


@dataclass(slots=True)
class Path:
    nbma: Address
    protocol: Address  # whom to ask about: the peer's own overlay address
    users: dict[str, float]  # and the probe interval each of them wants
    state: PathState = PathState.WAITING
    unanswered: int = 0
    rtt_s: float | None = None
    seen_as: Endpoint | None = None  # where the peer sees our IKE, if it says so
    sent: dict[int, float] = field(default_factory=dict)  # open request ids: when

    @property
    def interval_s(self) -> float:
        return min(self.users.values())


class Paths:
    """`on_alive` is told the first answer, `on_dead` that answers stopped, `on_answer` each answer's CIE code."""

    def __init__(
        self,
        core: Core,
        on_alive: Callable[[Address], None],
        on_dead: Callable[[Address], None],
        on_answer: Callable[[Address, int], None],
    ) -> None:
        self._core = core
        self._on_alive = on_alive
        self._on_dead = on_dead
        self._on_answer = on_answer
        self._paths: dict[Address, Path] = {}

    def get(self, nbma: Address) -> Path | None:
        return self._paths.get(nbma)

    def is_alive(self, nbma: Address) -> bool:
        path = self._paths.get(nbma)
        return path is not None and path.state is PathState.ALIVE

    def answers(self, nbma: Address) -> bool:
        """Whether the last probe but one was answered, or the last: packets go there and come back."""
        path = self._paths.get(nbma)
        return path is not None and path.state is PathState.ALIVE and path.unanswered <= 1

    def watch(self, nbma: Address, protocol: Address, user: str, interval_s: float) -> None:
        """Probe it from now on; its SA is up."""
        path = self._paths.get(nbma)
        if path is None:
            path = self._paths[nbma] = Path(nbma, protocol, {})
        path.users[user] = interval_s
        if path.state is PathState.WAITING:
            self._begin(path)
        elif path.state is PathState.ALIVE:
            self._arm(path, interval_s)

    def adopt(self, nbma: Address, protocol: Address, user: str, interval_s: float) -> None:
        """After a restart: it was alive. The probes confirm it or withdraw it."""
        path = self._paths.setdefault(nbma, Path(nbma, protocol, {}))
        path.users[user] = interval_s
        path.state = PathState.ALIVE
        self._arm(path, 0.0)

    def unwatch(self, nbma: Address, user: str) -> None:
        path = self._paths.get(nbma)
        if path is None or path.users.pop(user, None) is None or path.users:
            return
        self._stop(path)
        del self._paths[nbma]

    def security_up(self, nbma: Address) -> None:
        path = self._paths.get(nbma)
        if path is None:
            return
        if path.state is PathState.WAITING:
            self._begin(path)
        elif path.state is PathState.ALIVE and path.unanswered:
            # Another SA in place of one that died: what went unanswered through that says nothing of this.
            self._forget_sent(path)
            self._probe(path)

    def security_down(self, nbma: Address) -> None:
        path = self._paths.get(nbma)
        if path is not None:
            self._stop(path)

    def _begin(self, path: Path) -> None:
        path.state = PathState.PROBING
        path.unanswered = 0
        self._probe(path)

    def _stop(self, path: Path) -> None:
        path.state = PathState.WAITING
        path.rtt_s = None
        path.seen_as = None
        self._forget_sent(path)
        self._core.timers.disarm(("probe", path.nbma))

    def _forget_sent(self, path: Path) -> None:
        for request_id in path.sent:
            self._core.requests.close(request_id)
        path.sent.clear()
        path.unanswered = 0

    def _arm(self, path: Path, wait_s: float) -> None:
        at = self._core.after(wait_s)
        armed = self._core.timers.deadline(("probe", path.nbma))
        if armed is None or armed > at:
            self._core.timers.arm(("probe", path.nbma), at, lambda: self._probe(path))

    def _probe(self, path: Path) -> None:
        limit = self._core.settings.probe_limit if path.state is PathState.ALIVE else FIRST_PROBES_LIMIT
        if path.unanswered >= limit:
            self._stop(path)
            self._on_dead(path.nbma)
            return
        self._send(path)
        wait = path.interval_s
        if path.state is PathState.PROBING:
            wait = min(FIRST_PROBE_AGAIN_S * 2.0**path.unanswered, wait)
        path.unanswered += 1
        self._arm(path, wait)

    def _send(self, path: Path) -> None:
        own = self._core.own_address(path.protocol)
        if own is None or self._core.requests.is_full:
            self._core.drop(DropReason.LIMIT, path.nbma, "a probe could not be sent")
            return
        request_id = self._core.requests.take_id()
        path.sent[request_id] = self._core.now
        self._core.requests.open(
            Request(
                request_id=request_id,
                kind=Kind.RESOLUTION_REQUEST,
                source_nbma=self._core.own_nbma(path.nbma),
                source_protocol=own,
                asked=path.nbma,
                on_reply=lambda reply, sender: self._answered(path, reply, sender),
                on_error=lambda code, sender: None,  # the path's silence is what counts
            )
        )
        self._core.send(resolution_request(self._core, own, path.protocol, request_id, path.nbma), path.nbma)

    def _answered(self, path: Path, reply: Packet, sender: Address) -> None:
        if sender != path.nbma:
            self._core.drop(DropReason.UNSOLICITED, sender, f"answers a probe of {path.nbma}")
            return
        path.rtt_s = self._core.now - path.sent.get(reply.request_id, self._core.now)
        told = reply.candidates()
        path.seen_as = path.seen_as if told is None else told.observed
        self._forget_sent(path)
        if path.state is PathState.PROBING:
            path.state = PathState.ALIVE
            self._core.timers.disarm(("probe", path.nbma))
            self._arm(path, path.interval_s)
            self._on_alive(path.nbma)
        self._on_answer(path.nbma, _code(reply.cies))


def _code(cies: tuple[Cie, ...]) -> int:
    return cies[0].code if cies else CieCode.OK
