"""What `status` says of papers, by what clock: real certificates and lists, read as dmvpnd reads them."""

import sys
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "identity"))
from renewal_cases import CLAIMS, NOW, RENEWER, ROOT, router

from dmvpn.daemon import paper_troubles
from dmvpn.daemon.control import Trouble
from dmvpn.daemon.papers import Pair, Papers
from dmvpn.daemon.renewals import Renewals
from dmvpn.daemon.renewing import Renewing, Standing
from dmvpn.daemon.vouching import Refusal, Vouching
from dmvpn.identity import authority, issuing, revocation
from dmvpn.identity.revocation import Reason, Revoked
from dmvpn.linux import files

AT = NOW.replace(microsecond=0)
DAYS = 300
YEARS = timedelta(days=3000)
NOBODY = "renewal: no hub is up"


def renewing(directory: Path, *, listed: bool = False, days: int = DAYS) -> Renewing:
    """Of a router whose certificate was made at NOW; `listed`: the root has revoked it since."""
    papers = Papers(directory / "pki")
    papers.make_directories()
    pem, key = router(CLAIMS, days)
    files.write(papers.pki / "ca.pem", ROOT[0])
    papers.swap(Pair(pem, key))
    if listed:
        entry = Revoked(authority.describe(pem).serial, "par1", Reason.KEY_COMPROMISE, AT)
        top = issuing.opened(*ROOT)
        papers.keep_list(revocation.read(revocation.make(top, [entry], number=1, now=NOW), [top.certificate]))
    vouching, ike = Vouching(papers), None
    nobody: Any = ike
    return Renewing(vouching, nobody, Renewals(papers, directory), lambda: (), lambda: "", 0)


def standing(directory: Path, *, listed: bool = False, trouble: str = "") -> Standing:
    found = renewing(directory, listed=listed)
    found.trouble = trouble
    told = found.standing()
    assert told is not None
    return told


def said(own: Standing | None, now: datetime) -> list[Trouble]:
    return paper_troubles.own_troubles(own, "/etc/dmvpn/acme/pki", now)


def test_papers_that_are_good_are_no_trouble(tmp_path: Path) -> None:
    own = standing(tmp_path, trouble=NOBODY)
    assert said(own, NOW) == []
    assert said(own, own.renews_at - timedelta(seconds=1)) == []
    # In time to be renewed, and nobody has said no yet.
    assert said(replace(own, trouble=""), own.not_after - timedelta(days=1)) == []


def test_papers_that_are_missing_are_said(tmp_path: Path) -> None:
    papers = renewing(tmp_path)
    files.remove(tmp_path / "pki" / "router.pem")
    assert papers.standing() is None
    (trouble,) = said(None, NOW)
    assert trouble.severity == paper_troubles.SEVERE
    assert trouble.what == "this router's certificate is missing, or no authority of ours vouches for it"
    assert trouble.run == "openssl x509 -noout -dates -in /etc/dmvpn/acme/pki/router.pem"


@pytest.mark.parametrize(
    ("now", "what", "run"),
    [
        pytest.param(
            NOW - YEARS,
            f"is not valid before {AT - timedelta(days=1):%Y-%m-%d} ",
            "date -u; set the clock",
            id="a clock of years ago",
        ),
        pytest.param(
            NOW + YEARS,
            f"expired on {AT + timedelta(days=DAYS):%Y-%m-%d} ",
            "dmvpn pki renew par1 (at the authority)",
            id="a clock of years ahead, or nobody renewed it",
        ),
    ],
)
def test_a_clock_outside_the_certificates_dates_is_said_with_both_times(
    tmp_path: Path, now: datetime, what: str, run: str
) -> None:
    (trouble,) = said(standing(tmp_path), now)
    assert trouble.severity == paper_troubles.SEVERE
    assert trouble.what.startswith(f"this router's certificate {what}")
    assert trouble.what.endswith(f", and this machine's clock says {now:%Y-%m-%d %H:%M} UTC")
    assert trouble.run == run


def test_a_certificate_that_was_revoked_is_said_before_all_else(tmp_path: Path) -> None:
    own = standing(tmp_path, listed=True, trouble=NOBODY)
    for now in (NOW, NOW + YEARS):
        (trouble,) = said(own, now)
        assert trouble.severity == paper_troubles.SEVERE
        assert trouble.what == (
            f"this router's certificate was revoked on {AT:%Y-%m-%d} (key-compromise): other routers refuse it"
        )


@pytest.mark.parametrize(
    ("left", "severity", "words"),
    [
        pytest.param(timedelta(days=90), paper_troubles.WARNING, "ends in 90 days", id="a third is left"),
        pytest.param(timedelta(days=51), paper_troubles.WARNING, "ends in 51 days", id="more than a sixth"),
        pytest.param(timedelta(days=49), paper_troubles.SEVERE, "ends in 49 days", id="less than a sixth"),
        pytest.param(timedelta(hours=48), paper_troubles.SEVERE, "ends in 2 days", id="two days"),
        pytest.param(timedelta(hours=47, minutes=59), paper_troubles.SEVERE, "ends in 47 h", id="hours"),
    ],
)
def test_a_certificate_that_cannot_be_renewed_grows_urgent(
    tmp_path: Path, left: timedelta, severity: int, words: str
) -> None:
    own = standing(tmp_path, trouble=NOBODY)
    (trouble,) = said(own, own.not_after - left)
    assert trouble.severity == severity
    assert trouble.what == f"this router's certificate {words} and cannot be renewed: {NOBODY}"


def test_the_list_that_is_overdue_longest_is_named_and_still_counts(tmp_path: Path) -> None:
    vouching = Vouching(renewing(tmp_path)._vouching.papers)
    vouching.take_renewer(authority.certificate_in(RENEWER[0]))
    made = {}
    for number, signer, late in ((7, ROOT, timedelta(0)), (3, RENEWER, timedelta(days=2))):
        own = issuing.opened(*signer)
        entry = Revoked(number, "lyo1", Reason.RETIRED, AT)
        made[number] = revocation.read(revocation.make(own, [entry], number=number, now=NOW - late), [own.certificate])
        assert vouching.take(made[number])
    assert paper_troubles.list_troubles(vouching.revocations.overdue(NOW)) == []
    (trouble,) = paper_troubles.list_troubles(vouching.revocations.overdue(NOW + YEARS))
    assert trouble.severity == paper_troubles.WARNING
    assert trouble.what == (
        f"the revocation list 3 should have had a successor on {made[3].next_update:%Y-%m-%d}: it still counts, and "
        "what was revoked since is not known here"
    )
    assert trouble.run == "dmvpn pki publish"
    assert [list(one.entries) for one in vouching.revocations.lists] == [[7], [3]], "nobody is let in again"


def test_who_is_refused_is_named_and_many_are_not_all_named() -> None:
    def refused(count: int) -> list[Refusal]:
        return [Refusal(f"sp{number}", Revoked(number, "", Reason.RETIRED, AT)) for number in range(count)]

    assert paper_troubles.refusal_troubles([]) == []
    (few,) = paper_troubles.refusal_troubles([*refused(2), *refused(1)])
    assert few.severity == paper_troubles.REMARK
    day = f"revoked on {AT:%Y-%m-%d} (retired)"
    assert few.what == f"refused, its certificate is revoked: sp0 ({day}), sp1 ({day})"
    (many,) = paper_troubles.refusal_troubles(refused(6))
    assert many.what.endswith("), ...")
    assert many.what.count("revoked on") == paper_troubles.NAMES
