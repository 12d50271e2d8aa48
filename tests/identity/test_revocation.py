"""Revocation lists: what is in them, who may sign them, which one counts."""

from datetime import timedelta
from ipaddress import ip_network
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given, settings
from hypothesis import strategies as st
from renewal_cases import NOW, RENEWER, ROOT, SIGNER, chain, renewed, router

from dmvpn.errors import WrongInput
from dmvpn.identity import authority, issuing, revocation
from dmvpn.identity.chain import Vouched, key_identifier, to_der
from dmvpn.identity.revocation import Reason, Revocations, Revoked
from dmvpn.linux import process

TOP = issuing.opened(*ROOT)
SIGNERS = (TOP.certificate, SIGNER.certificate)
AT = NOW.replace(microsecond=0)
ROOTS = (key_identifier(TOP.certificate),)
MADE = revocation.make(TOP, [Revoked(7, "par1", Reason.KEY_COMPROMISE, AT)], number=1, now=NOW)


def listed(*serials: int, number: int = 1, signer: issuing.Issuer = TOP) -> revocation.RevocationList:
    entries = [Revoked(serial, "par1", Reason.RETIRED, AT) for serial in serials]
    return revocation.read(revocation.make(signer, entries, number=number, now=NOW), SIGNERS)


def vouched(pem: bytes) -> Vouched:
    return chain().vouch(to_der(pem))


def test_openssl_reads_what_we_list(tmp_path: Path) -> None:
    (tmp_path / "crl").write_bytes(MADE)
    (tmp_path / "ca").write_bytes(ROOT[0])
    argv = ("openssl", "crl", "-in", str(tmp_path / "crl"), "-CAfile", str(tmp_path / "ca"), "-noout", "-text")
    done = process.run(argv, timeout_s=10, package="openssl")
    assert "verify OK" in done.stderr.decode()
    for expected in ("Serial Number: 07", "Key Compromise", "X509v3 CRL Number: \n                1\n"):
        assert expected in done.text, done.text


@pytest.mark.parametrize("reason", list(Reason))
def test_an_entry_comes_back_as_it_was_listed(reason: Reason) -> None:
    entry = Revoked(2**158 + 1, "par1", reason, AT)
    found = revocation.read(revocation.make(TOP, [entry], number=9, now=NOW), SIGNERS)
    assert (found.number, dict(found.entries)) == (9, {entry.serial: entry})
    assert found.issuer == ROOTS[0]


def test_the_newest_list_counts_and_an_older_one_brings_nobody_back() -> None:
    known, (pem, _) = Revocations(), router()
    mine = vouched(pem)
    assert known.take(listed(mine.serial, number=2))
    assert not known.take(listed(number=1))
    assert not known.take(listed(number=2))
    assert str(known.entry(mine, ROOTS)) == f"revoked on {AT:%Y-%m-%d} (retired)"
    assert known.take(listed(number=3))
    assert known.entry(mine, ROOTS) is None


def test_whoever_was_renewed_is_revoked_by_the_number_that_the_root_gave() -> None:
    known, (pem, key) = Revocations(), router()
    again = vouched(renewed(*renewed(pem, key))[0])
    other = vouched(router()[0])
    assert known.entry(again, ROOTS) is None
    known.take(listed(vouched(pem).serial))
    assert known.entry(again, ROOTS) is not None
    assert known.entry(other, ROOTS) is None


def test_a_renewal_authority_revokes_what_it_signed_and_falls_with_the_root() -> None:
    pem, key = router()
    first, second = vouched(pem), vouched(renewed(pem, key)[0])
    theirs = Revocations()
    theirs.take(listed(first.serial, second.serial, signer=SIGNER))
    assert theirs.entry(first, ROOTS) is None, "it has no say in what the root signed"
    assert theirs.entry(second, ROOTS) is not None
    fallen = Revocations()
    fallen.take(listed(SIGNER.certificate.serial_number))
    assert fallen.entry(second, ROOTS) is not None
    assert fallen.entry(first, ROOTS) is None


def test_an_old_list_still_counts_and_is_told() -> None:
    known = Revocations()
    known.take(listed(7))
    assert known.overdue(NOW + timedelta(days=29)) == ()
    assert [one.number for one in known.overdue(NOW + timedelta(days=31))] == [1]


def _other_root() -> bytes:
    other = authority.create_authority("acme", ip_network("100.64.0.0/16"), now=NOW)
    return revocation.make(issuing.opened(*other), [], number=99, now=NOW)


@pytest.mark.parametrize(
    ("octets", "why"),
    [
        pytest.param(_other_root(), "no authority of this network signed it", id="another authority of the same name"),
        pytest.param(b"", "is no revocation list", id="empty"),
        pytest.param(MADE[:300], "is no revocation list", id="cut short"),
        pytest.param(ROOT[0], "is no revocation list", id="a certificate"),
        pytest.param(RENEWER[1], "is no revocation list", id="a key"),
        pytest.param(b"0" * (1 << 21), "octets; 524288 are the limit", id="too large"),
    ],
)
def test_what_is_no_list_of_ours_is_refused(octets: bytes, why: str) -> None:
    with pytest.raises(WrongInput, match=why):
        revocation.read(octets, SIGNERS)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_no_octets_raise_anything_else(data: st.DataObject) -> None:
    whole = x509.load_pem_x509_crl(MADE).public_bytes(Encoding.DER)
    octets = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 3))):
        octets[data.draw(st.integers(0, len(octets) - 1))] ^= data.draw(st.integers(1, 255))
    cut = data.draw(st.integers(0, len(octets)))
    for wire in {bytes(octets), bytes(octets[:cut])} - {whole}:
        with pytest.raises(WrongInput):
            revocation.read(wire, SIGNERS)


@pytest.mark.parametrize("value", [None, 7, "x", [1], {str(one): 1 for one in range(65)}])
def test_numbers_of_another_router_are_input(value: object) -> None:
    with pytest.raises(WrongInput):
        revocation.numbers_in(value)
    assert revocation.numbers_in({"ab": 3, "cd": "x"}) == {"ab": 3}
