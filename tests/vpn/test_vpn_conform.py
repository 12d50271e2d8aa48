"""`dmvpn nhrp conform` from a spoke against its hub, with real daemons on both sides."""

import json
from pathlib import Path

import pytest
from vpn_lab import Vpn, until

from dmvpn.nhrp.conformance.cases import CASES

pytestmark = pytest.mark.lab
NETWORK = "trio"
HUB, LYON = "10.255.1.1", "10.255.1.13"
# One NBMA address, and a cloud without a password.
NOT_APPLICABLE = {"second-place", "no-password", "wrong-password", "reply-password"}
RUN_S = 120.0


def test_an_address_in_use_is_left_alone_unless_agreed(vpn: Vpn) -> None:
    result = vpn.dmvpn("par1", "nhrp", "conform", HUB)
    assert result.status == 2
    assert b"--yes" in result.stderr


def test_our_hub_passes_and_stays_up(vpn: Vpn) -> None:
    words = ("nhrp", "conform", HUB, "--beyond", LYON, "--yes", "--json")
    result = vpn.dmvpn("par1", *words, timeout_s=RUN_S)
    rows = {row["case"]: row for row in json.loads(result.stdout)}
    assert list(rows) == [case.name for case in CASES]
    for name, row in rows.items():
        expected = "not applicable" if name in NOT_APPLICABLE else "pass"
        assert row["verdict"] == expected, row["why"]
        assert bool(row["turns"]) is (expected == "pass")
    assert result.status == 0
    # dmvpnd heard the answers too, and counted them as nobody's.
    assert vpn.drops("par1").get("nhrp unsolicited", 0) > 0, vpn.drops("par1")
    until("the registration is back", lambda: not vpn.unsettled("par1"), within_s=30.0)


def test_the_page_says_so() -> None:
    """The third column of the table in docs/interop.md."""
    lines = (Path(__file__).parents[2] / "docs" / "interop.md").read_text().splitlines()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if "|" in line]
    ours = {row[0]: row[2] for row in rows if row[0] in {case.name for case in CASES}}
    assert ours == {case.name: "not applicable" if case.name in NOT_APPLICABLE else "pass" for case in CASES}
