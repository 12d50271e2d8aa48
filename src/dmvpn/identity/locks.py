"""What opens a bundle: a passphrase, or the key of the router that asked. Each gives one AES-256 key, used once.

Passphrase: scrypt (RFC 7914) with a salt of its own. Router's key: ECDH with a key made for this one bundle on the
curve of the router's, then HKDF-SHA384 (RFC 5869) over both public keys, as in ECIES (SEC 1 5.1).
"""

import secrets
from dataclasses import dataclass
from typing import Any, Self

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

# 64 MiB for as long as it takes twice, which a small router has and a guesser pays for each guess. RFC 7914 2.
SCRYPT_N, SCRYPT_R, SCRYPT_P = 1 << 16, 8, 2
# What is taken from a file that nobody has vouched for yet: at most 256 MiB.
SCRYPT_N_BOUNDS, SCRYPT_P_LARGEST = (1 << 14, 1 << 18), 4
SALT_OCTETS, KEY_OCTETS = 16, 32
CURVE = ec.SECP384R1
_INFO = b"OpenDMVPN bundle 1"


@dataclass(frozen=True, slots=True)
class PassphraseLock:
    """scrypt's costs and salt."""

    salt: bytes
    n: int
    p: int

    @classmethod
    def new(cls) -> Self:
        return cls(secrets.token_bytes(SALT_OCTETS), SCRYPT_N, SCRYPT_P)

    @classmethod
    def read(cls, value: dict[str, Any]) -> Self:
        """Raises ValueError for costs that nobody should pay, or that cost a guesser nothing."""
        n, p, salt = int(value["n"]), int(value["p"]), bytes.fromhex(value["salt"])
        low, high = SCRYPT_N_BOUNDS
        if not low <= n <= high or n & (n - 1) or value["r"] != SCRYPT_R or not 1 <= p <= SCRYPT_P_LARGEST:
            raise ValueError("scrypt")
        if len(salt) != SALT_OCTETS:
            raise ValueError("salt")
        return cls(salt, n, p)

    def line(self) -> dict[str, Any]:
        return {"scrypt": {"n": self.n, "r": SCRYPT_R, "p": self.p, "salt": self.salt.hex()}}

    def key(self, words: str) -> bytes:
        return Scrypt(salt=self.salt, length=KEY_OCTETS, n=self.n, r=SCRYPT_R, p=self.p).derive(words.encode())


@dataclass(frozen=True, slots=True)
class KeyLock:
    """The public half of the bundle's own key; the private one is forgotten when the bundle is made."""

    point: bytes

    @classmethod
    def new(cls, recipient: ec.EllipticCurvePublicKey) -> tuple[Self, bytes]:
        """The lock, and the AES key. Raises ValueError for a key on another curve."""
        own = ec.generate_private_key(CURVE())
        lock = cls(_point(own.public_key()))
        return lock, lock._derived(own.exchange(ec.ECDH(), recipient), recipient)

    @classmethod
    def read(cls, value: dict[str, Any]) -> Self:
        """Raises ValueError for what is no point of the curve."""
        point = bytes.fromhex(value["point"])
        ec.EllipticCurvePublicKey.from_encoded_point(CURVE(), point)
        return cls(point)

    def line(self) -> dict[str, Any]:
        return {"ecdh-p384": {"point": self.point.hex()}}

    def key(self, own: ec.EllipticCurvePrivateKey) -> bytes:
        """Raises ValueError for a key on another curve."""
        theirs = ec.EllipticCurvePublicKey.from_encoded_point(CURVE(), self.point)
        return self._derived(own.exchange(ec.ECDH(), theirs), own.public_key())

    def _derived(self, shared: bytes, recipient: ec.EllipticCurvePublicKey) -> bytes:
        info = _INFO + self.point + _point(recipient)
        return HKDF(algorithm=hashes.SHA384(), length=KEY_OCTETS, salt=None, info=info).derive(shared)


Lock = PassphraseLock | KeyLock


def lock_in(line: dict[str, Any]) -> Lock:
    """The one lock of a head. Raises KeyError, ValueError."""
    if "ecdh-p384" in line:
        return KeyLock.read(line["ecdh-p384"])
    return PassphraseLock.read(line["scrypt"])


def _point(key: ec.EllipticCurvePublicKey) -> bytes:
    return key.public_bytes(serialization.Encoding.X962, serialization.PublicFormat.CompressedPoint)
