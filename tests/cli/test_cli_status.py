"""What `status` says of a cloud's plane and of what is wrong."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dmvpn.cli import observe
from dmvpn.operations import change, here, linkage, observing


@pytest.mark.parametrize(
    ("plane", "aes", "said"),
    [
        pytest.param("kernel", True, "blue: kernel plane, AES in the processor\n", id="kernel"),
        pytest.param("kernel", False, "blue: kernel plane, no AES in the processor\n", id="kernel, slow"),
        pytest.param(
            "userspace", True, "blue: userspace plane, AES in the processor, GRE socket bound\n", id="userspace"
        ),
    ],
)
def test_the_plane_and_the_processor(
    plane: str, aes: object, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cloud = SimpleNamespace(
        name="blue", addresses=("10.255.1.1",), role="hub", device="blue", mtu_octets=1400, plane=plane,
        encrypted=True, socket="bound", drops={},
    )  # fmt: skip
    found = SimpleNamespace(
        uptime_s=1.0, router="hq1", network="acme", transport="100.64.0.1", charon="charon 5.9", clouds=(cloud,),
        aes=aes, guards={}, peers=(), troubles=(), gateways=(), uplinks=(),
    )  # fmt: skip
    monkeypatch.setattr(here, "find", lambda _network: Path())
    monkeypatch.setattr(change, "standing", lambda _place: None)
    monkeypatch.setattr(linkage, "rows", lambda _place: ())
    monkeypatch.setattr(observing, "status", lambda _place: found)
    observe.status()
    assert said in capsys.readouterr().out


def test_every_trouble_has_a_line_and_the_worst_is_the_last(capsys: pytest.CaptureFixture[str]) -> None:
    observe._say_troubles([(severity, f"line {severity}") for severity in (3, 2, 1)])
    assert capsys.readouterr().out.splitlines() == ["line 1", "line 2", "line 3"]


def test_of_many_troubles_the_worst_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    observe._say_troubles([(1, f"line {number}") for number in range(40)])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"and {40 - observe.TROUBLES_TOLD} that weigh less: dmvpn status --json"
    assert (len(lines), lines[-1]) == (observe.TROUBLES_TOLD + 1, "line 0")


@pytest.mark.parametrize(
    ("counters", "line"),
    [
        pytest.param({"gre_clear_in": 3}, "", id="no policy"),
        pytest.param(
            {"dropped.in.lan": 0}, "firewall: policy in force, dropped since it was loaded: nothing\n", id="nothing yet"
        ),
        pytest.param(
            {
                "dropped.in.internet": 12,
                "dropped.through.internet-only": 3,
                "dropped.out.elsewhere": 2,
                "dropped.policy.rules.4": 40,
                "dropped.forged": 1,
                "dropped.lost": 7,
            },
            "firewall: policy in force, dropped since it was loaded: by policy.rules.4 40,"
            " from internet to the router 12, for internal addresses without a tunnel 7, from internet-only 3,"
            " from the router to elsewhere 2, with a forged internal source 1\n",
            id="by what it was stopped",
        ),
    ],
)
def test_what_the_policy_dropped(counters: dict[str, int], line: str, capsys: pytest.CaptureFixture[str]) -> None:
    observe._say_dropped(counters)
    assert capsys.readouterr().out == line


@pytest.mark.parametrize(
    ("state", "serves", "verb"),
    [
        ("online", True, "carries blue to hq1"),
        ("disconnecting", True, "carries blue to hq1"),
        ("connecting", False, "carries blue to hq1"),
        pytest.param("offline", True, "carries blue to hq1", id="the last one there is"),
        ("offline", False, "SAs still stand: blue to hq1"),
        ("disabled", False, "SAs still stand: blue to hq1"),
    ],
)
def test_an_uplink_carries_or_its_sas_have_not_ended_yet(state: str, serves: object, verb: str) -> None:
    row: Any = SimpleNamespace(
        name="isp1", device="eth0", state=state, why="so", since_s=1.0, loss=None, latency_ms=None, serves=serves,
        tunnels=("blue to hq1",),
    )  # fmt: skip
    assert observe._uplink_line(row).endswith(verb)
