"""The strict flow: a router makes its key, the authority vouches for what the network file says of that router."""

from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from dmvpn.errors import Fault, WrongInput
from dmvpn.identity import authority, requests
from dmvpn.linux import files
from dmvpn.operations import pki, reading
from two_routers import NETWORK

WORDS = "correct horse battery"


@pytest.fixture
def file(tmp_path: Path) -> reading.NetworkFile:
    return reading.from_text(NETWORK, "network.yaml", tmp_path)


@pytest.fixture
def directory(file: reading.NetworkFile, tmp_path: Path) -> Path:
    pki.init(file, tmp_path / "pki", None)
    return tmp_path / "pki"


def test_what_a_certificate_claims_comes_from_the_file(file: reading.NetworkFile, directory: Path) -> None:
    key = ec.generate_private_key(ec.SECP384R1())
    names = [x509.DNSName("par1.example.net"), x509.IPAddress(reading.plan_of(file, "hq1").clouds[0].addresses[0])]
    request = (
        x509.CertificateSigningRequestBuilder(x509.Name([]))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=3), critical=True)
        .sign(key, hashes.SHA384())
    )
    issued = pki.sign(file, directory, request.public_bytes(Encoding.PEM), days=30)
    told = authority.describe((issued.directory / "router.pem").read_bytes())
    assert told.claims == pki.claims_of(reading.plan_of(file, "par1"))
    assert told.names == ("par1.example.net", "10.255.1.11")
    assert not told.authority
    assert (told.not_after - told.not_before).days == 31
    assert not (issued.directory / "router.key").exists()
    assert (directory / "issued" / f"{told.serial:x}.pem").exists()


def _other_key(_: bytes) -> bytes:
    key = rsa.generate_private_key(65537, 2048)
    names = x509.SubjectAlternativeName([x509.DNSName("par1.example.net")])
    builder = x509.CertificateSigningRequestBuilder(x509.Name([])).add_extension(names, critical=False)
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)


def _changed(request: bytes) -> bytes:
    der = bytearray(x509.load_pem_x509_csr(request).public_bytes(Encoding.DER))
    der[-1] ^= 1
    return bytes(der)


@pytest.mark.parametrize(
    ("spoil", "fault"),
    [
        pytest.param(_other_key, "public key: is no ECDSA key of 256 bits or more", id="RSA"),
        pytest.param(_changed, "signing request: ", id="changed on its way"),
        pytest.param(lambda octets: octets[:200], "signing request: cannot be read", id="cut short"),
        pytest.param(lambda _: b"", "signing request: cannot be read", id="empty"),
        pytest.param(lambda octets: octets * 300, "signing request: is ", id="too large"),
        pytest.param(
            lambda _: requests.create_request("osl1.example.net")[0],
            "signing request: network.yaml has no router that calls itself osl1.example.net",
            id="nobody in the file",
        ),
        pytest.param(
            lambda _: requests.create_request("hq1.example.net")[0],
            "signing request: is of hq1.example.net, which is hq1, not par1",
            id="another router",
        ),
    ],
)
def test_a_request_that_is_not_right_is_refused(
    file: reading.NetworkFile, directory: Path, spoil: Callable[[bytes], bytes], fault: str
) -> None:
    request = spoil(requests.create_request("par1.example.net")[0])
    with pytest.raises(WrongInput) as caught:
        pki.sign(file, directory, request, router="par1")
    assert str(caught.value).startswith(fault)
    assert not (directory / "routers" / "par1").exists()


def test_an_authority_with_a_passphrase_signs_when_it_is_said(file: reading.NetworkFile, tmp_path: Path) -> None:
    directory = tmp_path / "closed"
    pki.init(file, directory, WORDS)
    assert b"ENCRYPTED" in (directory / "ca.key").read_bytes()
    asked: list[Path] = []

    def unlock(key: Path) -> str:
        asked.append(key)
        return WORDS

    assert pki.issue(file, directory, "par1", unlock=unlock).claims is not None
    assert asked == [directory / "ca.key"]
    with pytest.raises(WrongInput, match=r"ca.key: is encrypted, and nobody is here to be asked"):
        pki.issue(file, directory, "par1")
    with pytest.raises(WrongInput, match=r"ca.key: cannot be read, or the passphrase is wrong"):
        pki.issue(file, directory, "par1", unlock=lambda _: "battery staple")


def test_a_short_passphrase_makes_no_authority(file: reading.NetworkFile, tmp_path: Path) -> None:
    with pytest.raises(WrongInput, match="passphrase: 7 characters; use 12 or more"):
        pki.init(file, tmp_path / "short", "battery")
    assert not (tmp_path / "short").exists()


def test_a_key_that_others_can_read_is_not_used(file: reading.NetworkFile, directory: Path) -> None:
    (directory / "ca.key").chmod(0o640)
    with pytest.raises(Fault, match="others can use it"):
        pki.issue(file, directory, "par1")
    (directory / "ca.key").chmod(0o600)
    files.check_private(pki.issue(file, directory, "par1").directory / "router.key")
