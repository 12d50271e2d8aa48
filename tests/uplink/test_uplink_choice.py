"""Who carries what, by the states of all uplinks."""

import pytest

from dmvpn.uplink.choice import Candidate, Choice, choose, preferred, serving
from dmvpn.uplink.health import State


def uplinks(words: str, weights: tuple[int, ...] = (0, 0, 0)) -> tuple[Candidate, ...]:
    """One letter each: O online, d disconnecting, f offline, c connecting, x no link."""
    states = {"O": State.ONLINE, "d": State.DISCONNECTING, "f": State.OFFLINE, "c": State.CONNECTING}
    return tuple(
        Candidate(f"isp{number}", states.get(letter, State.DISABLED), letter != "x", weight)
        for number, (letter, weight) in enumerate(zip(words, weights, strict=False), start=1)
    )


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        pytest.param("OO", ("isp1", "isp2"), id="all in the file's order"),
        pytest.param("fO", ("isp2",), id="a dead one is left"),
        pytest.param("dO", ("isp1", "isp2"), id="a doubt is no death"),
        pytest.param("cO", ("isp2",), id="one on its way up has to prove itself"),
        pytest.param("fc", ("isp2",), id="of none that works the one that comes"),
        pytest.param("ff", ("isp1", "isp2"), id="perhaps only the targets are dead"),
        pytest.param("fx", ("isp1",), id="what has no link cannot work"),
        pytest.param("xx", (), id="nothing is there"),
    ],
)
def test_who_serves(words: str, expected: tuple[str, ...]) -> None:
    assert serving(uplinks(words)) == expected


@pytest.mark.parametrize(
    ("words", "weights", "shared"),
    [
        pytest.param("OOO", (2, 1, 0), (("isp1", 2), ("isp2", 1)), id="by weight, and a reserve"),
        pytest.param("OfO", (2, 1, 0), (), id="one has all"),
        pytest.param("OOO", (0, 0, 0), (), id="nobody asked"),
        pytest.param("fff", (1, 1, 1), (("isp1", 1), ("isp2", 1), ("isp3", 1)), id="all are tried"),
    ],
)
def test_who_shares(words: str, weights: tuple[int, ...], shared: tuple[tuple[str, int], ...]) -> None:
    found = choose(uplinks(words, weights))
    assert found == Choice(serving(uplinks(words)), shared)


@pytest.mark.parametrize(
    ("words", "over", "expected"),
    [
        pytest.param("OO", ("isp2", "isp1"), "isp2", id="over is the order"),
        pytest.param("Of", ("isp2", "isp1"), "isp1", id="the next one"),
        pytest.param("Of", ("isp2",), "isp2", id="never over one that it may not use"),
        pytest.param("xO", ("isp1",), None, id="no link at all"),
        pytest.param("OO", ("isp9",), None, id="none of ours"),
    ],
)
def test_what_a_tunnel_goes_over(words: str, over: tuple[str, ...], expected: str | None) -> None:
    assert preferred(over, uplinks(words)) == expected
