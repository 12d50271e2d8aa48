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
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from dmvpn.errors import WrongInput
from dmvpn.identity import addrblock, claims
from dmvpn.identity.claims import Claims, Network, Role, check_name

AUTHORITY_DAYS = 7300
ROUTER_DAYS = 825
# A router whose clock is a little slow must still accept what was issued just now.
BACKDATED = timedelta(days=1)

_Extension = TypeVar("_Extension", bound=x509.ExtensionType)
_CURVE = ec.SECP384R1
_HASH = hashes.SHA384
_IPSEC_IKE = x509.ObjectIdentifier("1.3.6.1.5.5.7.3.17")  # id-kp-ipsecIKE, RFC 4945 5.1.3.12


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
    return _authority(network, "DMVPN CA", _blocks(ranges), now + timedelta(days=days), now, passphrase)


def create_foreign_authority(
    network: str, *, now: datetime, days: int = AUTHORITY_DAYS, passphrase: bytes | None = None
) -> tuple[bytes, bytes]:
    """A second CA, for routers that are not ours: without address blocks, so charon never takes one for the other."""
    return _authority(network, "DMVPN foreign CA", None, now + timedelta(days=days), now, passphrase)


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
    issuer = _opened(ca_certificate, ca_key, passphrase)
    _check(router, _blocks_of(issuer.certificate))
    ours = x509.UnrecognizedExtension(x509.ObjectIdentifier(claims.OID), router.extension())
    extensions: list[tuple[x509.ExtensionType, bool]] = [(_blocks([ip_network(router.transport)]), True), (ours, False)]
    names: list[x509.GeneralName] = [x509.IPAddress(address) for address in router.overlay]
    return _certificate(issuer, identity, names, extensions, public_key, now, days)


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
    issuer = _opened(ca_certificate, ca_key, passphrase)
    if _blocks_of(issuer.certificate):
        raise WrongInput("CA", "is that of our own routers", "give the foreign one, of `dmvpn pki init`")
    return _certificate(issuer, identity, [], [], public_key, now, days)


def create_request(identity: str) -> tuple[bytes, bytes]:
    """A signing request (PEM) for a key made where it stays, and that key. PKCS #10, RFC 2986."""
    check_name("identity", identity)
    key = ec.generate_private_key(_CURVE())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, identity[:64])])
    names = x509.SubjectAlternativeName([x509.DNSName(identity)])
    request = x509.CertificateSigningRequestBuilder(subject).add_extension(names, critical=False).sign(key, _HASH())
    return request.public_bytes(serialization.Encoding.PEM), _key_pem(key, None)


def public_key_of_request(request: bytes) -> bytes:
    """The public key (PEM) of a signing request whose own signature holds; what else it says, the issuer decides.

    Raises WrongInput.
    """
    try:
        read = x509.load_pem_x509_csr(request)
        valid = read.is_signature_valid
    except (ValueError, InvalidSignature) as error:
        raise WrongInput("signing request", f"cannot be read: {error}") from error
    if not valid:
        raise WrongInput("signing request", "its signature does not hold", "make it again")
    public = read.public_key()
    return public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def describe(certificate: bytes) -> Description:
    """What a PEM certificate says. Raises WrongInput; claims that cannot be read raise Malformed."""
    read = load_certificate(certificate)
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
        blocks=_blocks_of(read),
        claims=Claims.from_certificate(read.public_bytes(serialization.Encoding.DER)) if _has_claims(read) else None,
        sha256=read.fingerprint(hashes.SHA256()).hex(),
    )


def load_certificate(pem: bytes) -> x509.Certificate:
    """Raises WrongInput."""
    try:
        return x509.load_pem_x509_certificate(pem)
    except ValueError as error:
        raise WrongInput("certificate", f"cannot be read: {error}", "give a PEM file") from error


@dataclass(frozen=True, slots=True)
class _Issuer:
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


def _opened(ca_certificate: bytes, ca_key: bytes, passphrase: bytes | None) -> _Issuer:
    certificate = load_certificate(ca_certificate)
    key = _load_key(ca_key, passphrase)
    if key.public_key() != certificate.public_key():
        raise WrongInput("CA", "the key does not belong to the certificate", "give both from one `dmvpn pki init`")
    return _Issuer(certificate, key)


def _authority(
    network: str,
    what: str,
    blocks: x509.UnrecognizedExtension | None,
    ends: datetime,
    now: datetime,
    passphrase: bytes | None,
) -> tuple[bytes, bytes]:
    check_name("network", network)
    key = ec.generate_private_key(_CURVE())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{network[:40]} {what}")])
    usage = x509.KeyUsage(
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    builder = (
        _builder(name, name, key.public_key(), now, ends)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(identifier, critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False)
    )
    if blocks is not None:
        builder = builder.add_extension(blocks, critical=True)
    return _pem(builder.sign(key, _HASH())), _key_pem(key, passphrase)


def _certificate(
    issuer: _Issuer,
    identity: str,
    further_names: list[x509.GeneralName],
    extensions: list[tuple[x509.ExtensionType, bool]],
    public_key: bytes | None,
    now: datetime,
    days: int,
) -> tuple[bytes, bytes | None]:
    check_name("identity", identity)
    authority = issuer.certificate
    if public_key is None:
        key = ec.generate_private_key(_CURVE())
        subject_key, key_pem = key.public_key(), _key_pem(key, None)
    else:
        subject_key, key_pem = _load_public_key(public_key), None
    ends = min(now + timedelta(days=days), authority.not_valid_after_utc)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, identity[:64])])
    usage = x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
    names = [x509.DNSName(identity), *further_names]
    purposes = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH, _IPSEC_IKE]
    issuer_id = authority.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    builder = (
        _builder(subject, authority.subject, subject_key, now, ends)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(subject_key), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(issuer_id), critical=False)
    )
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical=critical)
    return _pem(builder.sign(issuer.key, _HASH())), key_pem


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


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime, ends: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(ends)
    )


def _blocks(prefixes: Sequence[Network]) -> x509.UnrecognizedExtension:
    return x509.UnrecognizedExtension(x509.ObjectIdentifier(addrblock.OID), addrblock.encode(prefixes))


def _blocks_of(certificate: x509.Certificate) -> tuple[Network, ...]:
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


def _load_key(pem: bytes, passphrase: bytes | None) -> ec.EllipticCurvePrivateKey:
    try:
        key = serialization.load_pem_private_key(pem, passphrase)
    except TypeError as error:  # encrypted without a passphrase, or the reverse
        fix = "" if passphrase else "give its passphrase"
        raise WrongInput("CA key", "is encrypted" if not passphrase else "is not encrypted", fix) from error
    except ValueError as error:
        raise WrongInput("CA key", "cannot be read, or the passphrase is wrong") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise WrongInput("CA key", "is no ECDSA key", "make the CA with `dmvpn pki init`")
    return key


def _load_public_key(pem: bytes) -> ec.EllipticCurvePublicKey:
    try:
        key = serialization.load_pem_public_key(pem)
    except ValueError as error:
        raise WrongInput("public key", f"cannot be read: {error}") from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.key_size < 256:
        raise WrongInput("public key", "is no ECDSA key of 256 bits or more", "make one with `dmvpn join --request`")
    return key


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: ec.EllipticCurvePrivateKey, passphrase: bytes | None) -> bytes:
    encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if passphrase is not None:
        encryption = serialization.BestAvailableEncryption(passphrase)
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)
