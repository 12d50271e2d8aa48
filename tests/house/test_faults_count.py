"""What `make faults` prints can be something else than n of n."""

import subprocess
from pathlib import Path

import pytest

import dying

ROOT = Path(__file__).parents[2]


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / ".faults"
    monkeypatch.setenv("DMVPN_FAULTS", str(path))
    return path


def count(planned: int, places: dict[str, str], ends: str = "") -> None:
    """By place what was wrong afterwards; `ends` is what then ends the test."""
    with dying.counted("killed", planned) as count:
        for place, trouble in places.items():
            count.saw(place, trouble)
        if ends:
            raise OSError(ends)


@pytest.mark.parametrize(
    ("planned", "places", "ends", "says", "line"),
    [
        pytest.param(2, ("", "torn"), "", "rename 1: torn", "1 of 2", id="one was bad"),
        pytest.param(3, ("", "torn", ""), "", "rename 1: torn", "2 of 3", id="one was bad, and the others are tried"),
        pytest.param(40, ("",), "no strace", "no strace", "1 of 40", id="it ended half-way"),
        pytest.param(2, ("",), "", "1 places tried of 2 planned", "1 of 2", id="one was passed over"),
    ],
)
def test_a_test_that_fails_has_told_what_was_good_of_what_was_planned(
    told: Path, planned: int, places: tuple[str, ...], ends: str, says: str, line: str
) -> None:
    with pytest.raises((AssertionError, OSError), match=says):
        count(planned, {f"rename {number}": trouble for number, trouble in enumerate(places)}, ends)
    assert told.read_text() == f"killed: {line}\n"


def test_what_was_not_reached_is_not_good(told: Path) -> None:
    with dying.counted("killed", 2) as count:
        count.saw("rename 1")
        count.missed("sendto 9")
    assert told.read_text() == "killed: 1 of 2; 1 not reached\n"


def test_the_sum_has_what_was_not_reached(tmp_path: Path) -> None:
    """The Makefile's own words, without the runs before them."""
    (tmp_path / ".faults").write_text("an apply: old or new: 5 of 7\na router: 40 of 43; 3 not reached\n")
    recipe = (ROOT / "Makefile").read_text().partition("\nfaults:")[2].partition("\n\n")[0]
    words = recipe[recipe.index("awk") : recipe.index(" .faults;")].replace("$$", "$").replace("\\\n", "")
    done = subprocess.run(("sh", "-c", f"{words} .faults"), cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "45 of 50; 3 not reached"
