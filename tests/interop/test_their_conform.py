"""`dmvpn nhrp conform` from a router of ours against FRR's nhrpd: the verdicts are those of docs/interop.md."""

import json
from pathlib import Path

from mixed_lab import held, until

from dmvpn.nhrp.conformance.cases import CASES

LANS = {"frh": "10.1.0.1", "par1": "10.1.1.1", "frr1": "10.1.2.1"}
HUB, OURS, BEYOND = "10.255.1.1", "10.255.1.11", "10.255.1.12"
PAGE = Path(__file__).parents[2] / "docs" / "interop.md"
RUN_S = 1200.0


def of_the_page() -> dict[str, str]:
    """FRR's verdict by case, the last column but one of the table."""
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in PAGE.read_text().splitlines() if "|" in line]
    cases = {case.name for case in CASES}
    return {row[0]: row[3] for row in rows if row[0] in cases}


def test_frrs_verdicts_are_those_of_the_page(tmp_path: Path) -> None:
    with held("their-hub", LANS, tmp_path, clear=True) as mixed:
        until("a way through the hub", lambda: mixed.ping("par1", "frr1", 3) == 3, within_s=90)
        words = ("dmvpn", "nhrp", "conform", HUB, "--beyond", BEYOND, "--yes", "--json")
        said = mixed.run("par1", *words, timeout_s=RUN_S)
        rows = json.loads(said)
        verdicts = {row["case"]: row["verdict"] for row in rows}
        assert verdicts == of_the_page(), [row for row in rows if row["verdict"] != of_the_page().get(row["case"])]
        until("the registration is back", lambda: OURS in mixed.nhrp_cache("frh"), within_s=60)
        assert until("a ping as before", lambda: mixed.ping("par1", "frr1", 3) == 3, within_s=60)
