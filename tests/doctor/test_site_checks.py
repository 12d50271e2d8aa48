"""What the routers of one site do together, RIP, and the zone policy: each check on facts that are made up."""

from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

import pytest
from test_checks import EXAMPLES, FAILED, GOOD, WARNING, bgp_peer, patient, status

from dmvpn.doctor import gateways, routing, versions
from dmvpn.doctor.patient import Passage, Target
from dmvpn.doctor.policy import policy
from dmvpn.doctor.report import Outcome
from dmvpn.linux import frr_release
from dmvpn.linux.vtysh import BgpPeer, RipSource
from dmvpn.network.plan import Plan
from dmvpn.operations import reading
from dmvpn.operations.doctor import passages

NETWORKS = Path(__file__).parents[1] / "vpn" / "networks"


def plan_of(path: Path, router: str) -> Plan:
    return reading.plan_without_secrets(reading.read(path), router)


@pytest.mark.parametrize(
    ("here", "answers", "offered", "outcome", "word"),
    [
        pytest.param(True, False, 200, GOOD, "this router has it, priority 200", id="here"),
        pytest.param(True, None, 200, GOOD, "this router has it", id="here, and nobody can be asked"),
        pytest.param(False, True, 190, GOOD, "another router of the site", id="there"),
        pytest.param(False, False, 190, FAILED, "nobody on eth1 has it", id="nobody"),
        pytest.param(True, True, 200, FAILED, "another on eth1 has it too", id="both"),
        pytest.param(True, False, 100, WARNING, "without a tunnel of its own, priority 100 of 200", id="no tunnel"),
    ],
)
def test_a_shared_gateway_is_judged(
    *, here: bool, answers: bool | None, offered: int, outcome: Outcome, word: str
) -> None:
    vrrp = plan_of(NETWORKS / "gateways.yaml", "par1").vrrp
    assert vrrp is not None
    finding = gateways.judged(vrrp.gateways[0], offered, 200, here=here, answers=answers)
    assert finding.outcome is outcome
    assert word in finding.what


def test_a_router_that_shares_none_is_asked_nothing() -> None:
    assert list(gateways.gateways(patient())) == []


@pytest.mark.parametrize(
    ("peers", "outcome", "word"),
    [
        pytest.param((bgp_peer("10.1.12.3", "Established", 1),), GOOD, "established", id="good"),
        pytest.param((bgp_peer("10.1.12.3", "Active", 0),), WARNING, "ways are missing here", id="down"),
        pytest.param((), FAILED, "does not know 10.1.12.3", id="not known"),
    ],
)
def test_the_session_with_the_sites_other_router_is_judged(
    peers: tuple[BgpPeer, ...], outcome: Outcome, word: str
) -> None:
    session = plan_of(NETWORKS / "gateways.yaml", "par1").session
    assert session is not None
    found = next(one for one in routing._site(session, peers) if "par2" in one.check)
    assert (found.outcome, word in found.what) == (outcome, True)


@pytest.mark.parametrize(
    ("router", "sources", "outcome", "word"),
    [
        pytest.param("par1", {"10.255.1.1": 9}, GOOD, "told of its routes 9 s ago", id="good"),
        pytest.param("par1", {"10.255.1.1": 31}, FAILED, "has told of no route for 31 s", id="silent"),
        pytest.param("par1", {"10.255.2.1": 9}, FAILED, "10.255.1.1 has told of no route", id="another cloud's"),
        pytest.param("hq1", {"10.255.1.11": 9, "10.255.2.11": 9}, GOOD, "1 spokes tell", id="a hub's spokes"),
        pytest.param("hq1", {"10.255.1.11": 60}, WARNING, "silent lately: 10.255.1.11", id="a silent spoke"),
    ],
)
def test_rip_is_judged(router: str, sources: dict[str, int], outcome: Outcome, word: str) -> None:
    cloud = plan_of(EXAMPLES / "rip.yaml", router).clouds[0]
    heard = tuple(RipSource(ip_address(address), age_s) for address, age_s in sources.items())
    (finding,) = routing._rip(cloud, cloud.rip, heard)
    assert finding.outcome is outcome
    assert word in finding.what


@pytest.mark.parametrize(
    ("router", "sources", "outcomes"),
    [
        pytest.param(
            "par1", {"10.255.1.1": 9, "fe80::1": 9}, {"RIP with hq1": GOOD, "RIP with hq1, IPv6": GOOD}, id="both"
        ),
        pytest.param(
            "par1",
            {"10.255.1.1": 9, "fe80::1": 40},
            {"RIP with hq1": GOOD, "RIP with hq1, IPv6": FAILED},
            id="one late",
        ),
        pytest.param(
            "hq1", {"10.255.1.11": 9, "fe80::11": 60}, {"RIP in blue": GOOD, "RIP in blue, IPv6": WARNING}, id="a hub"
        ),
    ],
)
def test_each_family_of_rip_is_judged_by_itself(
    router: str, sources: dict[str, int], outcomes: dict[str, Outcome]
) -> None:
    cloud = plan_of(NETWORKS / "rip6.yaml", router).clouds[0]
    heard = tuple(RipSource(ip_address(address), age_s) for address, age_s in sources.items())
    found = list(routing._rip(cloud, cloud.rip, heard))
    assert {one.check: one.outcome for one in found} == outcomes
    assert not any("2 spokes" in one.what for one in found)


def test_a_policy_that_is_gone_is_a_failure_and_what_it_dropped_is_told() -> None:
    plan = plan_of(NETWORKS / "walls.yaml", "par1")
    (gone,) = policy(patient(plan=plan, status=status(guards={"gre_clear_in": 0})))
    assert gone.outcome is FAILED
    (there,) = policy(patient(plan=plan, status=status(guards={"dropped.in.lan": 2, "dropped.through.lan": 3})))
    assert (there.outcome, "dropped 5 packets" in there.what) == (GOOD, True)
    assert list(policy(patient(status=status()))) == [], "no policy is nothing to look at"


def test_what_the_policy_does_with_a_ping_to_the_destination_is_told_for_each_network() -> None:
    plan = plan_of(NETWORKS / "walls.yaml", "par1")
    target = Target("lyon", "lyo1", ip_address("10.1.13.10"))
    found = {one.network: one for one in passages(plan, target)}
    assert {name: one.accepted for name, one in found.items()} == {lan.name: lan.name == "lan" for lan in plan.lans}
    told = {one.check: one.outcome for one in policy(patient(plan=plan, passages=tuple(found.values())))}
    assert told["policy from lan to lyon"] is GOOD
    assert WARNING in told.values()
    assert list(passages(plan, replace(target, router="par1"))) == []
    assert all(isinstance(one, Passage) and one.by for one in found.values())


def test_what_this_frr_lacks_for_the_file_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    """FRR may have become another one since `apply`."""
    monkeypatch.setattr(frr_release, "lacking", lambda word: f"no {word} any more" if word == "ripng" else "")
    found = list(versions.lacking(patient(asked_of_frr=("rip", "ripng"))))
    assert [(one.check, one.what, one.outcome) for one in found] == [
        ("FRR for ripng", "no ripng any more", Outcome.FAILED)
    ]
