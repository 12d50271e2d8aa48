"""What an operator reads: JSON with the stated fields, exit statuses, the last line of status in good days and bad."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from typing import Any

import pytest
from vpn_lab import NETWORKS, Vpn, until

from dmvpn.daemon.control import CacheRow, CloudRow, HubRow, NodeStatus, PathView, PeerRow, Step
from dmvpn.linux import process

NETWORK = "trio"
pytestmark = pytest.mark.lab

CISCO_HEADING = "# Ent  Peer NBMA Addr Peer Tunnel Add State  UpDn Tm Attrb"


def _names(of: type) -> set[str]:
    return {field.name for field in fields(of)}


def _direct(vpn: Vpn) -> None:
    with vpn.flow("paris-pc", "lyon-pc") as flow:
        flow.until("direct", within_s=20)


def test_status_has_its_fields_and_ends_well(vpn: Vpn) -> None:
    _direct(vpn)
    status = vpn.json("par1", "status")
    assert set(status) == {*_names(NodeStatus), "configuration", "links"}
    links = [(link["what"], link["condition"]) for link in status["links"]]
    assert links == [("uplink isp1", "up"), ("network lan", "up")]
    assert [(uplink["name"], uplink["state"]) for uplink in status["uplinks"]] == [("isp1", "online")]
    for rows, row in (("clouds", CloudRow), ("hubs", HubRow), ("peers", PeerRow), ("cache", CacheRow)):
        assert status[rows]
        assert all(set(one) == _names(row) for one in status[rows])
    assert status["troubles"] == []
    answer = vpn.dmvpn("par1", "status")
    assert (answer.status, answer.text.splitlines()[-1]) == (0, "good: nothing to do")


def test_peers_are_those_of_status(vpn: Vpn) -> None:
    _direct(vpn)
    rows = {(row["name"], row["kind"], row["state"]) for row in vpn.json("par1", "peers")}
    assert rows == {("hq1", "hub", "direct"), ("lyo1", "shortcut", "direct")}
    rows = {(row["name"], row["kind"], row["state"]) for row in vpn.json("hq1", "peers")}
    assert rows == {("par1", "client", "direct"), ("lyo1", "client", "direct")}


def test_explain_tells_every_router_on_the_way_there_and_back(vpn: Vpn) -> None:
    _direct(vpn)
    views = vpn.json("par1", "explain", "paris", "lyon")
    assert [view["router"] for view in views] == ["par1", "lyo1", "lyo1", "par1"]
    assert all(set(view) == _names(PathView) for view in views)
    assert all(set(step) == _names(Step) for view in views for step in view["steps"])
    assert all(step["good"] for view in views for step in view["steps"])
    views = vpn.json("par1", "explain", "hq", "lyon")
    assert [view["router"] for view in views] == ["hq1", "lyo1", "lyo1", "hq1"], "asked by a third one"


def test_ping_prints_the_path_of_each_answer(vpn: Vpn) -> None:
    vpn.forget()
    answers = vpn.json("par1", "ping", "lyon", "--until-direct", "-i", "0.1")
    assert answers[0]["path"] == "via hub"
    assert answers[-1]["path"] == "direct"
    assert {"sequence", "rtt_s", "path", "ttl"} == set(answers[0])
    assert all(answer["rtt_s"] is not None for answer in answers)
    text = vpn.dmvpn("par1", "ping", "lyon", "-c", "2", "-i", "0.1").text.splitlines()
    assert [line.endswith(" ms direct") for line in text[:2]] == [True, True]
    assert text[-1] == "2 sent, 0 lost, direct"


def test_until_direct_ends_after_the_count_that_was_asked_for(vpn: Vpn) -> None:
    vpn.forget()
    done = vpn.dmvpn("par1", "ping", "lyon", "--until-direct", "-c", "1")
    assert (done.status, done.text.splitlines()[-1]) == (1, "1 sent, 0 lost, via hub")


def test_show_dmvpn_has_ciscos_columns(vpn: Vpn) -> None:
    _direct(vpn)
    lines = [" ".join(line.split()) for line in vpn.dmvpn("par1", "show", "dmvpn").text.splitlines()]
    assert "Interface: trio-blue, IPv4 NHRP Details" in lines
    assert " ".join(CISCO_HEADING.split()) in lines
    attributes = {row["protocol"]: row["attributes"] for row in vpn.json("par1", "show", "dmvpn")}
    assert not any("IPv6" in line for line in lines), "a cloud of IPv4 alone"
    assert attributes["10.255.1.1"] == "S"
    assert attributes["10.1.13.0/24"] == "DT1"
    assert {row["attributes"] for row in vpn.json("hq1", "show", "dmvpn")} == {"D"}


def test_nhrp_events_tell_what_happened(vpn: Vpn) -> None:
    vpn.forget()
    _direct(vpn)
    events = vpn.json("par1", "nhrp", "events")
    assert set(events[0]) == {"age_s", "cloud", "happening", "subject", "detail"}
    happened = [event["happening"] for event in events]
    assert happened[-3:] == ["shortcut-wanted", "shortcut-connecting", "shortcut-up"]
    assert [event["age_s"] for event in events] == sorted((event["age_s"] for event in events), reverse=True)


def test_check_and_lab_status_and_history_and_plan_are_json(vpn: Vpn) -> None:
    dmvpn = process.find("dmvpn")
    assert json.loads(process.run((dmvpn, "check", str(NETWORKS["trio"]), "--json"), timeout_s=20).stdout) == []
    found = json.loads(process.run((dmvpn, "lab", "status", "--name", vpn.lab.name, "--json"), timeout_s=20).stdout)
    assert {"name", "network", "nodes", "links", "cuts", "emulator"} <= set(found)
    assert found["nodes"]["par1"] == "router"
    assert set(vpn.json("par1", "history")) == {"in_force", "confirm_s", "revisions"}
    words = {
        "router",
        "in_force",
        "changes",
        "effects",
        "cuts_ssh",
        "units",
        "files",
        "lacking",
        "not_rendered",
        "drifted",
    }
    assert set(vpn.json("par1", "plan")) == words


UNKNOWN = [
    pytest.param(("explain", "paris", "atlantis"), "atlantis: neither a router nor a site nor an address", id="a site"),
    pytest.param(("explain", "paris", "par1"), "par1: is on the same router as paris", id="the same router"),
    pytest.param(("ping", "192.0.2.77"), "192.0.2.77: no site of the network has this address", id="an address"),
    pytest.param(("status", "--network", "other"), "other: no such network on this machine", id="a network"),
    pytest.param(("rollback", "99"), "", id="a revision"),
]


@pytest.mark.parametrize(("words", "said"), UNKNOWN)
def test_what_is_not_there_is_one_line(vpn: Vpn, words: tuple[str, ...], said: str) -> None:
    answer = vpn.dmvpn("par1", *words)
    text = answer.stderr.decode()
    assert answer.status in (1, 2)
    assert text.startswith(f"dmvpn: {said}")
    assert text.count("\n") == 1


BROKEN = [
    pytest.param("charon", "charon: ", "dmvpn run", id="charon is dead"),
    pytest.param("gre", "data plane: ", "dmvpn run", id="the data plane is dead"),
    pytest.param("bgpd", "BGP cannot be asked", "dmvpn run", id="bgpd is dead"),
]


@pytest.mark.parametrize(("unit", "said", "run"), BROKEN)
def test_the_last_line_of_status_is_the_worst_problem_and_what_to_run(vpn: Vpn, unit: str, said: str, run: str) -> None:
    with _stopped(vpn, unit):
        until("it is seen", lambda: said in _last_line(vpn), within_s=20)
        answer = vpn.dmvpn("par1", "status")
        assert answer.status in (1, 3)
        assert f"; run: {run}" in answer.text.splitlines()[-1]
        assert said in {trouble["what"][: len(said)] for trouble in vpn.json("par1", "status")["troubles"]}
    until("all is good again", lambda: _last_line(vpn) == "good: nothing to do", within_s=30)


@contextmanager
def _stopped(vpn: Vpn, unit: str) -> Iterator[None]:
    vpn.stop_service("par1", unit)
    try:
        yield
    finally:
        assert vpn.dmvpn("par1", "run").status == 0
        vpn.settle()


def _last_line(vpn: Vpn) -> str:
    lines = vpn.dmvpn("par1", "status").text.splitlines()
    return lines[-1] if lines else ""


def test_without_dmvpnd_there_is_one_line_and_forwarding(vpn: Vpn) -> None:
    with _stopped(vpn, "dmvpnd"):
        for words in (("status",), ("peers",), ("explain", "paris", "lyon"), ("show", "dmvpn"), ("nhrp", "events")):
            answer: Any = vpn.dmvpn("par1", *words)
            assert answer.status == 1
            assert answer.stderr.decode().startswith("dmvpn: dmvpnd: not running")
            assert answer.stderr.decode().count("\n") == 1
        with vpn.flow("paris-pc", "hq-pc") as flow:
            flow.until("direct", within_s=5)
            assert flow.lost() == []
