"""Two SAs of one pair: which of them goes, and when. The rules are told in `security`."""

from collections.abc import Callable, Mapping, Sequence
from ipaddress import IPv4Address, IPv6Address

from dmvpn.linux.vici_client import IkeSa

Address = IPv4Address | IPv6Address

SETTLE_S = 2.0  # how long two SAs of a pair may stand, so that both ends have seen both
DEFERENCE_S = 3 * SETTLE_S  # the end with the higher address leaves the choice to the other for so long
# SAs of a pair that came to be within this time were made by both ends at once: more than a satellite's round trip,
# and each end gives its attempt up when it sees the other's stand. Short, since a charon may die soon after its start.
TOGETHER_S = 1.0


class Duplicates:
    """`is_ours` tells our own routers from others."""

    def __init__(self, own: Address, is_ours: Callable[[Address], bool]) -> None:
        self._own = own
        self._is_ours = is_ours
        self._doubled_since: dict[Address, float] = {}
        self._sent_before: dict[str, int] = {}  # by unique id: packets through it when the pair was first seen doubled

    def clear(self) -> None:
        self._doubled_since.clear()
        self._sent_before.clear()

    def next_due(self) -> list[float]:
        return [since + self._settle_s(nbma) for nbma, since in self._doubled_since.items()]

    def surplus(
        self, by_peer: Mapping[Address, Sequence[IkeSa]], began: Mapping[str, float], now: float
    ) -> list[IkeSa]:
        """What is to end now. `began` says when each SA was established."""
        found: list[IkeSa] = []
        for nbma in list(self._doubled_since):
            if len(by_peer.get(nbma, ())) < 2:
                del self._doubled_since[nbma]
        listed = {sa.unique_id for sas in by_peer.values() for sa in sas}
        self._sent_before = {one: sent for one, sent in self._sent_before.items() if one in listed}
        for nbma, sas in by_peer.items():
            if len(sas) < 2 or not (self._is_ours(nbma) or _by_both(sas)):
                self._doubled_since.pop(nbma, None)
                continue
            if nbma not in self._doubled_since:
                self._doubled_since[nbma] = now
                self._sent_before |= {sa.unique_id: _sent(sa) for sa in sas}
            if now - self._doubled_since[nbma] < self._settle_s(nbma):
                continue
            found += self._surplus(nbma, sas, began)
        return found

    def _settle_s(self, nbma: Address) -> float:
        return SETTLE_S if not self._is_ours(nbma) or int(self._own) < int(nbma) else DEFERENCE_S

    def _surplus(self, nbma: Address, sas: Sequence[IkeSa], began: Mapping[str, float]) -> list[IkeSa]:
        """All but the one to keep; both ends see the same SPIs and starters, and about the same ages."""
        if not self._is_ours(nbma):
            return [sa for sa in sas if sa.initiator]
        lower = int(self._own) < int(nbma)
        newest = max(began[sa.unique_id] for sa in sas)
        together = [sa for sa in sas if newest - began[sa.unique_id] <= TOGETHER_S]

        def worth(sa: IkeSa) -> tuple[int, bool, str]:
            sent = _sent(sa) - self._sent_before.get(sa.unique_id, 0) if lower else 0
            return -sent, sa.initiator != lower, sa.initiator_spi

        kept = min(together, key=worth)
        return [sa for sa in sas if sa is not kept]


def _by_both(sas: Sequence[IkeSa]) -> bool:
    return len({sa.initiator for sa in sas}) > 1


def _sent(sa: IkeSa) -> int:
    return sum(child.packets_out for child in sa.children)
