"""Versions of the kernel and the daemons: which are asked for, and what they are worth."""

from dataclasses import replace
from pathlib import Path

import pytest
from test_checks import FAILED, GOOD, WARNING, patient, plan_of

from dmvpn.doctor import versions
from dmvpn.doctor.report import Outcome
from dmvpn.doctor.versions import BFD_SLOW, DHCPCD, ESP_IN_UDP6, FLOORS, KEEPALIVED, PPPD
from dmvpn.network.plan import Bfd, Pppoe, Vrrp


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("6.1.0-50-amd64", (6, 1, 0)),
        ("Linux strongSwan 5.9.8", (5, 9, 8)),
        ("zebra version 8.4.4\nCopyright 1996-2005 Kunihiro Ishiguro, et al.", (8, 4, 4)),
        ("nftables v1.0.6 (Lester Gooch #5)", (1, 0, 6)),
        ("Keepalived v2.2.7 (01/16,2022)", (2, 2, 7)),
        ("pppd version 2.4.9", (2, 4, 9)),
        ("6.18", (6, 18, 0)),
        ("none", None),
    ],
)
def test_a_version_is_read_from_what_programs_say(text: str, number: tuple[int, ...] | None) -> None:
    assert versions.number_in(text) == number


KERNEL, _, FRR, _ = FLOORS


@pytest.mark.parametrize(
    ("floor", "found", "outcome", "word"),
    [
        pytest.param(KERNEL, (5, 4, 0), FAILED, "pidfd_getfd", id="too old"),
        pytest.param(KERNEL, (5, 7, 0), WARNING, "no ESP in UDP over IPv6", id="a bug that concerns us"),
        pytest.param(KERNEL, (5, 10, 0), WARNING, "older than what was tried", id="not tried"),
        pytest.param(KERNEL, (6, 18, 44), GOOD, "6.18.44", id="good"),
        pytest.param(FRR, (10, 5, 1), WARNING, "BFD", id="FRR 10.5.1 is slow with BFD"),
        pytest.param(FRR, (10, 5, 2), GOOD, "10.5.2", id="mended"),
        pytest.param(PPPD, (2, 4, 8), FAILED, "pppoe.so", id="a plugin of another name"),
    ],
)
def test_a_version_is_judged(floor: versions.Floor, found: tuple[int, ...], outcome: Outcome, word: str) -> None:
    finding = versions.judged(floor, found, (BFD_SLOW, ESP_IN_UDP6))
    assert finding.outcome is outcome
    assert word in finding.what


def test_a_bug_counts_where_what_it_breaks_is_used() -> None:
    plan = plan_of("par1")
    assert versions.bugs(patient()) == ()
    with_bfd = replace(plan, clouds=(replace(plan.clouds[0], bfd=Bfd(300, 3)),))
    assert versions.bugs(patient(plan=with_bfd)) == (BFD_SLOW,)


def test_what_the_file_asks_for_is_asked_for_its_version() -> None:
    plan = plan_of("par1")
    (static,) = plan.uplinks
    leased, session = replace(static, dhcp=True), replace(static, pppoe=Pppoe("anna@isp", b"x"))
    shared = Vrrp(group=1, priority=200, lost=100, advertise_ms=1000, gateways=())
    assert versions.floors(patient()) == FLOORS
    assert versions.floors(patient(plan=replace(plan, uplinks=(leased,)))) == (*FLOORS, DHCPCD)
    assert versions.floors(patient(plan=replace(plan, uplinks=(static, session)))) == (*FLOORS, PPPD)
    assert versions.floors(patient(plan=replace(plan, vrrp=shared))) == (*FLOORS, KEEPALIVED)


def test_a_pppd_that_only_root_may_start_is_not_called_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(versions.process, "SEARCH_PATH", (str(tmp_path),))
    monkeypatch.setattr(versions.os, "geteuid", lambda: 1000)
    assert [one.outcome for one in versions.versions((), (PPPD,))] == [FAILED]
    (tmp_path / "pppd").touch(0o644)
    (found,) = versions.versions((), (PPPD,))
    assert (found.outcome, found.what) == (Outcome.NOT_LOOKED_AT, "is here, and only root may start it")


@pytest.mark.kernel
def test_each_program_tells_its_version() -> None:
    found = list(versions.versions((), (*FLOORS, KEEPALIVED, DHCPCD, PPPD)))
    assert [one.check for one in found] == ["kernel", "strongSwan", "FRR", "nftables", "keepalived", "dhcpcd", "pppd"]
    assert {one.outcome for one in found} == {Outcome.OK}
