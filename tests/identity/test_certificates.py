"""The CA and its certificates, as OpenSSL reads and verifies them."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest

from dmvpn.errors import WrongInput
from dmvpn.identity import authority, requests
from dmvpn.identity.claims import Claims, Role
from dmvpn.linux import process

NOW = datetime.now(UTC)
RANGE = ip_network("100.64.0.0/16")
CLAIMS = Claims(
    "acme",
    "hel1",
    Role.SPOKE,
    ip_address("100.64.0.11"),
    (ip_address("10.255.1.11"),),
    (ip_network("10.1.8.0/24"),),
    65001,
)
CA = authority.create_authority("acme", RANGE, now=NOW)


def issued(tmp_path: Path, claims: Claims = CLAIMS) -> Path:
    pem, key = authority.issue(*CA, claims, "hel1.example.net", now=NOW)
    (tmp_path / "ca.pem").write_bytes(CA[0])
    (tmp_path / "router.pem").write_bytes(pem)
    assert key is not None
    (tmp_path / "router.key").write_bytes(key)
    return tmp_path / "router.pem"


def openssl(*arguments: str, accept: tuple[int, ...] = (0,)) -> str:
    result = process.run(("openssl", *arguments), timeout_s=10, package="openssl", accept=accept)
    return result.text + result.stderr.decode()


def test_openssl_shows_what_we_certified(tmp_path: Path) -> None:
    router = openssl("x509", "-in", str(issued(tmp_path)), "-noout", "-text")
    for expected in (
        "CN = hel1.example.net",
        "DNS:hel1.example.net, IP Address:10.255.1.11",
        "sbgp-ipAddrBlock: critical\n                IPv4:\n                  100.64.0.11/32\n",
        "ipsec Internet Key Exchange",
        "X509v3 Subject Key Identifier",
        "X509v3 Authority Key Identifier",
        "2.25.210961220805890837126899035020992272865: \n",
        "ASN1 OID: secp384r1",
    ):
        assert expected in router, router
    ca = openssl("x509", "-in", str(tmp_path / "ca.pem"), "-noout", "-text")
    assert "sbgp-ipAddrBlock: critical\n                IPv4:\n                  100.64.0.0/16\n" in ca
    assert "CA:TRUE, pathlen:1" in ca


@pytest.mark.parametrize(
    ("range_", "transport"),
    [
        pytest.param("100.64.0.0/16", "100.64.0.11", id="IPv4"),
        pytest.param("100.64.0.0/15", "100.65.255.1", id="IPv4, odd length"),
        pytest.param("fd00:64::/64", "fd00:64::11", id="IPv6"),
    ],
)
@pytest.mark.parametrize("purpose", ["any", "sslserver", "sslclient"])
def test_openssl_verifies_the_chain_with_its_blocks(tmp_path: Path, range_: str, transport: str, purpose: str) -> None:
    ca = authority.create_authority("acme", ip_network(range_), now=NOW)
    claims = replace(CLAIMS, transport=ip_address(transport))
    pem, _ = authority.issue(*ca, claims, "hel1.example.net", now=NOW)
    (tmp_path / "ca.pem").write_bytes(ca[0])
    (tmp_path / "router.pem").write_bytes(pem)
    verify = ("verify", "-x509_strict", "-purpose", purpose, "-CAfile", str(tmp_path / "ca.pem"))
    assert openssl(*verify, str(tmp_path / "router.pem")).strip().endswith("OK")
    assert ip_address(transport) == authority.describe(pem).blocks[0].network_address


def test_openssl_refuses_a_block_outside_the_authoritys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(authority, "_check", lambda *_: None)
    pem = issued(tmp_path, replace(CLAIMS, transport=ip_address("100.99.0.1")))
    said = openssl("verify", "-CAfile", str(tmp_path / "ca.pem"), str(pem), accept=(2,))
    assert "RFC 3779 resource not subset of parent's resources" in said


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        pytest.param(
            {"transport": ip_address("100.99.0.1")},
            "claims of hel1: transport address 100.99.0.1 is outside the CA's 100.64.0.0/16; "
            "make a CA for the network's transport range",
            id="transport address of another network",
        ),
        pytest.param(
            {"prefixes": (ip_network("100.64.0.1/32"),)},
            "claims of hel1: prefix 100.64.0.1/32 overlaps the transport range; "
            "transport addresses are claimed one by one",
            id="another router's transport address as a prefix",
        ),
    ],
)
def test_the_authority_does_not_vouch_for_everything(change: dict[str, object], fault: str) -> None:
    with pytest.raises(WrongInput) as caught:
        authority.issue(*CA, replace(CLAIMS, **change), "hel1.example.net", now=NOW)  # type: ignore[arg-type]
    assert str(caught.value) == fault


@pytest.mark.parametrize("identity", ["", "a b", "x\nline", "UPPER", "a" * 300, "-x"])
def test_an_identity_is_a_host_name(identity: str) -> None:
    with pytest.raises(WrongInput):
        authority.issue(*CA, CLAIMS, identity, now=NOW)


def test_a_router_may_make_its_own_key(tmp_path: Path) -> None:
    request, key = requests.create_request("hel1.example.net")
    pem, none = authority.issue(*CA, CLAIMS, "hel1.example.net", requests.public_key_of_request(request), now=NOW)
    assert none is None
    (tmp_path / "key").write_bytes(key)
    (tmp_path / "pem").write_bytes(pem)
    assert openssl("pkey", "-in", str(tmp_path / "key"), "-pubout") == openssl(
        "x509", "-in", str(tmp_path / "pem"), "-noout", "-pubkey"
    )


@pytest.mark.parametrize("damage", [0, 30, 150, 300])
def test_a_damaged_request_is_refused(damage: int) -> None:
    request, _ = requests.create_request("hel1.example.net")
    octets = bytearray(request)
    octets[damage] = ord("A") if octets[damage] != ord("A") else ord("B")
    with pytest.raises(WrongInput):
        requests.public_key_of_request(bytes(octets))


def test_a_key_with_a_passphrase_needs_it() -> None:
    certificate, key = authority.create_authority("acme", RANGE, now=NOW, passphrase=b"correct horse")
    assert b"BEGIN ENCRYPTED PRIVATE KEY" in key
    assert authority.issue(certificate, key, CLAIMS, "hel1", now=NOW, passphrase=b"correct horse")[1]
    with pytest.raises(WrongInput, match="CA key: is encrypted; give its passphrase"):
        authority.issue(certificate, key, CLAIMS, "hel1", now=NOW)
    with pytest.raises(WrongInput, match="CA key: cannot be read, or the passphrase is wrong"):
        authority.issue(certificate, key, CLAIMS, "hel1", now=NOW, passphrase=b"battery")


def test_a_key_of_another_authority_is_noticed() -> None:
    other = authority.create_authority("acme", RANGE, now=NOW)
    with pytest.raises(WrongInput, match="CA: the key does not belong to the certificate"):
        authority.issue(CA[0], other[1], CLAIMS, "hel1", now=NOW)


def test_a_certificate_ends_no_later_than_its_authority() -> None:
    ca = authority.create_authority("acme", RANGE, now=NOW, days=10)
    pem, _ = authority.issue(*ca, CLAIMS, "hel1", now=NOW)
    assert authority.describe(pem).not_after == authority.describe(ca[0]).not_after
    assert authority.describe(pem).not_before <= NOW - timedelta(hours=23)


def test_describe_says_who_and_what() -> None:
    told = authority.describe(authority.issue(*CA, CLAIMS, "hel1.example.net", now=NOW)[0])
    assert (told.subject, told.issuer) == ("CN=hel1.example.net", "CN=acme DMVPN CA")
    assert told.names == ("hel1.example.net", "10.255.1.11")
    assert told.claims == CLAIMS
    assert not told.authority
    assert authority.describe(CA[0]).authority
