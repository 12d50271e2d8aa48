"""A bundle: all that one router needs in order to join, in one file that only that router can open.

    DMVPN-BUNDLE 1\\n                  magic and version of the form
    {"network": ..., ...}\\n           the head, JSON on one line, readable by everybody
    ciphertext and tag                AES-256-GCM over the contents, JSON
    32 octets                         SHA-256 of everything before

What opens it stands in the head (locks.py): a passphrase, in an invitation; or the key that the router made itself,
in the answer to its request, which is then signed by the authority as well. Both lines above the ciphertext are
authenticated. The digest protects from nobody: it tells a file that was cut or damaged on its way from a wrong
passphrase, and a reader that meets a newer form knows before it asks for one.
"""

import base64
import binascii
import hashlib
import json
import re
import secrets
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, NoReturn

from cryptography import x509
from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from dmvpn.errors import Fault, WrongInput
from dmvpn.identity.claims import check_name
from dmvpn.identity.locks import KeyLock, Lock, PassphraseLock, lock_in

VERSION = 1
MAGIC = b"DMVPN-BUNDLE "
LARGEST_OCTETS = 8 << 20
HEAD_LIMIT_OCTETS = 2048
DIGEST_OCTETS = hashlib.sha256().digest_size
PASSPHRASE_SHORTEST, PASSPHRASE_LONGEST = 12, 1024
SECRETS_LIMIT = 256

NONCE_OCTETS = 12

# A clock may be a little slow; one that boots in the past is years off.
SLOW_CLOCK = timedelta(days=1)
FAR_OFF = timedelta(days=366)

_SECRET_NAME = re.compile(r"(?!(?:.*/)?\.\.(?:/|$))[A-Za-z0-9_.-][A-Za-z0-9_./-]{0,199}", re.ASCII)
_MACHINE = re.compile(r"[0-9a-f]{32}", re.ASCII)
# Without letters and digits that look alike; 16 of 31 are 79 bits.
ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789"


@dataclass(frozen=True, slots=True)
class Head:
    """What everybody may read of a bundle. Times are aware of their zone; `machine` binds it to one machine."""

    network: str
    router: str
    issued: datetime
    expires: datetime
    machine: str | None = None


@dataclass(frozen=True, slots=True)
class Contents:
    """What it carries: PEM, the slice of the network file, and secret files by their path beside that."""

    network_file: str
    ca: bytes
    certificate: bytes
    key: bytes
    foreign_ca: bytes | None = None
    crl: bytes | None = None
    foreign_crl: bytes | None = None
    secrets: tuple[tuple[str, bytes], ...] = ()


def passphrase() -> str:
    """A new one, to be read out over a telephone."""
    letters = "".join(secrets.choice(ALPHABET) for _ in range(16))
    return "-".join(letters[start : start + 4] for start in range(0, 16, 4))


def refuse_weak(words: str) -> None:
    """Raises WrongInput for a passphrase that somebody with the file would guess, or nobody could type."""
    if not PASSPHRASE_SHORTEST <= len(words) <= PASSPHRASE_LONGEST:
        what = f"{len(words)} characters"
        raise WrongInput("passphrase", what, f"use {PASSPHRASE_SHORTEST} to {PASSPHRASE_LONGEST}, or have one made")
    if any(not char.isprintable() for char in words):
        raise WrongInput("passphrase", "has a character that cannot be typed", "use letters, digits and blanks")


def seal(head: Head, contents: Contents, words: str) -> bytes:
    """An invitation's octets. Raises WrongInput for a weak passphrase and for names no certificate could carry."""
    refuse_weak(words)
    lock = PassphraseLock.new()
    return _sealed_octets(head, lock, lock.key(words), lambda above: _packed(contents))


def seal_answer(head: Head, contents: Contents, recipient: bytes, ca_key: bytes) -> bytes:
    """The answer to a router's request, for its public key (PEM), signed with the authority's key (PEM, open).

    Raises WrongInput for a key on another curve than ours.
    """
    public = serialization.load_pem_public_key(recipient)
    signer = serialization.load_pem_private_key(ca_key, None)
    if not isinstance(public, ec.EllipticCurvePublicKey) or not isinstance(signer, ec.EllipticCurvePrivateKey):
        raise WrongInput("signing request", "its key is no ECDSA key", "make it with `dmvpn join --request`")
    try:
        lock, key = KeyLock.new(public)
    except ValueError:
        what = "its key is on another curve than P-384"
        raise WrongInput("signing request", what, "make it with `dmvpn join --request`") from None

    def signed(above: bytes) -> bytes:
        packed = _packed(contents)
        signature = signer.sign(above + packed, ec.ECDSA(hashes.SHA384()))
        return len(signature).to_bytes(2) + signature + packed

    return _sealed_octets(head, lock, key, signed)


def _sealed_octets(head: Head, lock: Lock, key: bytes, plain: Callable[[bytes], bytes]) -> bytes:
    check_name("network", head.network)
    check_name("router", head.router)
    nonce = secrets.token_bytes(NONCE_OCTETS)
    line = {
        "network": head.network,
        "router": head.router,
        "issued": head.issued.astimezone(UTC).isoformat(timespec="seconds"),
        "expires": head.expires.astimezone(UTC).isoformat(timespec="seconds"),
        "machine": head.machine,
        **lock.line(),
        "aes-256-gcm": {"nonce": nonce.hex()},
    }
    above = MAGIC + f"{VERSION}\n{json.dumps(line, separators=(',', ':'))}\n".encode()
    octets = above + AESGCM(key).encrypt(nonce, plain(above), above)
    return octets + hashlib.sha256(octets).digest()


@dataclass(frozen=True, slots=True)
class Sealed:
    """A bundle that is whole, as far as one can tell without opening it."""

    head: Head
    name: str
    lock: Lock
    _above: bytes
    _ciphertext: bytes
    _nonce: bytes

    def open(self, words: str) -> Contents:
        """An invitation. Raises WrongInput for a wrong passphrase; the head is authentic once this has returned."""
        if not isinstance(self.lock, PassphraseLock):
            raise WrongInput(self.name, "is the answer to a request, which no passphrase opens")
        try:
            text = AESGCM(self.lock.key(words)).decrypt(self._nonce, self._ciphertext, self._above)
        except InvalidTag:
            what = "does not open: the passphrase is wrong, or somebody changed the file"
            raise WrongInput(self.name, what, "type it again, or ask for a new invitation") from None
        return _unpacked(self.name, text)

    def open_with(self, own_key: bytes) -> Contents:
        """An answer, with the key (PEM) whose request it answers; the contents then have that key.

        Raises WrongInput for another router's answer, and for one that the authority in it did not sign.
        """
        own = serialization.load_pem_private_key(own_key, None)
        if not isinstance(self.lock, KeyLock) or not isinstance(own, ec.EllipticCurvePrivateKey):
            raise WrongInput(self.name, "is an invitation, which a passphrase opens")
        try:
            text = AESGCM(self.lock.key(own)).decrypt(self._nonce, self._ciphertext, self._above)
        except (InvalidTag, ValueError):
            what = "is not the answer to this machine's request, or somebody changed it"
            raise WrongInput(self.name, what, "sign what `dmvpn join --request` prints here") from None
        length = int.from_bytes(text[:2])
        signature, packed = text[2 : 2 + length], text[2 + length :]
        contents = _unpacked(self.name, packed)
        try:
            anchor = x509.load_pem_x509_certificate(contents.ca).public_key()
            assert isinstance(anchor, ec.EllipticCurvePublicKey)
            anchor.verify(signature, self._above + packed, ec.ECDSA(hashes.SHA384()))
        except (ValueError, AssertionError, InvalidSignature):
            raise WrongInput(self.name, "was not signed by the authority that it names", "sign it anew") from None
        return replace(contents, key=own_key)

    @property
    def digest(self) -> str:
        """Names this very bundle."""
        return hashlib.sha256(self._above + self._ciphertext).hexdigest()


def read(octets: bytes, name: str) -> Sealed:
    """What can be told of a bundle without its passphrase. Raises WrongInput: no bundle, a newer one, cut, damaged."""
    if not octets.startswith(MAGIC):
        raise WrongInput(name, "is no bundle", "give the file that `dmvpn invite` wrote")
    if len(octets) > LARGEST_OCTETS:
        raise WrongInput(name, f"is larger than {LARGEST_OCTETS} octets", "give the file that `dmvpn invite` wrote")
    first, _, rest = octets.partition(b"\n")
    line, newline, _ = rest[: HEAD_LIMIT_OCTETS + 1].partition(b"\n")
    version = first[len(MAGIC) :]
    if version.isdigit() and int(version[:9]) > VERSION:
        what = f"is a bundle of version {version[:9].decode()}, and this program reads version {VERSION}"
        raise WrongInput(name, what, "install the OpenDMVPN that made it, or a later one")
    whole, digest = octets[:-DIGEST_OCTETS], octets[-DIGEST_OCTETS:]
    if not newline or hashlib.sha256(whole).digest() != digest:
        _refuse(name)
    above = first + b"\n" + line + b"\n"
    try:
        return _sealed(name, above, json.loads(line), whole[len(above) :])
    except (KeyError, TypeError, ValueError, WrongInput, OverflowError, RecursionError):
        _refuse(name)


def refuse_untimely(head: Head, name: str, now: datetime) -> None:
    """Raises WrongInput for a bundle that is over, or not yet; a clock that is far off is said as such."""
    clock = f"this machine's clock says {now:%Y-%m-%d %H:%M} UTC"
    if now < head.issued - SLOW_CLOCK:
        what = f"was made on {head.issued:%Y-%m-%d}, and {clock}"
        raise WrongInput(name, what, "the clock is too early: set it, then join again")
    if now >= head.expires:
        far = now - head.expires > FAR_OFF
        fix = "the clock is too late: set it, then join again" if far else "ask for a new invitation"
        raise WrongInput(name, f"expired on {head.expires:%Y-%m-%d %H:%M} UTC, and {clock}", fix)


def _refuse(name: str) -> NoReturn:
    raise WrongInput(name, "is cut short, or was changed on its way", "fetch it again, or ask for a new invitation")


def _sealed(name: str, above: bytes, line: dict[str, Any], ciphertext: bytes) -> Sealed:
    nonce, machine = bytes.fromhex(line["aes-256-gcm"]["nonce"]), line["machine"]
    if len(nonce) != NONCE_OCTETS or len(ciphertext) < DIGEST_OCTETS:
        raise ValueError("lengths")
    if machine is not None and _MACHINE.fullmatch(machine) is None:
        raise ValueError("machine")
    check_name("network", line["network"])
    check_name("router", line["router"])
    head = Head(line["network"], line["router"], _time(line["issued"]), _time(line["expires"]), machine)
    return Sealed(head, name, lock_in(line), above, ciphertext, nonce)


def _time(text: str) -> datetime:
    time = datetime.fromisoformat(text)
    if time.tzinfo is None:
        raise ValueError(text)
    return time.astimezone(UTC)


_PEM = ("ca", "certificate", "key", "foreign_ca", "crl", "foreign_crl")


def _packed(contents: Contents) -> bytes:
    value = asdict(contents)
    value |= {name: None if value[name] is None else value[name].decode("ascii") for name in _PEM}
    value["secrets"] = {name: base64.b64encode(secret).decode() for name, secret in contents.secrets}
    return json.dumps(value).encode()


def _unpacked(name: str, text: bytes) -> Contents:
    """Whoever knows the passphrase wrote it, and may still have made a mistake."""
    try:
        value = {"foreign_crl": None, **json.loads(text)}  # bundles of before have none
        given = value.pop("secrets")
        pem = {word: None if value[word] is None else str(value[word]).encode("ascii") for word in _PEM}
        kept = tuple((path, base64.b64decode(secret, validate=True)) for path, secret in given.items())
        if len(kept) > SECRETS_LIMIT or any(_SECRET_NAME.fullmatch(path) is None for path, _ in kept):
            raise ValueError("secrets")
        return Contents(**{**value, **pem}, secrets=kept)
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError, binascii.Error, Fault) as error:
        raise WrongInput(name, "opens, and what is in it is not what `dmvpn invite` writes", "make it anew") from error
