"""Looking on while a shortcut forms; and the rule set flushed under a router's feet."""

import json
import os
import signal
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from vpn_lab import Figure, Vpn, until

from dmvpn.linux import ruleset
from dmvpn.linux.services import Supervised
from dmvpn.operations import labs

NETWORK = "trio"
pytestmark = pytest.mark.lab
QUIET_S = 1.0  # in which what must not happen would have
BACK_LIMIT_S = 5.0  # the promise is one second; the rest is for a busy machine


def test_the_way_to_a_shortcut_is_told_as_it_goes_until_ctrl_c(vpn: Vpn, tmp_path: Path) -> None:
    vpn.forget()
    told = tmp_path / "told"
    with told.open("wb") as output:
        watching = vpn.node("par1").start(
            labs.inside(("dmvpn", "nhrp", "watch", "--json")), stdout=output, stderr=output
        )
        until("somebody looks on", lambda: _lines(told), within_s=10)  # the hub is probed every few seconds
        with vpn.flow("paris-pc", "lyon-pc") as flow:
            flow.until("direct", within_s=15)
        until("the shortcut is told", lambda: "shortcut up" in _kinds(told), within_s=5)
        # Not by timeout(1): that interrupts twice, and the second time tells a program to give up at once.
        program = int(Path(f"/proc/{watching.pid}/task/{watching.pid}/children").read_text())
        os.kill(program, signal.SIGINT)
        assert watching.wait(30) == 0
    kinds = _kinds(told)
    order = ["traffic indication", "resolution request", "shortcut up"]
    assert sorted(kinds.index(kind) for kind in order) == [kinds.index(kind) for kind in order]
    asked = next(one for one in _lines(told) if one["kind"] == "resolution request" and not one["probe"])
    answers = [one for one in _lines(told) if one["kind"] == "resolution reply" and not one["probe"]]
    assert (asked["source_name"], asked["target_name"]) == ("par1", "hq1")
    answer = next(one for one in answers if one["request_id"] == asked["request_id"])
    assert (answer["target_name"], answer["good"]) == ("par1", True)
    assert 0 < answer["answer_s"] < 5


def test_a_flushed_rule_set_comes_back_and_status_says_so(vpn: Vpn, figure: Figure) -> None:
    table = f"dmvpn_{vpn.lab.network}"
    assert vpn.status("par1").rules is not None
    before = vpn.node("par1").call(lambda: ruleset.listing(table))
    with vpn.flow("paris-pc", "lyon-pc") as flow:
        flow.until("direct", within_s=15)
        flow.mark()
        began = time.monotonic()
        assert vpn.run("par1", "nft", "flush", "ruleset").status == 0
        until("the table is back", lambda: _mended(vpn), within_s=BACK_LIMIT_S)
        assert time.monotonic() - began < BACK_LIMIT_S
        assert flow.lost() == []
    rules = vpn.status("par1").rules
    assert rules is not None
    assert rules.missing_s is not None
    assert rules.by.startswith("nft ")
    assert vpn.node("par1").call(lambda: ruleset.listing(table)) == before
    said = vpn.dmvpn("par1", "status")
    assert said.status == 3
    assert "the fail-closed rules were changed by nft" in said.text.splitlines()[-1]
    figure("rule set flushed: put back after", rules.missing_s)


def test_what_an_apply_does_to_the_table_is_no_damage(vpn: Vpn) -> None:
    before = vpn.status("lyo1").rules
    assert before is not None
    assert before.mended == 0
    services = Supervised(vpn.lab.network, Path(vpn.layout.run))
    vpn.node("lyo1").call(partial(services.reload, f"dmvpn-{vpn.lab.network}-nftables"))
    time.sleep(QUIET_S)
    after = vpn.status("lyo1").rules
    assert after is not None
    assert (after.mended, after.damaged_s) == (0, None)


def _mended(vpn: Vpn) -> bool:
    rules = vpn.status("par1").rules
    return rules is not None and rules.mended > 0


def _lines(told: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in told.read_text().splitlines(keepends=True) if line.endswith("\n")]


def _kinds(told: Path) -> list[str]:
    return [one["kind"] for one in _lines(told) if not one["probe"]]
