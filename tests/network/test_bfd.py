"""`bfd` in a cloud: a word or its times, and what the Plan says of it."""

from pathlib import Path

import pytest

from dmvpn.errors import Problems
from dmvpn.network.compile import compile_plan
from dmvpn.network.loading import load
from dmvpn.network.plan import Bfd

MINIMAL = (Path(__file__).parents[2] / "examples" / "minimal.yaml").read_text()


def _with(words: str) -> str:
    overlay = "overlay: [10.255.1.0/24]"
    assert overlay in MINIMAL
    return MINIMAL.replace(overlay, f"{overlay}, bfd: {words}" if words else overlay)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        pytest.param("", None, id="not a word"),
        pytest.param("false", None, id="no"),
        pytest.param("true", Bfd(250, 3), id="yes, as we would"),
        pytest.param("{interval: 100ms}", Bfd(100, 3), id="faster"),
        pytest.param("{interval: 1, multiplier: 5}", Bfd(1000, 5), id="over a satellite"),
    ],
)
def test_a_cloud_has_the_bfd_that_the_file_says(words: str, expected: Bfd | None) -> None:
    network = load(_with(words), "site.yaml")
    for router in ("hq1", "par1"):
        assert compile_plan(network, router, secrets={}).clouds[0].bfd == expected


@pytest.mark.parametrize(
    ("words", "said"),
    [
        pytest.param(
            "{interval: 5ms}", "5ms is out of range for a time between BFD packets; use 0.05 to 10", id="fast"
        ),
        pytest.param(
            "{multiplier: 1}", "1 is out of range for a BFD multiplier; use 2 to 50", id="one loss is no death"
        ),
        pytest.param("maybe", "maybe", id="neither"),
    ],
)
def test_what_bfd_cannot_be_is_refused(words: str, said: str) -> None:
    with pytest.raises(Problems) as caught:
        load(_with(words), "site.yaml")
    assert said in str(caught.value)
