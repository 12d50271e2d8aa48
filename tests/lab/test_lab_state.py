"""The state directory: one lab a name, and a sweep that removes dead labs' files only."""

import os
import signal
from pathlib import Path

import pytest

from dmvpn.errors import Fault, WrongInput
from dmvpn.lab import running, state


def test_a_second_lab_of_a_name_is_refused(tmp_path: Path) -> None:
    claim = state.claim("one", tmp_path)
    with pytest.raises(Fault) as caught:
        state.claim("one", tmp_path)
    assert str(caught.value) == "lab one: is up already; run: dmvpn lab down --name one"
    claim.discard()
    assert not (tmp_path / "one").exists()


def test_somebody_who_looks_for_dead_labs_meanwhile_is_not_taken_for_a_living_one(tmp_path: Path) -> None:
    """Whoever looks holds the lock for a moment. One child of ours does nothing else."""
    looking = os.fork()
    if looking == 0:
        while True:
            state.sweep(tmp_path)
    try:
        for turn in range(300):
            state.claim(f"new{turn}", tmp_path).discard()
    finally:
        os.kill(looking, signal.SIGKILL)
        os.waitpid(looking, 0)


@pytest.mark.parametrize("name", ["", "..", "a/b", "A", "-a", "a" * 33, "a b"])
def test_a_name_that_could_be_a_path_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(WrongInput):
        state.claim(name, tmp_path)


def test_a_sweep_leaves_living_labs_alone(tmp_path: Path) -> None:
    claim = state.claim("alive", tmp_path)
    state.describe(claim.directory, {})
    assert state.sweep(tmp_path) == ()
    assert state.living(tmp_path) == ("alive",)
    claim.discard()


def test_with_a_second_lab_a_command_must_say_which(tmp_path: Path) -> None:
    claims = []
    for name, several in (("one", False), ("two", True)):
        claims.append(state.claim(name, tmp_path))
        state.describe(claims[-1].directory, {})
        assert running.are_several(tmp_path) is several
    for claim in claims:
        claim.discard()


def test_a_sweep_removes_a_dead_lab_and_nothing_else(tmp_path: Path) -> None:
    claim = state.claim("dead", tmp_path)
    state.describe(claim.directory, {})
    foreign = tmp_path / "dead" / "notes.txt"
    foreign.write_text("mine")
    os.close(claim.lock)  # as the death of its holder does
    assert state.sweep(tmp_path) == ("dead",)
    assert [path.name for path in (tmp_path / "dead").iterdir()] == ["notes.txt"]
    assert state.sweep(tmp_path) == ()


def test_a_name_can_be_taken_again_after_a_death(tmp_path: Path) -> None:
    claim = state.claim("again", tmp_path)
    state.describe(claim.directory, {})
    os.close(claim.lock)
    second = state.claim("again", tmp_path)
    assert state.living(tmp_path) == ()
    second.discard()


def test_a_lab_that_is_not_up_is_named_with_those_that_are(tmp_path: Path) -> None:
    with pytest.raises(Fault) as caught:
        state.description("paris", tmp_path)
    assert str(caught.value) == "lab paris: is not up; no lab is up; start one with: dmvpn lab up FILE"
