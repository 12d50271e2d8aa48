"""When a router may have the site's gateway: not before its routes stay, no longer than they do."""

from pathlib import Path

import pytest

from dmvpn.daemon.gateway import SILENCE_S, STEADY_S, Standing, begin, meaning


def seen(standing: Standing, at: float, *, works: bool | None) -> bool:
    return standing.see(at, works=works)


def test_a_router_that_starts_waits_until_its_routes_have_stayed() -> None:
    standing = Standing()
    assert not seen(standing, 0, works=False)
    assert not seen(standing, 1, works=True)
    assert not seen(standing, 1 + STEADY_S - 0.1, works=True)
    assert seen(standing, 1 + STEADY_S, works=True)


def test_the_last_tunnel_gone_is_told_at_once_and_a_flapping_one_is_none() -> None:
    standing = Standing()
    seen(standing, 0, works=True)
    assert seen(standing, STEADY_S, works=True)
    assert not seen(standing, STEADY_S + 1, works=False)
    at = STEADY_S + 2
    while at < 60:
        assert not seen(standing, at, works=True)
        assert not seen(standing, at + STEADY_S - 1, works=False)
        at += STEADY_S


def test_a_daemon_that_is_away_changes_nothing_for_a_while() -> None:
    standing = Standing()
    seen(standing, 0, works=True)
    assert seen(standing, STEADY_S, works=True)
    assert seen(standing, STEADY_S + SILENCE_S - 1, works=None)
    assert not seen(standing, STEADY_S + SILENCE_S, works=None)
    assert not Standing().see(0, works=None), "of one that never answered nothing good is known"


@pytest.mark.parametrize("silence_s", [30, 2 * SILENCE_S])
def test_what_works_after_a_silence_has_to_stay_first(silence_s: float) -> None:
    standing = Standing()
    seen(standing, 0, works=True)
    assert not seen(standing, silence_s, works=None)
    assert not seen(standing, silence_s + 1, works=True)
    assert seen(standing, silence_s + 1 + STEADY_S, works=True)


@pytest.mark.parametrize(("text", "good"), [("0\n", True), ("-100\n", False), ("", False), (None, False)])
def test_a_watcher_that_starts_goes_on_with_what_the_last_one_wrote(
    tmp_path: Path, text: str | None, *, good: bool
) -> None:
    file = tmp_path / "tunnels"
    if text is not None:
        file.write_text(text)
    standing = begin(file, now=5)
    assert seen(standing, 6, works=None) is good
    assert not seen(standing, 5 + SILENCE_S, works=None)


@pytest.mark.parametrize(
    ("answer", "works"),
    [
        ({"tunnel": True, "routes": True}, True),
        ({"tunnel": False, "routes": True}, False),
        ({"tunnel": True, "routes": False}, False),
        pytest.param({"tunnel": None, "routes": True}, None, id="dmvpnd has not seen charon yet"),
        pytest.param({"fault": "x"}, None, id="another dmvpnd's words"),
    ],
)
def test_what_an_answer_says(answer: dict[str, object], *, works: bool | None) -> None:
    assert meaning(answer) is works
