"""The network's CA, and router certificates that carry claims. PEM in, PEM out: files and clocks are the caller's.

ECDSA on P-384: the strength of the default proposal (aes256gcm16-prfsha384-ecp384), known to IOS, Windows and OpenSSL,
and about a millisecond for each handshake. Ed25519 would leave IOS out.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from dmvpn.errors import WrongInput
from dmvpn.identity import addrblock, claims, issuing, keys
from dmvpn.identity.claims import Claims, Network, Role, check_name
from dmvpn.identity.issuing import Extensions, Issuer

AUTHORITY_DAYS = 7300
ROUTER_DAYS = 825
NAME_ROOM = 40  # of the 64 characters that a common name has, for the network's

_Extension = TypeVar("_Extension", bound=x509.ExtensionType)


@dataclass(frozen=True, slots=True)
class Description:
    """A certificate as `pki list` shows it; `blocks` are its RFC 3779 prefixes.

    `claims` is None for a CA and for a foreign router.
    """

    subject: str
    issuer: str
    serial: int
    not_before: datetime
    not_after: datetime
    authority: bool
    names: tuple[str, ...]
    blocks: tuple[Network, ...]
    claims: Claims | None
    sha256: str


def create_authority(
    network: str,
    transport_range: Network | Sequence[Network],
    *,
    now: datetime,
    days: int = AUTHORITY_DAYS,
    passphrase: bytes | None = None,
) -> tuple[bytes, bytes]:
    """A new CA for the network: certificate and key, PEM; the key is PKCS #8, encrypted if a passphrase is given.

    `now` is aware of its time zone. Its address blocks are the transport range: no certificate below can claim more.
    """
    ranges = [transport_range] if isinstance(transport_range, IPv4Network | IPv6Network) else list(transport_range)
    extensions = ((address_blocks(ranges), True),)
    # One authority may stand below it: the one that renews.
    return _authority(f"{network[:NAME_ROOM]} DMVPN CA", network, extensions, 1, now, days, passphrase)


def create_foreign_authority(
    network: str, *, now: datetime, days: int = AUTHORITY_DAYS, passphrase: bytes | None = None
) -> tuple[bytes, bytes]:
    """A second CA, for routers that are not ours: without address blocks, so charon never takes one for the other."""
    return _authority(f"{network[:NAME_ROOM]} DMVPN foreign CA", network, (), 0, now, days, passphrase)


def _authority(
    name: str, network: str, extensions: Extensions, below: int, now: datetime, days: int, passphrase: bytes | None
) -> tuple[bytes, bytes]:
    check_name("network", network)
    ends = now + timedelta(days=days)
    pem, key = issuing.authority_certificate(name, extensions, path_length=below, now=now, ends=ends)
    return pem, keys.key_pem(key, passphrase)


def issue(
    ca_certificate: bytes,
    ca_key: bytes,
    router: Claims,
    identity: str,
    public_key: bytes | None = None,
    *,
    now: datetime,
    days: int = ROUTER_DAYS,
    passphrase: bytes | None = None,
) -> tuple[bytes, bytes | None]:
    """A router's certificate, PEM, and its new key; or, for a given public key (PEM), None in its place.

    `identity` is what the router calls itself in IKE, a DNS name; `passphrase` opens the CA's key. The certificate ends
    no later than the CA's. Raises WrongInput for claims that the CA cannot vouch for and for keys that do not fit.
    """
    issuer = issuing.opened(ca_certificate, ca_key, passphrase)
    public, key = _key_pair(public_key)
    return vouched(issuer, router, identity, public, now=now, days=days), key


def vouched(
    issuer: Issuer,
    router: Claims,
    identity: str,
    public_key: ec.EllipticCurvePublicKey,
    *,
    now: datetime,
    days: int,
    further: Extensions = (),
) -> bytes:
    """A certificate (PEM) with these claims and `further` extensions. Raises WrongInput as `issue` does."""
    _check(router, blocks_of(issuer.certificate))
    ours = x509.UnrecognizedExtension(x509.ObjectIdentifier(claims.OID), router.extension())
    extensions = ((address_blocks([ip_network(router.transport)]), True), (ours, False), *further)
    names = tuple(x509.IPAddress(address) for address in router.overlay)
    return issuing.end_certificate(issuer, identity, names, extensions, public_key, now=now, days=days)


def issue_foreign(
    ca_certificate: bytes,
    ca_key: bytes,
    identity: str,
    public_key: bytes | None = None,
    *,
    now: datetime,
    days: int = ROUTER_DAYS,
    passphrase: bytes | None = None,
) -> tuple[bytes, bytes | None]:
    """A foreign router's certificate and key, as `issue` gives them: a name, and nothing that others do not know.

    What such a router may be and announce stands in the network file. Raises WrongInput for a CA with address blocks:
    that one is our own routers'.
    """
    issuer = issuing.opened(ca_certificate, ca_key, passphrase)
    if blocks_of(issuer.certificate):
        raise WrongInput("CA", "is that of our own routers", "give the foreign one, of `dmvpn pki init`")
    public, key = _key_pair(public_key)
    return issuing.end_certificate(issuer, identity, (), (), public, now=now, days=days), key


def _key_pair(public_key: bytes | None) -> tuple[ec.EllipticCurvePublicKey, bytes | None]:
    """A given public key, or a new pair."""
    if public_key is not None:
        return keys.load_public_key(public_key), None
    key = keys.new_key()
    return key.public_key(), keys.key_pem(key)


def describe(certificate: bytes) -> Description:
    """What a PEM certificate says. Raises WrongInput; claims that cannot be read raise Malformed."""
    read = issuing.load_certificate(certificate)
    constraints = _find(read, x509.BasicConstraints)
    authority = constraints is not None and constraints.ca
    names = _find(read, x509.SubjectAlternativeName)
    return Description(
        subject=read.subject.rfc4514_string(),
        issuer=read.issuer.rfc4514_string(),
        serial=read.serial_number,
        not_before=read.not_valid_before_utc,
        not_after=read.not_valid_after_utc,
        authority=authority,
        names=tuple(str(name.value) for name in names) if names is not None else (),
        blocks=blocks_of(read),
        claims=Claims.from_certificate(read.public_bytes(serialization.Encoding.DER)) if _has_claims(read) else None,
        sha256=read.fingerprint(hashes.SHA256()).hex(),
    )


def certificate_in(pem: bytes) -> x509.Certificate:
    """Raises WrongInput."""
    return issuing.load_certificate(pem)


def public_key_in(certificate: bytes) -> bytes:
    """The public key (PEM) of a certificate. Raises WrongInput."""
    public = issuing.load_certificate(certificate).public_key()
    return public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def refuse_other_key(certificate: bytes, key: bytes) -> None:
    """Raises WrongInput unless the key is the certificate's own. Both PEM."""
    if keys.load_key(key, None).public_key() != issuing.load_certificate(certificate).public_key():
        raise WrongInput("certificate", "the key is not that of the certificate", "take both from one place")


def refuse_unlike(certificate: bytes, key: bytes, ca: bytes) -> None:
    """Raises WrongInput unless the CA issued the certificate and the key is the certificate's own. All PEM."""
    own, issuer = issuing.load_certificate(certificate), issuing.load_certificate(ca)
    refuse_other_key(certificate, key)
    try:
        own.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        raise WrongInput("certificate", "another authority issued it", "take both from one place") from None


def _check(router: Claims, blocks: Sequence[Network]) -> None:
    own = ip_network(router.transport)
    if not any(own.version == block.version and own.overlaps(block) for block in blocks):
        what = f"transport address {router.transport} is outside the CA's {', '.join(map(str, blocks)) or 'no block'}"
        raise WrongInput(f"claims of {router.router}", what, "make a CA for the network's transport range")
    if router.role is Role.HUB:
        return
    for prefix in router.prefixes:
        if any(prefix.version == block.version and prefix.overlaps(block) for block in blocks):
            what = f"prefix {prefix} overlaps the transport range"
            raise WrongInput(f"claims of {router.router}", what, "transport addresses are claimed one by one")


def address_blocks(prefixes: Sequence[Network]) -> x509.UnrecognizedExtension:
    """The RFC 3779 extension."""
    return x509.UnrecognizedExtension(x509.ObjectIdentifier(addrblock.OID), addrblock.encode(prefixes))


def blocks_of(certificate: x509.Certificate) -> tuple[Network, ...]:
    try:
        found = certificate.extensions.get_extension_for_oid(x509.ObjectIdentifier(addrblock.OID))
    except x509.ExtensionNotFound:
        return ()
    return addrblock.decode(found.value.public_bytes())


def _has_claims(certificate: x509.Certificate) -> bool:
    return any(extension.oid.dotted_string == claims.OID for extension in certificate.extensions)


def _find(certificate: x509.Certificate, kind: type[_Extension]) -> _Extension | None:
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None
