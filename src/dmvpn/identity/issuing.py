"""The X.509 of what is signed here: certificates of authorities and of routers. RFC 5280."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from dmvpn.errors import WrongInput
from dmvpn.identity import keys
from dmvpn.identity.claims import check_name

# A router whose clock is a little slow must still accept what was issued just now.
BACKDATED: Final = timedelta(days=1)
HASH: Final = hashes.SHA384
_IPSEC_IKE = x509.ObjectIdentifier("1.3.6.1.5.5.7.3.17")  # id-kp-ipsecIKE, RFC 4945 5.1.3.12

Extensions = tuple[tuple[x509.ExtensionType, bool], ...]  # each with whether it is critical


@dataclass(frozen=True, slots=True)
class Issuer:
    """An authority that can sign."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


def opened(ca_certificate: bytes, ca_key: bytes, passphrase: bytes | None = None) -> Issuer:
    """Raises WrongInput if the two do not belong together, or cannot be read."""
    certificate = load_certificate(ca_certificate)
    key = keys.load_key(ca_key, passphrase)
    if key.public_key() != certificate.public_key():
        raise WrongInput("CA", "the key does not belong to the certificate", "give both from one `dmvpn pki init`")
    _key_identifier(certificate)
    return Issuer(certificate, key)


def load_certificate(pem: bytes) -> x509.Certificate:
    """Raises WrongInput, also for a certificate whose extensions contradict themselves."""
    keys.refuse_large(pem, "certificate")
    try:
        read = x509.load_pem_x509_certificate(pem)
        _ = read.extensions, read.subject, read.issuer, read.public_key()
    except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as error:
        raise WrongInput("certificate", f"cannot be read: {error}", "give a PEM file") from error
    return read


def authority_certificate(
    name: str,
    extensions: Extensions,
    *,
    path_length: int,
    now: datetime,
    ends: datetime,
    issuer: Issuer | None = None,
) -> tuple[bytes, ec.EllipticCurvePrivateKey]:
    """A new authority: its own issuer, or below another one, and then it ends no later."""
    key = keys.new_key()
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    above, above_id, signer = subject, identifier, key
    if issuer is not None:
        above, signer = issuer.certificate.subject, issuer.key
        above_id = _key_identifier(issuer.certificate)
        ends = min(ends, issuer.certificate.not_valid_after_utc)
    builder = (
        _builder(subject, above, key.public_key(), now, ends)
        .add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(identifier, critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(above_id), critical=False)
    )
    return _signed(builder, extensions, signer), key


def end_certificate(
    issuer: Issuer,
    identity: str,
    further_names: tuple[x509.GeneralName, ...],
    extensions: Extensions,
    public_key: ec.EllipticCurvePublicKey,
    *,
    now: datetime,
    days: int,
) -> bytes:
    """A router's certificate, PEM; it ends no later than its authority's. Raises WrongInput for an unfit identity."""
    check_name("identity", identity)
    authority = issuer.certificate
    ends = min(now + timedelta(days=days), authority.not_valid_after_utc)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, identity[:64])])
    names = [x509.DNSName(identity), *further_names]
    purposes = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH, _IPSEC_IKE]
    issuer_id = _key_identifier(authority)
    builder = (
        _builder(subject, authority.subject, public_key, now, ends)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(issuer_id), critical=False)
    )
    return _signed(builder, extensions, issuer.key)


def _key_identifier(authority: x509.Certificate) -> x509.SubjectKeyIdentifier:
    try:
        return authority.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    except x509.ExtensionNotFound as error:
        raise WrongInput("CA", "has no key identifier", "give the one of `dmvpn pki init`") from error


def _signed(builder: x509.CertificateBuilder, extensions: Extensions, key: ec.EllipticCurvePrivateKey) -> bytes:
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical=critical)
    return builder.sign(key, HASH()).public_bytes(serialization.Encoding.PEM)


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


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
