"""Changing a router that runs: revisions, what is touched, what comes back, what is refused."""

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from vpn_lab import NETWORKS, Vpn, until

from dmvpn.doctor.report import Outcome
from dmvpn.errors import Fault
from dmvpn.lab import private
from dmvpn.linux import namespaces
from dmvpn.operations import transactions

NETWORK = "trio"
pytestmark = pytest.mark.lab

FILE = "/root.yaml"
TEXT = NETWORKS["trio"].read_text()
LAN = "networks: {lan: {port: eth1, prefix: 10.1.12.0/24}}"
SECOND_LAN = TEXT.replace(LAN, LAN[:-1] + ", shop: {port: eth2, prefix: 10.1.112.0/24}}")


@pytest.fixture(autouse=True)
def _as_it_was(vpn: Vpn) -> Iterator[None]:
    """Every test begins with a second port, and ends with the lab's own file in force."""
    vpn.run("par1", "ip", "link", "add", "eth2", "type", "veth", "peer", "name", "shop")
    yield
    assert _apply(vpn, TEXT).status == 0


def _apply(vpn: Vpn, text: str, *words: str) -> Any:
    path = f"/run/{vpn.lab.network}.yaml"
    vpn.write("par1", path, text)
    return vpn.dmvpn("par1", "apply", path, *words)


def _applied(vpn: Vpn, text: str) -> dict[str, Any]:
    answer = _apply(vpn, text, "--json")
    assert answer.status == 0, answer.stderr
    return dict(json.loads(answer.stdout))


def _history(vpn: Vpn) -> dict[str, Any]:
    return dict(vpn.json("par1", "history"))


def _pids(vpn: Vpn) -> dict[str, int | None]:
    return {name: row.pid for name, row in vpn.services("par1").items()}


def _hub_knows_the_second_lan(vpn: Vpn) -> bool:
    return "via 10.255.1.12" in vpn.run("hq1", "ip", "route", "show", "10.1.112.0/24").text


def test_a_changed_file_is_a_new_revision_and_touches_what_it_concerns(vpn: Vpn) -> None:
    before = _history(vpn)["in_force"]
    pids = _pids(vpn)
    plan = _planned(vpn, SECOND_LAN)
    assert plan.status == 2
    assert "+  network 10.1.112.0/24" in plan.text

    done = _applied(vpn, SECOND_LAN)
    assert (done["previous"], done["revision"]) == (before, before + 1)
    prefix = f"dmvpn-{vpn.lab.network}-"
    touched = {name.removeprefix(prefix) for names in done["units"].values() for name in names}
    assert {"network", "bgpd"} <= touched
    assert not touched & {"charon", "zebra", "gre", "frr-run"}
    after = _pids(vpn)
    assert {name: after[name] for name in ("charon", "zebra", "gre", "bgpd")} == {
        name: pids[name] for name in ("charon", "zebra", "gre", "bgpd")
    }
    assert "10.1.112.1/24" in vpn.run("par1", "ip", "-4", "addr", "show", "dev", "eth2").text
    until("the hub refuses the new LAN", lambda: vpn.drops("hq1").get("bgp prefix"), within_s=20)
    assert not _hub_knows_the_second_lan(vpn)
    assert _planned(vpn, SECOND_LAN).status == 0
    told = _apply(vpn, SECOND_LAN).text.splitlines()
    assert told[-1] == f"revision {before + 1} stays in force: nothing changed"
    assert "does not claim 10.1.112.0/24" in told[0], "the certificate is older than the second LAN"
    (found,) = [one for one in vpn.examined("par1") if one.check == "certificate"]
    assert (found.outcome, "does not claim 10.1.112.0/24" in found.what) == (Outcome.FAILED, True), found

    assert vpn.dmvpn("par1", "rollback").status == 0
    assert _history(vpn)["in_force"] == before + 2
    until("the hub forgets it", lambda: not _hub_knows_the_second_lan(vpn), within_s=20)
    assert "10.1.112.1/24" not in vpn.run("par1", "ip", "-4", "addr", "show", "dev", "eth2").text
    with vpn.flow("paris-pc", "lyon-pc") as flow:
        flow.until("direct", within_s=20)
    assert vpn.dmvpn("par1", "plan").status == 0


def _planned(vpn: Vpn, text: str) -> Any:
    path = f"/run/{vpn.lab.network}.yaml"
    vpn.write("par1", path, text)
    return vpn.dmvpn("par1", "plan", path)


def test_a_direct_flow_runs_on_through_an_apply_and_a_rollback(vpn: Vpn) -> None:
    with vpn.flow("paris-pc", "lyon-pc") as flow:
        flow.until("direct", within_s=20)
        flow.mark()
        _applied(vpn, SECOND_LAN)
        assert vpn.dmvpn("par1", "rollback").status == 0
        flow.until("direct", within_s=5)
        assert flow.lost() == []


def test_what_charon_refuses_leaves_the_revision_in_force(vpn: Vpn) -> None:
    """The file is well-formed; only charon knows that it has no such group."""
    crypto = "crypto: {strange: {ike: aes256gcm16-prfsha384-ecp999}}\n\nclouds:\n  blue: {crypto: strange, "
    before, pids = _history(vpn), _pids(vpn)
    answer = _apply(vpn, TEXT.replace("clouds:\n  blue: {", crypto))
    assert answer.status == 1
    assert answer.stderr.decode().startswith("dmvpn: check strongswan: ")
    assert answer.stderr.decode().count("\n") == 1
    assert f"revision {before['in_force']} is in force" in answer.stderr.decode()
    assert (_history(vpn), _pids(vpn)) == (before, pids)


def test_a_wrong_file_changes_nothing_and_names_the_place(vpn: Vpn) -> None:
    before = _history(vpn)
    answer = _apply(vpn, TEXT.replace("phase: 3", "fase: 3"))
    assert answer.status == 2
    assert ".yaml:9:" in answer.stderr.decode()
    assert _history(vpn) == before


def test_history_says_who_why_and_which(vpn: Vpn) -> None:
    assert _apply(vpn, SECOND_LAN, "--message", "a shop opens").status == 0
    history = _history(vpn)
    newest = history["revisions"][-1]
    assert (newest["number"], newest["message"]["why"]) == (history["in_force"], "a shop opens")
    last = vpn.dmvpn("par1", "history").text.splitlines()[-1].split()
    assert last[0] == f"{newest['number']}*"
    assert " ".join(last[-3:]) == "a shop opens"


def test_a_process_of_a_lab_does_not_change_the_host(vpn: Vpn, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(namespaces.LAB_VARIABLE, vpn.lab.name)
    monkeypatch.setattr(transactions, "LAB_MARKER", tmp_path / ".lab")
    with pytest.raises(Fault, match=f"lab {vpn.lab.name} runs here, but .* is the host's"):
        transactions.refuse_to_change()


def test_every_process_of_a_lab_says_which_it_belongs_to(vpn: Vpn) -> None:
    assert transactions.LAB_MARKER == private.MARKER
    assert vpn.run("par1", "printenv", namespaces.LAB_VARIABLE).text.strip() == vpn.lab.name
    assert vpn.node("par1").call(partial(Path.read_text, private.MARKER)).strip() == vpn.lab.name
