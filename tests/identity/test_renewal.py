"""A renewal authority gives a router a new key and later dates, and nothing else."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from ipaddress import ip_network
from pathlib import Path

import pytest
from cryptography import x509
from renewal_cases import CLAIMS, NOW, OTHER, RENEWER, ROOT, SIGNER, asking, chain, renewed, router

from dmvpn.errors import Fault, WrongInput
from dmvpn.identity import authority, issuing, keys, renewal
from dmvpn.identity.chain import Chain, origin_extension, to_der
from dmvpn.identity.der import Malformed
from dmvpn.identity.renewal import Asking
from dmvpn.linux import process


def test_openssl_verifies_a_renewed_certificate_through_both_authorities(tmp_path: Path) -> None:
    for name, content in (("ca", ROOT[0]), ("renewal", RENEWER[0]), ("router", renewed(*router())[0])):
        (tmp_path / name).write_bytes(content)
    argv = ("openssl", "verify", "-x509_strict", "-CAfile", f"{tmp_path}/ca", "-untrusted", f"{tmp_path}/renewal")
    assert process.run((*argv, f"{tmp_path}/router"), timeout_s=10, package="openssl").text.strip().endswith("OK")
    told = process.run(
        ("openssl", "x509", "-in", f"{tmp_path}/renewal", "-noout", "-text"), timeout_s=10, package="openssl"
    ).text
    assert "CA:TRUE, pathlen:0" in told
    assert "sbgp-ipAddrBlock: critical\n                IPv4:\n                  100.64.0.0/16\n" in told


def test_renewed_twice_it_is_still_the_router_that_the_root_knows() -> None:
    pem, key = router()
    first = chain().vouch(to_der(pem))
    for _ in range(2):
        pem, key = renewed(pem, key)
    last = chain().vouch(to_der(pem))
    assert (last.claims, last.identities, last.origin) == (first.claims, first.identities, first.serial)
    assert last.renewed
    assert not first.renewed
    assert last.serial != first.serial
    assert last.not_after <= NOW + timedelta(days=renewal.RENEWED_DAYS)
    assert len(to_der(pem)) < 2048, "a certificate carries one other, however often it is renewed"


def _forged(claims: object = None, origin: bytes | None = None) -> bytes:
    """What whoever stole the renewal authority's key would make."""
    further = () if origin is None else ((origin_extension(origin), False),)
    wanted = CLAIMS if claims is None else claims
    public = keys.new_key().public_key()
    identity = "par1.example.net"
    return authority.vouched(SIGNER, wanted, identity, public, now=NOW, days=30, further=further)  # type: ignore[arg-type]


def _of_another_root() -> bytes:
    other = authority.create_authority("acme", ip_network("100.64.0.0/16"), now=NOW)
    pem, _ = authority.issue(*other, CLAIMS, "par1.example.net", now=NOW)
    return to_der(pem)


WIDER = replace(CLAIMS, prefixes=(ip_network("10.1.0.0/16"),))


@pytest.mark.parametrize(
    ("forge", "why"),
    [
        pytest.param(lambda: _forged(), "does not carry the certificate that it is a renewal of", id="from nothing"),
        pytest.param(lambda: _forged(WIDER, to_der(router()[0])), "other claims than our root", id="more prefixes"),
        pytest.param(lambda: _forged(OTHER, to_der(router()[0])), "other claims than our root", id="another router"),
        pytest.param(lambda: _forged(CLAIMS, to_der(router(OTHER)[0])), "other claims", id="another's origin"),
        pytest.param(lambda: _forged(CLAIMS, _of_another_root()), "our root did not sign", id="another root's origin"),
        pytest.param(lambda: _forged(CLAIMS, b"x" * 40), "is no certificate", id="rubbish as its origin"),
        pytest.param(lambda: _forged(CLAIMS, to_der(renewed(*router())[0])), "did not sign", id="a renewed origin"),
    ],
)
def test_a_stolen_renewal_authority_makes_no_router(forge: Callable[[], bytes], why: str) -> None:
    with pytest.raises(Malformed, match=why):
        chain().vouch(to_der(forge()))


def test_a_renewal_authority_that_the_root_did_not_make_is_none() -> None:
    other = authority.create_authority("acme", ip_network("100.64.0.0/16"), now=NOW)
    theirs, _ = renewal.create_renewal_authority(*other, "acme", "hq1", now=NOW)
    known = Chain(ROOT[0])
    assert not known.add_renewer(x509.load_pem_x509_certificate(theirs))
    assert not known.add_renewer(x509.load_pem_x509_certificate(router()[0]))
    assert not known.add_renewer(x509.load_pem_x509_certificate(ROOT[0]))
    assert known.add_renewer(x509.load_pem_x509_certificate(RENEWER[0]))


def test_an_authority_of_before_renewals_says_so() -> None:
    key = keys.new_key()
    assert key is not None
    pem, own = issuing.authority_certificate(
        "old", ((authority.address_blocks([ip_network("100.64.0.0/16")]), True),), path_length=0, now=NOW,
        ends=NOW + timedelta(days=9),
    )  # fmt: skip
    with pytest.raises(WrongInput, match="was made without room for an authority below it"):
        renewal.create_renewal_authority(pem, keys.key_pem(own), "acme", "hq1", now=NOW)


def _without_old_key() -> Asking:
    return replace(asking(*router()), signature=asking(*router()).signature)


def _for_another() -> Asking:
    pem, key = router()
    request = asking(*router(OTHER)).request
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec

    signature = keys.load_key(key, None).sign(renewal._CONTEXT + request, ec.ECDSA(hashes.SHA384()))
    return Asking(to_der(pem), request, signature)


@pytest.mark.parametrize(
    ("ask", "why"),
    [
        pytest.param(_without_old_key, "whoever asks does not have the key of that certificate", id="a stolen one"),
        pytest.param(_for_another, "asks in another router's name", id="another's name"),
        pytest.param(
            lambda: asking(*router(days=3, now=NOW - timedelta(days=9))), "renewed by the authority", id="old"
        ),
        pytest.param(lambda: asking(*router(now=NOW + timedelta(days=9))), "the clock here says", id="not yet"),
    ],
)
def test_who_may_not_have_it_is_not_renewed(ask: Callable[[], Asking], why: str) -> None:
    with pytest.raises(Fault, match=why):
        renewal.judge(ask(), chain(), lambda _: "", NOW)


def test_a_revoked_router_is_not_renewed() -> None:
    with pytest.raises(Fault, match="revoked on a monday"):
        renewal.judge(asking(*router()), chain(), lambda _: "revoked on a monday", NOW)


@pytest.mark.parametrize("damage", range(0, 3))
def test_what_is_asked_for_survives_no_damage(damage: int) -> None:
    wire = asking(*router()).to_wire()
    word = ("certificate", "request", "signature")[damage]
    for spoilt in (wire[word][:40], wire[word][:-8] + "AAAAAAA=", "", "~", wire[word] * 20):
        with pytest.raises(Fault):
            renewal.judge(Asking.from_wire({**wire, word: spoilt}), chain(), lambda _: "", NOW)
    with pytest.raises(WrongInput):
        Asking.from_wire({key: value for key, value in wire.items() if key != word})


def test_an_answer_for_another_key_is_not_put_in_place() -> None:
    pem, key = router()
    answer, new = renewed(pem, key)
    assert renewal.accept(answer, pem, new, chain(), NOW).claims == CLAIMS
    with pytest.raises(Fault, match="is for another key"):
        renewal.accept(answer, pem, key, chain(), NOW)
    with pytest.raises(Fault, match="says something else"):
        renewal.accept(router(OTHER)[0], pem, new, chain(), NOW)
    with pytest.raises(Fault, match="is not valid now"):
        renewal.accept(answer, pem, new, chain(), NOW + timedelta(days=400))
