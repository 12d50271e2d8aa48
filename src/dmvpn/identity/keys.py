"""Private and public keys in PEM: made, read, and closed with a passphrase. ECDSA throughout.

A key with a passphrase is PKCS #8 with scrypt and AES-256-CBC (RFC 5958, RFC 8018, RFC 7914 7), which OpenSSL reads
too. cryptography's own writer stops at 2048 rounds of PBKDF2, too few for a key that vouches for a whole network.
"""

import base64
import os
import textwrap
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import padding, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from dmvpn.errors import WrongInput
from dmvpn.identity import der

CURVE: Final = ec.SECP384R1
PEM_LIMIT_OCTETS: Final = 1 << 16

# OpenSSL takes at most 32 MiB for this; 16 MiB six times over is what a guesser pays for each guess.
_N, _R, _P = 1 << 14, 8, 6
_PBES2 = bytes.fromhex("2a864886f70d01050d")  # 1.2.840.113549.1.5.13
_SCRYPT = bytes.fromhex("2b06010401da47040b")  # 1.3.6.1.4.1.11591.4.11
_AES_256_CBC = bytes.fromhex("60864801650304012a")  # 2.16.840.1.101.3.4.1.42
_OBJECT_IDENTIFIER = 0x06


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(CURVE())


def key_pem(key: ec.EllipticCurvePrivateKey, passphrase: bytes | None = None) -> bytes:
    """PKCS #8, closed with the passphrase if one is given."""
    if passphrase is None:
        return key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    plain = key.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    body = textwrap.wrap(base64.b64encode(_sealed(plain, passphrase)).decode(), 64)
    lines = ("-----BEGIN ENCRYPTED PRIVATE KEY-----", *body, "-----END ENCRYPTED PRIVATE KEY-----", "")
    return "\n".join(lines).encode()


def _sealed(plain: bytes, passphrase: bytes) -> bytes:
    """EncryptedPrivateKeyInfo."""
    salt, vector = os.urandom(16), os.urandom(16)
    secret = Scrypt(salt=salt, length=32, n=_N, r=_R, p=_P).derive(passphrase)
    padder = padding.PKCS7(128).padder()
    padded = padder.update(plain) + padder.finalize()
    encryptor = Cipher(algorithms.AES256(secret), modes.CBC(vector)).encryptor()
    costs = der.sequence(der.encode(der.OCTET_STRING, salt), der.integer(_N), der.integer(_R), der.integer(_P))
    derivation = der.sequence(der.encode(_OBJECT_IDENTIFIER, _SCRYPT), costs)
    cipher = der.sequence(der.encode(_OBJECT_IDENTIFIER, _AES_256_CBC), der.encode(der.OCTET_STRING, vector))
    scheme = der.sequence(der.encode(_OBJECT_IDENTIFIER, _PBES2), der.sequence(derivation, cipher))
    octets = encryptor.update(padded) + encryptor.finalize()
    return der.sequence(scheme, der.encode(der.OCTET_STRING, octets))


def is_encrypted(pem: bytes) -> bool:
    """Whether a passphrase opens this key."""
    return b"-----BEGIN ENCRYPTED PRIVATE KEY-----" in pem or b"Proc-Type: 4,ENCRYPTED" in pem


def opened(pem: bytes, passphrase: bytes | None, where: str = "CA key") -> bytes:
    """The same key without a passphrase, to be kept in memory only. Raises WrongInput."""
    return key_pem(load_key(pem, passphrase, where))


def load_key(pem: bytes, passphrase: bytes | None, where: str = "CA key") -> ec.EllipticCurvePrivateKey:
    """Raises WrongInput for what is no such key, and for a passphrase that is missing, wrong or in vain."""
    refuse_large(pem, where)
    try:
        key = serialization.load_pem_private_key(pem, passphrase)
    except TypeError as error:  # encrypted without a passphrase, or the reverse
        fix = "" if passphrase else "give its passphrase"
        raise WrongInput(where, "is encrypted" if not passphrase else "is not encrypted", fix) from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise WrongInput(where, "cannot be read, or the passphrase is wrong") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise WrongInput(where, "is no ECDSA key", "make the CA with `dmvpn pki init`")
    return key


def load_public_key(pem: bytes) -> ec.EllipticCurvePublicKey:
    """Raises WrongInput for what is no ECDSA key of 256 bits or more."""
    refuse_large(pem, "public key")
    try:
        key = serialization.load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise WrongInput("public key", f"cannot be read: {error}") from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.key_size < 256:
        raise WrongInput("public key", "is no ECDSA key of 256 bits or more", "make one with `dmvpn join --request`")
    return key


def public_pem(key: ec.EllipticCurvePublicKey) -> bytes:
    return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def public_key_of(pem: bytes, where: str = "key") -> bytes:
    """The public half (PEM) of a private key without a passphrase. Raises WrongInput."""
    return public_pem(load_key(pem, None, where).public_key())


def refuse_large(octets: bytes, where: str) -> None:
    """Raises WrongInput for more than any key or certificate of ours has."""
    if len(octets) > PEM_LIMIT_OCTETS:
        raise WrongInput(where, f"is {len(octets)} octets; {PEM_LIMIT_OCTETS} are the limit", "give one PEM file")
