"""What the terminal room writes: times, sizes, tables, JSON; colour only where a person looks."""

import json
import os
import pty
import subprocess
import sys
from dataclasses import dataclass
from ipaddress import ip_address

import pytest

from dmvpn.cli import text
from dmvpn.daemon.control import State


@pytest.mark.parametrize(
    ("seconds", "written"),
    [
        pytest.param(None, "-", id="not known"),
        pytest.param(0.0, "0.0s", id="now"),
        pytest.param(0.04, "0.0s", id="nearly now"),
        pytest.param(3.21, "3.2s", id="tenths"),
        pytest.param(9.94, "9.9s", id="the last with tenths"),
        pytest.param(10.0, "10s", id="whole seconds"),
        pytest.param(59.99, "59s", id="not a minute yet"),
        pytest.param(60.0, "1m00s", id="a minute"),
        pytest.param(432.0, "7m12s", id="minutes"),
        pytest.param(3599.9, "59m59s", id="not an hour yet"),
        pytest.param(3600.0, "1h00m", id="an hour"),
        pytest.param(7500.0, "2h05m", id="hours"),
        pytest.param(86399.0, "23h59m", id="not a day yet"),
        pytest.param(86400.0, "1d0h", id="a day"),
        pytest.param(273600.0, "3d4h", id="days"),
        pytest.param(86400.0 * 800, "800d0h", id="years"),
    ],
)
def test_a_length_of_time(seconds: float | None, written: str) -> None:
    assert text.duration(seconds) == written


@pytest.mark.parametrize(
    ("count", "written"),
    [
        pytest.param(0, "0B", id="none"),
        pytest.param(999, "999B", id="octets"),
        pytest.param(1000, "1.0kB", id="a thousand"),
        pytest.param(1250, "1.2kB", id="tenths"),
        pytest.param(99_900, "99.9kB", id="the last with tenths"),
        pytest.param(100_000, "100kB", id="whole thousands"),
        pytest.param(1_000_000, "1.0MB", id="a million"),
        pytest.param(123_456_789, "123MB", id="millions"),
        pytest.param(10**9, "1.0GB", id="a billion"),
        pytest.param(5 * 10**12, "5.0TB", id="more"),
        pytest.param(10**16, "10000.0TB", id="more than anybody carries"),
    ],
)
def test_a_count_of_octets(count: int, written: str) -> None:
    assert text.octets(count) == written


@dataclass(frozen=True)
class Row:
    address: object
    state: State


def test_json_is_what_the_table_is_made_of(capsys: pytest.CaptureFixture[str]) -> None:
    text.say_json((Row(ip_address("10.0.0.1"), State.VIA_HUB),))
    assert json.loads(capsys.readouterr().out) == [{"address": "10.0.0.1", "state": "via hub"}]


def test_a_table_can_be_cut_and_grepped(capsys: pytest.CaptureFixture[str]) -> None:
    text.say_table(("NAME", "STATE"), [("par1", "direct"), ("a-much-longer-name", "down (no [SA])"), ("x" * 200, "up")])
    said = capsys.readouterr()
    assert [line.split() for line in said.out.splitlines()] == [
        ["NAME", "STATE"],
        ["par1", "direct"],
        ["a-much-longer-name", "down", "(no", "[SA])"],
        ["x" * 200, "up"],
    ]
    assert "\x1b" not in said.out


@pytest.mark.parametrize(
    "line",
    [
        pytest.param("[bold]not markup[/bold] [/]", id="brackets"),
        pytest.param("a" * 500, id="longer than a terminal"),
        pytest.param("10:20 'text' 3.14", id="numbers and quotes"),
        pytest.param("network.yaml:100:5: unknown key", id="line 100"),
        pytest.param("fe80::a:b:1 is down", id="an IPv6 address"),
    ],
)
def test_a_line_is_written_as_it_is(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    text.say(line)
    text.complain(line)
    said = capsys.readouterr()
    assert (said.out, said.err) == (f"{line}\n", f"{line}\n")


def test_colour_is_for_people(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    text.say("up", style="green")
    assert "\x1b[32m" in capsys.readouterr().out
    monkeypatch.setenv("NO_COLOR", "1")
    text.say("up", style="green")
    assert "\x1b[32m" not in capsys.readouterr().out


@pytest.mark.parametrize(
    "cell",
    [
        pytest.param("[SA]", id="brackets"),
        pytest.param("\\[", id="a backslash"),
        pytest.param("fe80::a:b:1", id="an IPv6 address"),
    ],
)
def test_a_cell_is_written_as_it_is(cell: str, capsys: pytest.CaptureFixture[str]) -> None:
    text.say_table(("PEER",), [(cell,)])
    assert capsys.readouterr().out.splitlines()[1].strip() == cell


WAIT = """
from dmvpn.cli.text import Waiting, say
Waiting.AFTER_S = float({after_s})
with Waiting() as waiting:
    waiting.about("the way to hq1")
    waiting.pause()
    say("a finding")
"""


@pytest.mark.parametrize(("after_s", "shown"), [pytest.param(0, True, id="long"), pytest.param(60, False, id="short")])
def test_what_is_waited_for_is_shown_on_a_terminal_after_a_while(after_s: float, *, shown: bool) -> None:
    ours, theirs = pty.openpty()
    try:
        argv = (sys.executable, "-c", WAIT.format(after_s=after_s))
        env = {**os.environ, "TERM": "xterm", "COLUMNS": "80"}
        done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=theirs, env=env, timeout=60, check=True)
    finally:
        os.close(theirs)
    assert done.stdout == b"a finding\n"
    os.set_blocking(ours, *(False,))
    try:
        seen = os.read(ours, 65536)
    except (BlockingIOError, OSError):
        seen = b""
    finally:
        os.close(ours)
    assert (b"the way to hq1" in seen) is shown
