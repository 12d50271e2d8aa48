"""Pairs that move to another uplink of ours: after its death at once, back to a better one before the old SA goes."""

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from dmvpn.daemon.orders import Remote
from dmvpn.linux.vici_client import IkeSa

Address = IPv4Address | IPv6Address

MOVE_S = 3.0  # an SA over another uplink may take so long, before its peers are told that there is none
BETTER_FIRST_S = 3.0
BETTER_TRIES = 4  # after 0, 3, 9 and 21 s
BETTER_AGAIN_S = 300.0  # then so often: the better one does not reach that peer, which its ISP may mend


@dataclass(slots=True)
class _Better:
    source: str
    remote: Remote
    tries: int = 0
    next_try: float = 0.0


class Moves:
    def __init__(self) -> None:
        self._until: dict[Address, float] = {}  # pairs that lost their SA with an uplink: how long that may last
        self._better: dict[Address, _Better] = {}

    def clear(self) -> None:
        self._until.clear()
        self._better.clear()

    def forget(self, nbma: Address) -> None:
        self._until.pop(nbma, None)
        self._better.pop(nbma, None)

    # ------------------------------------------------------------ away from a dead one

    def leave(self, nbma: Address, now: float) -> None:
        self._until[nbma] = now + MOVE_S
        self._better.pop(nbma, None)

    def is_leaving(self, nbma: Address) -> bool:
        return nbma in self._until

    def settle(self, standing: set[Address], now: float) -> None:
        """Whoever has an SA again has moved; whoever has none in time never will."""
        self._until = {nbma: end for nbma, end in self._until.items() if nbma not in standing and now < end}

    # ------------------------------------------------------------ to a better one

    def prefer(self, nbma: Address, source: str, remote: Remote, now: float) -> None:
        known = self._better.get(nbma)
        if known is None or known.source != source:
            self._better[nbma] = _Better(source, remote, next_try=now)

    def is_moving(self, nbma: Address) -> bool:
        return nbma in self._better

    def has_moved(self, nbma: Address) -> None:
        self._better.pop(nbma, None)

    def due(self, now: float) -> list[tuple[Address, Remote]]:
        """Whom to call now from the better one."""
        found = []
        for nbma, better in list(self._better.items()):
            if now < better.next_try:
                continue
            better.tries = min(better.tries + 1, BETTER_TRIES)
            waits_s = BETTER_AGAIN_S if better.tries == BETTER_TRIES else BETTER_FIRST_S * 2 ** (better.tries - 1)
            better.next_try = now + waits_s
            found.append((nbma, better.remote))
        return found

    def next_due(self) -> float | None:
        times = [better.next_try for better in self._better.values()]
        return min((*times, *self._until.values()), default=None)

    def is_wanted(self, nbma: Address, attempt: IkeSa, standing: list[IkeSa]) -> bool:
        """Whether an attempt beside SAs that stand is one from a better uplink than theirs."""
        better = self._better.get(nbma)
        if better is None or attempt.local_host != better.source:
            return False
        return all(sa.local_host != better.source for sa in standing)
