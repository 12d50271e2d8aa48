"""Keys at rest, as OpenSSL reads them too."""

from pathlib import Path

import pytest

from dmvpn.errors import WrongInput
from dmvpn.identity import keys
from dmvpn.linux import process

WORDS = b"correct horse battery"
KEY = keys.new_key()
CLOSED = keys.key_pem(KEY, WORDS)


def test_openssl_opens_our_encrypted_key_and_names_its_scheme(tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(CLOSED)
    (tmp_path / "words").write_bytes(WORDS)
    argv = ("openssl", "pkey", "-in", str(tmp_path / "key"), "-passin", f"file:{tmp_path / 'words'}", "-pubout")
    assert process.run(argv, timeout_s=10, package="openssl").stdout == keys.public_pem(KEY.public_key())
    told = process.run(("openssl", "asn1parse", "-in", str(tmp_path / "key")), timeout_s=10, package="openssl").text
    assert "PBES2" in told
    assert ":id-scrypt" in told or ":scrypt" in told
    assert "aes-256-cbc" in told


def test_a_key_opens_with_its_passphrase_alone() -> None:
    assert keys.is_encrypted(CLOSED)
    assert keys.opened(CLOSED, WORDS) == keys.key_pem(KEY)
    assert not keys.is_encrypted(keys.key_pem(KEY))


@pytest.mark.parametrize(
    ("pem", "words", "fault"),
    [
        pytest.param(CLOSED, None, "pki/ca.key: is encrypted; give its passphrase", id="none given"),
        pytest.param(CLOSED, b"battery", "pki/ca.key: cannot be read, or the passphrase is wrong", id="a wrong one"),
        pytest.param(keys.key_pem(KEY), WORDS, "pki/ca.key: is not encrypted", id="in vain"),
        pytest.param(
            b"x" * 70000, None, "pki/ca.key: is 70000 octets; 65536 are the limit; give one PEM file", id="too large"
        ),
        pytest.param(b"", None, "pki/ca.key: cannot be read, or the passphrase is wrong", id="empty"),
    ],
)
def test_what_does_not_open_says_why(pem: bytes, words: bytes | None, fault: str) -> None:
    with pytest.raises(WrongInput) as caught:
        keys.load_key(pem, words, "pki/ca.key")
    assert str(caught.value) == fault


@pytest.mark.parametrize("at", range(30, len(CLOSED) - 30, 101))
def test_a_damaged_key_never_raises_anything_else(at: int) -> None:
    octets = bytearray(CLOSED)
    octets[at] = ord("A") if octets[at] != ord("A") else ord("B")
    for damaged in (bytes(octets), CLOSED[:at]):
        try:
            keys.load_key(damaged, WORDS)
        except WrongInput:
            continue
