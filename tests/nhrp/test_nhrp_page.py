"""Every test that docs/nhrp.md names as evidence exists, and every section that the run names is on the page."""

import re
from pathlib import Path

import pytest

from dmvpn.nhrp.conformance.cases import CASES

TESTS = Path(__file__).parents[1]
PAGE = (TESTS.parent / "docs" / "nhrp.md").read_text()
NAMED = sorted(set(re.findall(r"`((?:\w+/)+test_\w+\.py)`", PAGE)))
ROWS = re.findall(r"^\| (\d[\d., ]*)[^|]*\|[^|]*\|([^|]*)\|$", PAGE, re.MULTILINE)


def test_the_page_names_tests() -> None:
    assert len(NAMED) > 10


@pytest.mark.parametrize("path", NAMED)
def test_a_named_test_exists(path: str) -> None:
    assert "def test_" in (TESTS / path).read_text()


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0].strip())
def test_a_section_has_evidence(row: tuple[str, str]) -> None:
    assert "test_" in row[1]


@pytest.mark.parametrize("section", sorted({case.section for case in CASES}))
def test_a_section_of_the_run_is_on_the_page(section: str) -> None:
    assert any(section in re.split(r"[, ]+", row[0]) for row in ROWS)


def test_the_page_says_how_many_cases_there_are() -> None:
    assert f"{len(CASES)} cases" in PAGE
