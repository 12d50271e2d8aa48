"""One wrong file for each check, beside it the exact message. DMVPN_ACCEPT=1 rewrites the messages; read the diff."""

import os
from pathlib import Path

import pytest

from dmvpn.errors import Problems
from dmvpn.identity import claims
from dmvpn.network.checks import CHECKS, vouched
from dmvpn.network.loading import _modelled, check
from dmvpn.network.source import read

FAULTS = Path(__file__).parent / "faults"
SECRETS = {"secrets/long": b"nine-octets-and-more\n"}


@pytest.mark.parametrize("path", sorted(FAULTS.glob("*.yaml")), ids=lambda path: path.stem)
def test_a_wrong_file_gets_exactly_this_message(path: Path) -> None:
    text = path.read_bytes().decode()
    said = "".join(f"{finding}\n" for finding in check(text, path.name, SECRETS))
    expected = path.with_suffix(".txt")
    if os.environ.get("DMVPN_ACCEPT"):
        expected.write_text(said)
    assert said == expected.read_text()
    assert said, "a fault file must have a fault"


def test_no_message_is_left_without_its_file() -> None:
    assert {path.stem for path in FAULTS.glob("*.txt")} == {path.stem for path in FAULTS.glob("*.yaml")}


def test_every_check_finds_something_in_the_corpus() -> None:
    silent = set(CHECKS)
    for path in FAULTS.glob("*.yaml"):
        try:
            network, _ = _modelled(read(path.read_bytes().decode(), path.name))
        except Problems:
            continue
        if network is not None:
            silent -= {a_check for a_check in silent if any(a_check(network))}
    assert sorted(a_check.__name__ for a_check in silent) == []


def test_the_file_vouches_for_no_more_than_claims_can_hold() -> None:
    limits = (vouched.CLAIMED_PREFIXES_LIMIT, vouched.CLAIMED_ADDRESSES_LIMIT)
    assert limits == (claims.PREFIXES_LIMIT, claims.ADDRESSES_LIMIT)
