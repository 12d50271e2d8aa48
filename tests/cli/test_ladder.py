"""The ladder as a reader sees it: columns, arrows, notes; what does not fit is told in words, and nothing is hidden."""

import os
from dataclasses import replace
from pathlib import Path

import pytest
from dmvpn_command import dmvpn

from dmvpn.cli.ladder import FINE, PLAIN, Ladder, in_words
from dmvpn.operations.watching import Sighting, from_capture, pulse_folded, stations

CAPTURES = Path(os.environ.get("DMVPN_CAPTURES", Path(__file__).parents[3] / "shared" / "captures"))
PHASE_2 = CAPTURES / "networklessons-dmvpn-phase-2-nhrp-spoke-to-spoke-resolution.pcap"
NOON = 1_700_000_000.25  # 22:13:20.250 UTC


def packet(source: str, target: str, kind: str, about: str, **more: object) -> Sighting:
    seen = Sighting("packet", NOON, "blue", source=f"of {source}", source_name=source, target=f"of {target}")
    return replace(seen, target_name=target, kind=kind, about=about, request_id=7, **more)  # type: ignore[arg-type]


ASKED = packet("par1", "hq1", "resolution request", "who has 10.1.13.10?")
PASSED = packet("hq1", "lyo1", "resolution request", "who has 10.1.13.10?", relayed=True)
ANSWERED = packet("lyo1", "par1", "resolution reply", "10.1.13.0/24 at 100.64.0.13, 9 s", answer_s=0.0612)
REFUSED = packet("hq1", "par1", "registration reply", "prohibited", good=False, answer_s=0.0021)
UP = Sighting("happening", NOON, "blue", kind="shortcut up", about="10.1.13.0/24")


def drawn(ladder: Ladder, *seen: Sighting) -> list[str]:
    return ["".join(text for text, _ in line).rstrip() for one in seen for line in ladder.lines(one)]


def test_a_shortcut_as_a_chart() -> None:
    ladder = Ladder(130, FINE, "par1", ("par1", "hq1", "lyo1"), utc=True)
    assert drawn(ladder, ASKED, PASSED, ANSWERED, UP) == [
        "",
        "UTC                 par1             hq1            lyo1",
        "22:13:20.250          │── resolve ───▶│               │        who has 10.1.13.10?",
        "22:13:20.250          │               │── resolve ───▶│        who has 10.1.13.10? (passed on)",
        "22:13:20.250          │◀────────── resolved ──────────│        10.1.13.0/24 at 100.64.0.13, 9 s, after 61 ms",
        "22:13:20.250          ●               │               │        shortcut up: 10.1.13.0/24",
    ]


def test_a_terminal_without_such_letters_gets_plain_ones() -> None:
    ladder = Ladder(100, PLAIN, "par1", ("par1", "hq1"), utc=True)
    assert drawn(ladder, REFUSED)[-1] == "22:13:20.250         |<- refused --|       prohibited, after 2.1 ms"


def test_a_router_that_joins_gets_a_column_and_a_new_head() -> None:
    ladder = Ladder(120, FINE, "par1", ("par1", "hq1"), utc=True)
    lines = drawn(ladder, ASKED, ANSWERED)
    assert [line.split()[1:] for line in lines if line.startswith("UTC")] == [["par1", "hq1"], ["par1", "hq1", "lyo1"]]


def test_a_name_that_comes_later_keeps_its_column() -> None:
    ladder = Ladder(120, FINE, "par1", ("par1", "hq1"), utc=True)
    lines = drawn(ladder, replace(ANSWERED, source_name=""), ANSWERED)
    assert lines[1].split() == ["UTC", "par1", "hq1", "of", "lyo1"]
    assert lines[-2].split() == ["UTC", "par1", "hq1", "lyo1"]


def test_more_routers_than_fit_are_told_in_words() -> None:
    ladder = Ladder(80, FINE, "hq1", ("hq1",), utc=True)
    lines = drawn(ladder, *(packet(f"spoke{n}", "hq1", "registration request", f"I am {n}") for n in range(5)))
    assert [line for line in lines if "->" in line] == [
        f"22:13:20.250  spoke{n} -> hq1: registration request #7: I am {n}" for n in (2, 3, 4)
    ]


@pytest.mark.parametrize("width", range(68, 200, 11))
def test_no_line_is_wider_than_the_terminal_and_every_word_is_there(width: int) -> None:
    ladder = Ladder(width, FINE, "par1", ("par1", "hq1"), utc=True)
    lines = drawn(ladder, ASKED, PASSED, ANSWERED, REFUSED, UP)
    assert max(map(len, lines)) <= width
    words = " ".join(" ".join(lines).replace("│", " ").split())
    for part in ("who has 10.1.13.10?", "passed on", "100.64.0.13", "9 s", "61", "ms", "prohibited", "10.1.13.0/24"):
        assert part in words


def test_lost_lines_are_told() -> None:
    lost = Sighting("lost", NOON, count=12, good=False)
    assert "12 lines lost" in drawn(Ladder(100), lost)[-1]
    assert in_words(lost).startswith("12 lines lost")


# ---------------------------------------------------------------- pulses


def _probe(**more: object) -> Sighting:
    return packet("par1", "hq1", "resolution request", "who has 10.255.1.1?", probe=True, **more)


ALIVE = packet("hq1", "par1", "resolution reply", "10.255.1.1/32", probe=True, answer_s=0.03)


def test_of_probes_the_first_is_shown_and_then_only_what_is_missing() -> None:
    shown = list(pulse_folded([_probe(), ALIVE, _probe(), ALIVE, ASKED, _probe(), _probe(), _probe(), ALIVE, _probe()]))
    assert [(one.kind, one.good) for one in shown] == [
        ("resolution request", True),
        ("resolution reply", True),
        ("resolution request", True),  # what somebody asked
        ("resolution request", False),
        ("resolution request", False),
        ("resolution reply", True),  # and it is back
    ]
    assert [one.about for one in shown[3:5]] == [
        "who has 10.255.1.1? (1 without an answer)",
        "who has 10.255.1.1? (2 without an answer)",
    ]


# ---------------------------------------------------------------- captures


@pytest.mark.skipif(
    not PHASE_2.exists(), reason="no captures of real routers: set DMVPN_CAPTURES to a directory of them"
)
def test_ciscos_phase_2_from_a_capture() -> None:
    lines = [in_words(seen) for seen in from_capture(PHASE_2)]
    assert lines == [
        "192.168.123.2 -> 192.168.123.1: resolution request #3: who has 172.16.123.3?",
        "192.168.123.1 -> 192.168.123.3: resolution request #3: who has 172.16.123.3? (passed on)",
        "192.168.123.3 -> 192.168.123.2: resolution reply #3: 172.16.123.3/32 at 192.168.123.3, 7200 s, after 10 ms",
    ]
    assert stations(from_capture(PHASE_2)) == ("192.168.123.2", "192.168.123.1", "192.168.123.3")


def test_a_file_without_nhrp_says_so(tmp_path: Path) -> None:
    empty = tmp_path / "empty.pcap"
    empty.write_bytes(bytes.fromhex("d4c3b2a1020004000000000000000000ffff000001000000"))
    done = dmvpn("nhrp", "watch", str(empty))
    assert (done.status, done.err) == (1, "")
    assert done.out.startswith("no NHRP in it")
