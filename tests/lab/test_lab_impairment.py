"""Impairments: their words, and that setting one keeps the others."""

import pytest

from dmvpn.errors import WrongInput
from dmvpn.lab.impairment import Change, Impairment

ROWS = [
    pytest.param(["delay=25ms"], Change(delay_s=0.025), id="delay"),
    pytest.param(["jitter=500us"], Change(jitter_s=0.0005), id="microseconds"),
    pytest.param(["loss=0.5%", "rate=50M"], Change(loss=0.005, rate_bps=50_000_000), id="loss and rate"),
    pytest.param(["rate=0"], Change(rate_bps=0), id="no limit any more"),
    pytest.param(["down"], Change(silent=True), id="down"),
    pytest.param(["up"], Change(silent=False), id="up"),
]


@pytest.mark.parametrize(("words", "change"), ROWS)
def test_words_become_a_change(words: list[str], change: Change) -> None:
    assert Change.parse(words) == change


@pytest.mark.parametrize(
    ("word", "fault"),
    [
        pytest.param("delay=25", "delay=25: is not a time up to 10 s; write something like 25ms", id="no unit"),
        pytest.param("delay=11s", "delay=11s: is not a time up to 10 s; write something like 25ms", id="too long"),
        pytest.param("loss=101%", "loss=101%: is not a share of packets; write something like 0.5%", id="over 100"),
        pytest.param("loss=1", "loss=1: is not a share of packets; write something like 0.5%", id="no percent"),
        pytest.param(
            "rate=10",
            "rate=10: is not a rate in bits per second; write something like 50M, or 0 for no limit",
            id="too slow",
        ),
        pytest.param(
            "down=1",
            "down=1: is no impairment; write delay=25ms jitter=2ms loss=1% rate=50M down up",
            id="down takes no value",
        ),
    ],
)
def test_a_word_that_is_no_impairment_is_refused(word: str, fault: str) -> None:
    with pytest.raises(WrongInput) as caught:
        Change.parse([word])
    assert str(caught.value) == fault


def test_a_change_leaves_what_it_does_not_name() -> None:
    before = Impairment(delay_s=0.02, rate_bps=1000)
    assert before.merged(Change(loss=0.1)) == Impairment(delay_s=0.02, loss=0.1, rate_bps=1000)


@pytest.mark.parametrize(
    ("impairment", "words", "netem"),
    [
        pytest.param(Impairment(), "clean", "netem limit 10000 delay 0us", id="clean"),
        pytest.param(
            Impairment(0.025, 0.002, 0.01, 50_000_000),
            "delay 25 ms, jitter 2 ms, loss 1%, rate 50M",
            "netem limit 10000 delay 25000us 2000us loss 1.000000% rate 50000000bit",
            id="everything",
        ),
        pytest.param(Impairment(0.025, silent=True), "down", "netem loss 100%", id="down"),
    ],
)
def test_an_impairment_has_its_words_for_people_and_for_tc(impairment: Impairment, words: str, netem: str) -> None:
    assert str(impairment) == words
    assert " ".join(impairment.netem()) == netem
    assert Impairment.from_json(impairment.to_json()) == impairment
