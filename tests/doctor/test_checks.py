"""Each check on facts that are made up, good and bad; what only a kernel or a daemon can show is in tests/vpn."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address, ip_interface, ip_network
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from dmvpn.daemon.control import CloudRow, HubRow, NodeStatus, PeerRow, State
from dmvpn.doctor import clock, examination, ike, nhrp, routing, tunnel, underlay
from dmvpn.doctor.patient import Papers, Patient, Places, Target
from dmvpn.doctor.report import At, Finding, Layer, Outcome, verdict
from dmvpn.errors import Fault
from dmvpn.linux import services
from dmvpn.linux.link_facts import LinkFacts
from dmvpn.linux.services import ServiceStatus
from dmvpn.linux.vici_client import ChildSa, IkeSa
from dmvpn.linux.vtysh import BgpPeer
from dmvpn.network.plan import Plan
from dmvpn.operations import reading

EXAMPLES = Path(__file__).parents[2] / "examples"
NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)
GOOD, WARNING, FAILED = Outcome.OK, Outcome.WARNING, Outcome.FAILED


def plan_of(router: str) -> Plan:
    return reading.plan_without_secrets(reading.read(EXAMPLES / "minimal.yaml"), router)


def patient(router: str = "par1", **changes: Any) -> Patient:
    nowhere = Path("/nonexistent")
    made = Patient(
        plan=plan_of(router),
        places=Places(nowhere / "vici", nowhere / "frr", nowhere / "rules", nowhere / "state", "dmvpn_none"),
        status=None,
        silent="not running",
        services=(),
        services_trouble="",
        papers=Papers(not_before=NOW - timedelta(days=10), not_after=NOW + timedelta(days=80)),
        needs_octets={},
        look_again=lambda: None,
        announce=lambda _what: None,
        now=NOW,
        applied=NOW - timedelta(days=1),
    )
    return replace(made, **changes)


def cloud_row(**changes: Any) -> CloudRow:
    return replace(CloudRow("blue", "acme-blue", "hub", "userspace", 1372, ("10.255.1.1",), "bound", {}, {}), **changes)


def peer(name: str, state: State) -> PeerRow:
    return PeerRow("blue", name, "10.255.1.11", "100.64.1.11", "client", state, "UP", "", (), "", 1, 1, None, 0, 0)


def status(**changes: Any) -> NodeStatus:
    made = NodeStatus("acme", "par1", "100.64.1.11", 60, "charon", True, (), (), (), (), (), {}, ())  # noqa: FBT003
    return replace(made, **changes)


def hub_row(state: str, why: str) -> HubRow:
    return HubRow("blue", "hq1", "10.255.1.1", "100.64.1.1", state, why, 1.0, 2.0 if state == "up" else None)


def link(name: str, mtu_octets: int, *, up: bool = True, carrier: bool = True) -> LinkFacts:
    return LinkFacts(name=name, up=up, carrier=carrier, mtu_octets=mtu_octets)


# ---------------------------------------------------------------- the verdict


AT = {layer: At(layer) for layer in Layer}


@pytest.mark.parametrize(
    ("findings", "outcome", "what"),
    [
        pytest.param([AT[Layer.IKE].ok("a", "1")], GOOD, None, id="all good"),
        pytest.param(
            [AT[Layer.STATE].failed("a", "1", "x"), AT[Layer.IKE].failed("b", "2", "x")],
            FAILED,
            "2",
            id="the lowest layer, whatever came first",
        ),
        pytest.param(
            [AT[Layer.SYSTEM].warning("a", "1", "x"), AT[Layer.MTU].failed("b", "2", "x")],
            FAILED,
            "2",
            id="a failure before a warning below it",
        ),
        pytest.param(
            [AT[Layer.SYSTEM].not_looked_at("a", "1"), AT[Layer.MTU].warning("b", "2", "x")],
            WARNING,
            "2",
            id="a warning before what was not seen",
        ),
        pytest.param([AT[Layer.NHRP].not_looked_at("a", "1")], Outcome.NOT_LOOKED_AT, "1", id="not all was seen"),
    ],
)
def test_the_verdict_is_where_it_begins(findings: list[Finding], outcome: Outcome, what: str | None) -> None:
    found = verdict(findings)
    assert found.outcome is outcome
    assert (found.first.what if found.first else None) == what


def test_a_layer_that_cannot_be_looked_at_does_not_hide_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    def falls(_patient: Patient) -> Iterator[Finding]:
        yield At(Layer.IKE).ok("a", "1")
        raise Fault("charon", "gone")

    def stands(_patient: Patient) -> Iterator[Finding]:
        yield At(Layer.NHRP).ok("b", "2")

    monkeypatch.setattr(examination, "EXAMINATIONS", ((Layer.IKE, falls), (Layer.NHRP, stands)))
    found = list(examination.examine(patient()))
    assert [(one.layer, one.outcome) for one in found] == [
        (Layer.IKE, GOOD),
        (Layer.IKE, Outcome.NOT_LOOKED_AT),
        (Layer.NHRP, GOOD),
    ]


# ---------------------------------------------------------------- the clock


@pytest.mark.parametrize(
    ("applied", "outcome", "word"),
    [
        pytest.param(NOW - timedelta(days=400), GOOD, "2026-11-29 12:00 UTC", id="after what was applied"),
        pytest.param(NOW + timedelta(days=400), FAILED, "written at 2028-01-03 12:00: it ran back", id="no battery"),
        pytest.param(None, GOOD, "NTP", id="nobody knows when"),
    ],
)
def test_the_clock_is_held_against_what_was_written(applied: datetime | None, outcome: Outcome, word: str) -> None:
    (finding,) = clock.clock(patient(applied=applied))
    assert finding.outcome is outcome
    assert word in finding.what


# ---------------------------------------------------------------- underlay and tunnel


@pytest.mark.parametrize(
    ("there", "outcome", "word"),
    [
        pytest.param(None, FAILED, "no device eth1", id="no device"),
        pytest.param(link("eth1", 1500, up=False, carrier=False), FAILED, "is down", id="down"),
        pytest.param(link("eth1", 1500, carrier=False), FAILED, "no carrier", id="no carrier"),
        pytest.param(link("eth1", 1500), GOOD, "is up", id="up"),
    ],
)
def test_a_network_s_port_is_judged(there: LinkFacts | None, outcome: Outcome, word: str) -> None:
    (lan,) = plan_of("par1").lans
    finding = underlay.network_port(lan, there)
    assert finding.outcome is outcome
    assert word in finding.what


@pytest.mark.parametrize(
    ("there", "outcome", "word"),
    [
        pytest.param(None, FAILED, "no device eth0", id="no device"),
        pytest.param(link("eth0", 1500, up=False, carrier=False), FAILED, "is down", id="down"),
        pytest.param(link("eth0", 1500, carrier=False), FAILED, "no carrier", id="no carrier"),
        pytest.param(link("eth0", 1400), FAILED, "reckons with 1500", id="narrow"),
        pytest.param(link("eth0", 9000), GOOD, "MTU 9000", id="wide"),
    ],
)
def test_a_link_is_judged(there: LinkFacts | None, outcome: Outcome, word: str) -> None:
    finding = underlay._link(plan_of("par1").uplinks[0], there)
    assert finding.outcome is outcome
    assert word in finding.what


@pytest.mark.parametrize(
    ("dhcp", "there", "outcome"),
    [
        pytest.param(False, ["198.51.100.2/30"], GOOD, id="as written"),
        pytest.param(False, ["198.51.100.2/24"], FAILED, id="another length"),
        pytest.param(False, [], FAILED, id="none"),
        pytest.param(True, ["203.0.113.9/24"], GOOD, id="a lease"),
        pytest.param(True, [], FAILED, id="no lease"),
    ],
)
def test_addresses_are_judged(*, dhcp: bool, there: list[str], outcome: Outcome) -> None:
    uplink = replace(plan_of("par1").uplinks[0], dhcp=dhcp)
    assert underlay._addresses(uplink, set(map(ip_interface, there))).outcome is outcome


def test_a_hub_without_an_address_is_named() -> None:
    plan = plan_of("par1")
    hub = replace(plan.clouds[0].hubs[0], endpoints=("hub.invalid",))
    nobody = patient(plan=replace(plan, clouds=(replace(plan.clouds[0], hubs=(hub,)),)))
    (finding,) = underlay.hubs_answer(nobody)
    assert finding.outcome is FAILED
    assert "hub.invalid leads to no address" in finding.what


@pytest.mark.parametrize(
    ("there", "outcome", "word"),
    [
        pytest.param(None, FAILED, "there is no acme-blue", id="no device"),
        pytest.param(link("acme-blue", 1372, up=False), FAILED, "is down", id="down"),
        pytest.param(link("acme-blue", 1500), FAILED, "has MTU 1500", id="another MTU"),
        pytest.param(link("acme-blue", 1376), GOOD, "MTU 1376", id="good"),
    ],
)
def test_a_tunnel_device_is_judged(there: LinkFacts | None, outcome: Outcome, word: str) -> None:
    finding = tunnel._device(plan_of("par1").clouds[0], there)
    assert finding.outcome is outcome
    assert word in finding.what


def service(state: services.State) -> ServiceStatus:
    return ServiceStatus("dmvpn-acme-charon", state, 7, 0.0, 0, "killed by signal 9", Path("/run/log"))


@pytest.mark.parametrize(
    ("rows", "trouble", "outcome", "word"),
    [
        pytest.param((), "", FAILED, "nobody keeps them", id="none"),
        pytest.param((), "for root", Outcome.NOT_LOOKED_AT, "for root", id="not root"),
        pytest.param((service(services.State.FAILED),), "", FAILED, "killed by signal 9", id="one failed"),
        pytest.param((service(services.State.READY),), "", GOOD, "all 1 serve", id="good"),
    ],
)
def test_services_are_judged(rows: tuple[ServiceStatus, ...], trouble: str, outcome: Outcome, word: str) -> None:
    (finding,) = tunnel.services(patient(services=rows, services_trouble=trouble))
    assert finding.outcome is outcome
    assert word in finding.what


# ---------------------------------------------------------------- IKE


def papers(before: int, after: int, **more: Any) -> Papers:
    return Papers(not_before=NOW + timedelta(days=before), not_after=NOW + timedelta(days=after), **more)


@pytest.mark.parametrize(
    ("own", "outcome", "word"),
    [
        pytest.param(papers(-10, 80), GOOD, "good until 2027-02-17", id="good"),
        pytest.param(papers(-1, 6), GOOD, "good until", id="an invitation's, for a week"),
        pytest.param(papers(-86, 4), WARNING, "was not renewed", id="ends soon"),
        pytest.param(papers(-91, -1), FAILED, "expired on 2026-11-28", id="expired"),
        pytest.param(papers(1, 91), FAILED, "not valid before 2026-11-30", id="a clock that is early"),
        pytest.param(papers(-10, 80, revoked="revoked on 2026-11-01"), FAILED, "other routers refuse it", id="revoked"),
        pytest.param(papers(-10, 80, unclaimed=("10.1.9.0/24",)), FAILED, "not claim 10.1.9.0/24", id="an old one"),
        pytest.param(Papers(trouble="router.pem: missing"), FAILED, "missing", id="none"),
        pytest.param(Papers(), Outcome.NOT_LOOKED_AT, "cannot be read", id="not root"),
    ],
)
def test_a_certificate_is_judged_by_the_clock(own: Papers, outcome: Outcome, word: str) -> None:
    finding = ike.papers(patient(papers=own))
    assert finding.outcome is outcome
    assert word in finding.what


def test_an_overdue_list_is_a_warning() -> None:
    assert ike.lists(Papers()).outcome is GOOD
    assert ike.lists(Papers(overdue=("list 3 should have had a successor",))).outcome is WARNING


def sa(state: str, child: str | None, *, answered: bool = True) -> IkeSa:
    children = (
        () if child is None else (ChildSa("gre", "1", child, (), ("100.64.1.1/32[gre]",), 0, 0, 0, 0, 1.0, "TUNNEL"),)
    )
    return IkeSa(
        *("hub", "1", True, "aa", answered, state, "198.51.100.2", 4500, "192.0.2.2", 4500, "", "hq1", 1.0, children)
    )


@pytest.mark.parametrize(
    ("sas", "outcome", "word"),
    [
        pytest.param((sa("ESTABLISHED", "INSTALLED"),), GOOD, "stands with 192.0.2.2, in UDP", id="good"),
        pytest.param((), FAILED, "there is none (wrong certificate)", id="none, and why"),
        pytest.param((sa("CONNECTING", None, answered=False),), FAILED, "nobody has answered yet", id="no answer"),
        pytest.param((sa("CONNECTING", None),), FAILED, "it has answered", id="refused"),
        pytest.param((sa("ESTABLISHED", "CREATED"),), FAILED, "there is none", id="no child"),
    ],
)
def test_an_sa_with_a_hub_is_judged(sas: tuple[IkeSa, ...], outcome: Outcome, word: str) -> None:
    hub = plan_of("par1").clouds[0].hubs[0]
    finding = ike._hub(status(hubs=(hub_row("connecting", "wrong certificate"),)), hub, sas)
    assert finding.outcome is outcome
    assert word in finding.what


# ---------------------------------------------------------------- NHRP and routing


@pytest.mark.parametrize(
    ("seen", "outcome", "check", "word"),
    [
        pytest.param(None, FAILED, "dmvpnd", "not running", id="no dmvpnd"),
        pytest.param(status(hubs=(hub_row("up", ""),)), GOOD, "registration at hq1", "RTT 2.0 ms", id="registered"),
        pytest.param(
            status(hubs=(hub_row("down", "refused: administratively prohibited"),)),
            FAILED,
            "registration at hq1",
            "administratively prohibited",
            id="refused, and why",
        ),
        pytest.param(
            status(clouds=(cloud_row(),), peers=(peer("osl1", State.DOWN), peer("par1", State.DIRECT))),
            WARNING,
            "registrations in blue",
            "1 of 2 are down: osl1",
            id="a spoke is down",
        ),
        pytest.param(
            status(clouds=(cloud_row(drops={"nhrp authentication": 4}),)),
            WARNING,
            "drops in blue",
            "4 since dmvpnd started",
            id="another password",
        ),
    ],
)
def test_nhrp_is_judged(seen: NodeStatus | None, outcome: Outcome, check: str, word: str) -> None:
    found = {finding.check: finding for finding in nhrp.nhrp(seen, "not running")}
    assert found[check].outcome is outcome
    assert word in found[check].what


def bgp_peer(address: str, state: str, prefixes: int) -> BgpPeer:
    return BgpPeer(ip_address(address), 65000, state, prefixes, 1.0, "ipv4Unicast", dynamic=False)


@pytest.mark.parametrize(
    ("router", "peers", "outcome", "word"),
    [
        pytest.param("par1", (bgp_peer("10.255.1.1", "Established", 1),), GOOD, "1 prefix", id="good"),
        pytest.param("par1", (bgp_peer("10.255.1.1", "Established", 0),), WARNING, "announces nothing", id="nothing"),
        pytest.param("par1", (bgp_peer("10.255.1.1", "Active", 0),), FAILED, "Active", id="not there"),
        pytest.param("par1", (), FAILED, "does not know 10.255.1.1", id="not known"),
        pytest.param("hq1", (bgp_peer("10.255.1.11", "Established", 1),), GOOD, "1 spokes", id="a hub's spokes"),
        pytest.param("hq1", (bgp_peer("10.255.1.11", "Idle", 0),), WARNING, "10.255.1.11", id="a spoke is not there"),
    ],
)
def test_bgp_is_judged(router: str, peers: tuple[BgpPeer, ...], outcome: Outcome, word: str) -> None:
    (finding,) = routing._bgp(plan_of(router).clouds[0], peers)
    assert finding.outcome is outcome
    assert word in finding.what


@pytest.mark.parametrize(
    ("target", "device", "outcome", "word"),
    [
        ("10.1.1.10", "eth1", GOOD, "this site's own"),
        ("10.1.1.10", "eth0", WARNING, "no tunnel"),
        ("10.1.12.10", "eth1", WARNING, "no tunnel"),
    ],
)
def test_the_way_to_a_host_is_judged(
    target: str, device: str, outcome: Outcome, word: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = SimpleNamespace(device=device, prefix=ip_network("10.1.1.0/24"), gateway=None)
    monkeypatch.setattr(routing, "lookup", lambda *_: row)
    finding = routing._way(patient(), Target(target, "", ip_address(target)), cast(Any, None))
    assert (finding.outcome, word in finding.what) == (outcome, True), finding


def test_a_reader_who_is_not_root_gets_what_dmvpnd_tells() -> None:
    found = list(examination.examine_by_word(status(hubs=(hub_row("up", ""),)), "", "for root"))
    assert {one.layer for one in found} == set(Layer)
    assert [one.outcome for one in found if one.layer in (Layer.IKE, Layer.NHRP)] == [GOOD] * 3
    assert {one.outcome for one in found if one.layer is Layer.MTU} == {Outcome.NOT_LOOKED_AT}


def test_a_hook_that_could_not_run_is_said_before_the_uplink_dies(tmp_path: Path) -> None:
    program = tmp_path / "hook"
    assert underlay.hook_of("isp1", str(program)).outcome is WARNING
    program.write_text("#!/bin/sh\n")
    found = underlay.hook_of("isp1", str(program))
    assert (found.outcome, found.fix) == (WARNING, f"chmod +x {program}")
    program.chmod(0o755)
    assert underlay.hook_of("isp1", str(program)).outcome is GOOD
