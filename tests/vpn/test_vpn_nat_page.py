"""docs/nat.md shows the table that is held."""

from pathlib import Path

from nat_table import KINDS, TABLE

PAGE = Path(__file__).parents[2] / "docs" / "nat.md"


def test_the_page_has_this_table() -> None:
    lines = PAGE.read_text().splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("| A behind / B behind |"))
    head, _, *rows = (
        [cell.strip() for cell in line.split("|")[1:-1]] for line in lines[start : start + 2 + len(KINDS)]
    )
    assert {row[0]: {kind: way for kind, way in zip(head[1:], row[1:], strict=True) if way} for row in rows} == TABLE
