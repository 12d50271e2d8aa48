"""`pki install` and the machine's clock: papers that are not for now are refused before a file is touched."""

import os
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from renewal_cases import CLAIMS, NOW, ROOT, router

from dmvpn.errors import WrongInput
from dmvpn.identity import authority
from dmvpn.linux import files
from dmvpn.operations import papers
from dmvpn.operations.here import ETC

YEARS = timedelta(days=3000)


def there() -> list[str]:
    return sorted(str(Path(parent) / name) for parent, _, names in os.walk(ETC) for name in names)


@pytest.mark.parametrize(
    ("made", "what", "fix"),
    [
        pytest.param(
            NOW + YEARS, "is not valid before ", "the clock is too early: set it, then install again", id="early"
        ),
        pytest.param(NOW - YEARS, "expired on ", "set the clock if it is wrong, or make new papers with", id="late"),
    ],
)
def test_a_clock_that_is_years_off_is_said_and_nothing_is_installed(
    tmp_path: Path, made: datetime, what: str, fix: str
) -> None:
    pem, key = router(CLAIMS, now=made)
    files.write_secret(tmp_path / "router.key", key)
    files.write(tmp_path / "router.pem", pem)
    files.write(tmp_path / "ca.pem", ROOT[0])
    before = there()
    with pytest.raises(WrongInput) as caught:
        papers.install(tmp_path)
    assert caught.value.where == f"{tmp_path}/router.pem"
    assert caught.value.what.startswith(what)
    assert "and this machine's clock says " in caught.value.what
    assert caught.value.fix.startswith(fix)
    assert there() == before


def test_the_first_and_the_last_second_count() -> None:
    described = authority.describe(router(CLAIMS)[0])
    second = timedelta(seconds=1)
    for now in (described.not_before, described.not_after - second):
        papers.refuse_untimely("x", described, now)
    for now in (described.not_before - second, described.not_after):
        with pytest.raises(WrongInput):
            papers.refuse_untimely("x", described, now)
