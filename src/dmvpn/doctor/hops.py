"""How much a way carries unfragmented, and where a router takes large packets and says nothing: RFC 1191, RFC 4821.

What the wiki page does by hand, traceroute and then `ping -M do -s 1472` to each hop, done with packets towards the far
end itself whose time runs out at each hop: a hop that answers no pings still says that, and what counts is not what a
router takes for itself but what it forwards.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from dmvpn.linux.netlink import Address
from dmvpn.linux.path_probe import Answer, Outcome, Probe, Prober

HOPS_LIMIT = 24
AT_ONCE = 8  # hops or sizes in one round: routers answer a few at once, and then one a second (icmp(7) icmp_ratelimit)
LEAST_OCTETS = 128  # passes everywhere; some firewalls take offence at smaller ones
TOLD_LIMIT = 8  # routers on one way that each say less than the one before
SHORTEST_S, LONGEST_S = 0.3, 2.0


@dataclass(frozen=True, slots=True)
class Hop:
    """A router of the way by its place, counted from 1; 0 is this router itself. `router` None: it says nothing."""

    number: int
    router: Address | None

    def __str__(self) -> str:
        if self.number == 0:
            return "this router"
        return f"hop {self.number} ({self.router or 'silent'})"


@dataclass(frozen=True, slots=True)
class Carries:
    """The largest packet that reaches the end, 0: none of any size does. `told_by`: a router said so, as it should.

    `silent`: larger ones vanish without a word.
    """

    octets: int
    told_by: Address | None = None
    silent: bool = False
    reason: str = ""


@dataclass(frozen=True, slots=True)
class BlackHole:
    """Large packets still come to `last`, which says nothing and hands none to `beyond`."""

    last: Hop
    beyond: Hop


def how_much(prober: Prober, full: int, *, timeout_s: float) -> Carries:
    """Whether `full` octets reach the end, else how many do. A size counts as lost after two tries."""
    least = max(LEAST_OCTETS, prober.least_octets)
    size, told_by = full, None
    for _ in range(TOLD_LIMIT):
        answer = _twice(prober, (Probe(size),), timeout_s)[Probe(size)]
        if answer.outcome is Outcome.REACHED:
            return Carries(size, told_by)
        if answer.outcome is not Outcome.TOO_BIG or not least <= answer.mtu_octets < size:
            break
        size, told_by = answer.mtu_octets, answer.router
    small = _twice(prober, (Probe(least),), timeout_s)[Probe(least)]
    if small.outcome is not Outcome.REACHED:
        return Carries(0, reason=small.reason or "no answer to a packet of any size")
    found = _largest(prober, least, size, timeout_s)
    local = answer.outcome is Outcome.TOO_BIG and answer.router is None
    return Carries(found, told_by, silent=answer.outcome is Outcome.SILENCE, reason="our own device" if local else "")


def black_hole(prober: Prober, full: int, *, timeout_s: float) -> tuple[BlackHole | None, tuple[Hop, ...]]:
    """The hop where `full` octets end in silence while small ones go on, and the hops as far as they tell themselves.

    None: as far as anybody answers, large packets come as far as small ones.
    """
    least = max(LEAST_OCTETS, prober.least_octets)
    small: dict[int, Answer] = {}
    for first in range(1, HOPS_LIMIT + 1, AT_ONCE):
        small |= _by_ttl(prober, least, range(first, first + AT_ONCE), timeout_s)
        if any(_came(answer) and answer.outcome is not Outcome.HOP for answer in small.values()):
            break
        if not any(_came(small[ttl]) for ttl in range(first, first + AT_ONCE)):
            break
    answered = sorted(ttl for ttl, answer in small.items() if _came(answer))
    end = next((ttl for ttl in answered if small[ttl].outcome is not Outcome.HOP), answered[-1] if answered else 0)
    ttls = [ttl for ttl in answered if ttl <= end]
    hops = tuple(Hop(ttl, small[ttl].router if ttl in ttls else None) for ttl in range(1, end + 1))
    large = _by_ttl(prober, full, ttls, timeout_s)
    # A hop that is slow to answer and one that is passed by larger packets are no hole.
    last = max((ttl for ttl, answer in large.items() if _came(answer)), default=0)
    beyond = next((ttl for ttl in ttls if ttl > last), None)
    if beyond is None:
        return None, hops
    here = hops[last - 1] if last else Hop(0, None)
    return BlackHole(here, hops[beyond - 1]), hops


def patience_s(rtt_s: float) -> float:
    return min(max(3 * rtt_s + 0.2, SHORTEST_S), LONGEST_S)


def _came(answer: Answer) -> bool:
    return answer.outcome in (Outcome.HOP, Outcome.REACHED) or (
        answer.outcome is Outcome.REFUSED and answer.router is not None
    )


def _by_ttl(prober: Prober, octets: int, ttls: range | list[int], timeout_s: float) -> dict[int, Answer]:
    probes = [Probe(octets, ttl) for ttl in ttls]
    found: dict[int, Answer] = {}
    for first in range(0, len(probes), AT_ONCE):
        batch = _twice(prober, tuple(probes[first : first + AT_ONCE]), timeout_s)
        found |= {probe.ttl: answer for probe, answer in batch.items()}
    return found


def _twice(prober: Prober, probes: tuple[Probe, ...], timeout_s: float) -> Mapping[Probe, Answer]:
    """What was lost once is tried again: one lost packet is no finding."""
    found = dict(prober.send(probes, timeout_s=timeout_s))
    again = [probe for probe, answer in found.items() if answer.outcome is Outcome.SILENCE]
    return found | dict(prober.send(again, timeout_s=timeout_s)) if again else found


def _largest(prober: Prober, passes: int, fails: int, timeout_s: float) -> int:
    """Between one that passes and one that does not, several sizes a round."""
    while fails - passes > 1:
        step = max(1, (fails - passes) // (AT_ONCE + 1))
        sizes = list(range(passes + step, fails, step))[:AT_ONCE]
        found = _twice(prober, tuple(map(Probe, sizes)), timeout_s)
        through = [size for size in sizes if found[Probe(size)].outcome is Outcome.REACHED]
        passes = max(through, default=passes)
        fails = min((size for size in sizes if size > passes), default=fails)
    return passes
