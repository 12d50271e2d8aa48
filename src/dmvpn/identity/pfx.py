"""PFX files (PKCS #12, RFC 7292): a certificate, its key and its authorities in one encrypted file.

Read as Windows tools of any age write them (RC2-40, 3DES, AES); written with AES-256, or as old tools read it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PrivateFormat, pkcs12

from dmvpn.errors import WrongInput
from dmvpn.identity import authority, issuing, keys, pfx_rounds
from dmvpn.identity.chain import RENEWERS_LIMIT, Chain, is_issued_by, to_der
from dmvpn.identity.der import Malformed

PFX_LIMIT_OCTETS = 1 << 18
AUTHORITIES_LIMIT = RENEWERS_LIMIT + 2  # the network's own, and that of foreign routers
ROUNDS = 100_000
ROUNDS_LIMIT = 5_000_000  # of all key derivations of a file: seconds; tools write 2000 to a million


class For(Enum):
    """Who is to read the file."""

    PRESENT = "AES-256 with SHA-256"
    OLD = "3DES with SHA-1: Windows before 10, IOS"


@dataclass(frozen=True, slots=True)
class Contents:
    """PEM; `authorities` as they stood in the file."""

    certificate: bytes
    key: bytes
    authorities: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Authorities:
    """What the authorities of a file are, PEM: the network's own, that of foreign routers, and those that renew."""

    own: bytes | None
    foreign: bytes | None
    renewers: tuple[bytes, ...]


def read(octets: bytes, passphrase: bytes, where: str) -> Contents:
    """Raises WrongInput: no PFX, a wrong passphrase, no key or no certificate, a key that is no ECDSA."""
    if len(octets) > PFX_LIMIT_OCTETS:
        raise WrongInput(where, f"is {len(octets)} octets; {PFX_LIMIT_OCTETS} are the limit", "give one PFX file")
    _refuse_work(octets, where)
    try:
        key, certificate, further = pkcs12.load_key_and_certificates(octets, passphrase)
    except UnsupportedAlgorithm as error:
        fix = "convert it: openssl pkcs12 -legacy -in OLD -nodes | openssl pkcs12 -export -out NEW"
        raise WrongInput(where, "is encrypted in a way that this machine's library does not know", fix) from error
    except (ValueError, TypeError) as error:
        raise WrongInput(where, "does not open: it is no PFX file, or the passphrase is wrong") from error
    if certificate is None or key is None:
        raise WrongInput(where, f"has no {'certificate' if certificate is None else 'key'}", "export both together")
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise WrongInput(where, "its key is no ECDSA key", "our routers have ECDSA keys")
    if key.public_key() != certificate.public_key():
        raise WrongInput(where, "the key is not that of the certificate", "export both together")
    if len(further) > AUTHORITIES_LIMIT:
        raise WrongInput(where, f"has {len(further)} authorities", f"give at most {AUTHORITIES_LIMIT}")
    return Contents(
        certificate.public_bytes(Encoding.PEM),
        keys.key_pem(key),
        tuple(_pem(one) for one in further),
    )


def _refuse_work(octets: bytes, where: str) -> None:
    try:
        rounds = pfx_rounds.total(octets)
    except pfx_rounds.Unreadable:
        raise WrongInput(where, "does not open: it is no PFX file") from None
    if rounds > ROUNDS_LIMIT:
        what = f"asks for {rounds} rounds of key derivation; {ROUNDS_LIMIT} are the limit"
        raise WrongInput(where, what, "export it again with fewer: openssl pkcs12 -export -iter 100000")


def write(name: str, contents: Contents, passphrase: bytes, reader: For = For.PRESENT) -> bytes:
    """A PFX file. Raises WrongInput for papers that do not fit together."""
    key = keys.load_key(contents.key, None, "key")
    certificate = issuing.load_certificate(contents.certificate)
    if key.public_key() != certificate.public_key():
        raise WrongInput("certificate", "the key is not that of the certificate", "take both from one place")
    builder = PrivateFormat.PKCS12.encryption_builder().kdf_rounds(ROUNDS)
    if reader is For.OLD:
        builder = builder.key_cert_algorithm(pkcs12.PBES.PBESv1SHA1And3KeyTripleDESCBC).hmac_hash(hashes.SHA1())
    else:
        builder = builder.key_cert_algorithm(pkcs12.PBES.PBESv2SHA256AndAES256CBC).hmac_hash(hashes.SHA256())
    return pkcs12.serialize_key_and_certificates(
        name.encode(), key, certificate, _loaded(contents.authorities), builder.build(passphrase)
    )


def _loaded(pems: Sequence[bytes]) -> list[x509.Certificate]:
    return [issuing.load_certificate(pem) for pem in pems]


# ---------------------------------------------------------------- which authority is which


def sort_out(contents: Contents, where: str) -> Authorities:
    """Told by what verifies the router's certificate, and by address blocks; never by their order, which tools choose.

    Raises WrongInput for a certificate that no root among them vouches for, and where there are two roots for one part.
    """
    if not contents.authorities:
        raise WrongInput(where, "has no authority in it", "export the whole chain")
    every = list(dict.fromkeys(_loaded(contents.authorities)))
    roots = [one for one in every if is_issued_by(one, one)]
    ours = authority.describe(contents.certificate).claims is not None  # a foreign router's has none
    root = _vouching(contents.certificate, roots, every, where) if ours else _signing(contents, roots, where)
    # Ours has address blocks, that of foreign routers has none.
    others = [one for one in roots if one is not root and bool(authority.blocks_of(one)) is not ours]
    if len(others) > 1:
        what = f"has {len(others)} roots, where one of {'foreign routers' if ours else 'ours'} is the most"
        raise WrongInput(where, what, "export the authorities of this network alone")
    other = _pem(others[0]) if others else None
    own, foreign = (_pem(root), other) if ours else (other, _pem(root))
    return Authorities(own, foreign, tuple(_pem(one) for one in Chain(own, every).renewers))


def _vouching(
    certificate: bytes, roots: Sequence[x509.Certificate], every: Sequence[x509.Certificate], where: str
) -> x509.Certificate:
    read = issuing.load_certificate(certificate)
    signed = any(is_issued_by(read, one) for one in every)
    why = "whoever signed it is under no root in there" if signed else "no authority in there signed it"
    for root in roots:
        chain = Chain(_pem(root), every)
        if not any(is_issued_by(read, one) for one in (root, *chain.renewers)):
            continue
        try:
            chain.vouch(to_der(certificate))
        except Malformed as fault:
            why = fault.what
        else:
            return root
    raise _broken(where, why)


def _signing(contents: Contents, roots: Sequence[x509.Certificate], where: str) -> x509.Certificate:
    read = issuing.load_certificate(contents.certificate)
    found = next((root for root in roots if is_issued_by(read, root)), None)
    if found is None:
        raise _broken(where, "no root in there signed it")
    return found


def _broken(where: str, why: str) -> WrongInput:
    what = f"the chain of the router's certificate does not verify: {why}"
    return WrongInput(where, what, "export it again, with all of its authorities")


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.PEM)
