"""The search for a hole, on ways that are made up: hops that are silent, packets that are lost, polite routers."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address

import pytest

from dmvpn.doctor.hops import BlackHole, Carries, Hop, black_hole, how_much
from dmvpn.linux.path_probe import SILENCE, Answer, Outcome, Probe

FULL = 1500


def router(number: int) -> IPv4Address:
    return IPv4Address("198.18.0.0") + number


@dataclass
class Way:
    """`links[n]` is what leaves hop n (0: ourselves) at most; the far end is behind the last of them.

    `polite` hops say how much they carry, `mute` ones never say anything; `lost` are sends, by number, that vanish.
    """

    links: tuple[int, ...]
    polite: frozenset[int] = frozenset()
    mute: frozenset[int] = frozenset()
    answers: bool = True
    lost: frozenset[int] = frozenset()
    least_octets: int = 60
    sent: list[Probe] = field(default_factory=list)

    def send(self, probes: Iterable[Probe], *, timeout_s: float) -> Mapping[Probe, Answer]:
        return {probe: self._one(probe) for probe in probes}

    def _one(self, probe: Probe) -> Answer:
        self.sent.append(probe)
        if len(self.sent) in self.lost:
            return SILENCE
        for hop, carries in enumerate(self.links):
            if hop and probe.ttl == hop:
                return SILENCE if hop in self.mute else Answer(Outcome.HOP, router(hop))
            if probe.octets > carries:
                if hop == 0:
                    return Answer(Outcome.TOO_BIG)
                return Answer(Outcome.TOO_BIG, router(hop), carries) if hop in self.polite else SILENCE
        return Answer(Outcome.REACHED) if self.answers else SILENCE


@pytest.mark.parametrize(
    ("way", "found"),
    [
        pytest.param(Way((1500, 1500, 1500)), Carries(1500), id="all of it"),
        pytest.param(Way((1500, 1500), lost=frozenset({1})), Carries(1500), id="one lost packet is no finding"),
        pytest.param(Way((1500, 1400, 1500), polite=frozenset({1})), Carries(1400, router(1)), id="a router says so"),
        pytest.param(
            Way((1500, 1480, 1400, 1500), polite=frozenset({1, 2})), Carries(1400, router(2)), id="two say so"
        ),
        pytest.param(Way((1500, 1400, 1500)), Carries(1400, silent=True), id="nobody says so"),
        pytest.param(Way((1500, 1499)), Carries(1499, silent=True), id="one octet too many"),
        pytest.param(Way((1500, 576)), Carries(576, silent=True), id="the smallest there is"),
        pytest.param(
            Way((1500, 1480, 1400), polite=frozenset({1})),
            Carries(1400, router(1), silent=True),
            id="one says so, the next does not",
        ),
        pytest.param(Way((1450, 1500)), Carries(1450, reason="our own device"), id="our own link"),
        pytest.param(
            Way((1500,), answers=False), Carries(0, reason="no answer to a packet of any size"), id="nobody there"
        ),
    ],
)
def test_how_much_a_way_carries(way: Way, found: Carries) -> None:
    assert how_much(way, FULL, timeout_s=0) == found


def test_a_size_is_found_with_few_packets() -> None:
    way = Way((1500, 1411, 1500))
    assert how_much(way, FULL, timeout_s=0).octets == 1411
    assert len(way.sent) < 80


def hole(last: int, beyond: int, *, mute: bool = False) -> BlackHole:
    return BlackHole(Hop(last, None if mute or not last else router(last)), Hop(beyond, router(beyond)))


@pytest.mark.parametrize(
    ("way", "found"),
    [
        pytest.param(Way((1500, 1500, 1400, 1500)), hole(2, 3), id="in the middle"),
        pytest.param(Way((1500, 1400, 1500, 1500)), hole(1, 2), id="at the first router"),
        pytest.param(Way((1500, 1500, 1500, 1400, 1500)), hole(3, 4), id="before the last"),
        pytest.param(Way((1500, 1500, 1400)), BlackHole(Hop(2, router(2)), Hop(3, None)), id="at the last router"),
        pytest.param(
            Way((1500, 1500, 1400, 1500, 1500), mute=frozenset({3})), hole(2, 4), id="one is silent behind it"
        ),
        pytest.param(
            Way((1500, 1500, 1400, 1500, 1500), mute=frozenset({2})), hole(1, 3), id="the one that swallows is silent"
        ),
        pytest.param(Way((1500, 1500, 1400, 1500), answers=False), hole(2, 3), id="the end answers nobody"),
        pytest.param(Way((1500, 1500, 1500, 1500)), None, id="there is none"),
        pytest.param(Way((1500, 1500, 1500), mute=frozenset({1, 2})), None, id="nobody tells, all arrives"),
        pytest.param(Way((1500, 1500, 1500), lost=frozenset({2, 9})), None, id="two lost packets"),
        pytest.param(Way(tuple([1500] * 13 + [1400] + [1500] * 5)), hole(13, 14), id="far away"),
    ],
)
def test_a_hole_is_named_by_the_last_router_that_large_packets_reach(way: Way, found: BlackHole | None) -> None:
    assert black_hole(way, FULL, timeout_s=0)[0] == found


def test_the_hops_are_told_as_far_as_they_tell_themselves() -> None:
    _, seen = black_hole(Way((1500,) * 4, mute=frozenset({2}), answers=False), FULL, timeout_s=0)
    assert [str(hop) for hop in seen] == ["hop 1 (198.18.0.1)", "hop 2 (silent)", "hop 3 (198.18.0.3)"]


def test_a_way_without_any_answer_ends() -> None:
    way = Way((1500,) * 4, mute=frozenset({1, 2, 3}), answers=False)
    assert black_hole(way, FULL, timeout_s=0) == (None, ())
    assert len(way.sent) < 40
