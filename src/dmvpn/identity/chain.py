"""Who vouches for a router's certificate: the network's root itself, or a renewal authority below it.

A renewal authority may give a router a new key and later dates, and nothing else: each certificate of its carries the
one that the root signed (an extension of ours), and counts only with the very same claims and names. So whoever steals
a renewal authority's key can make no router that is not one already, and a router is revoked by the serial number
that the root gave it, whoever renewed it since.

    DmvpnOrigin ::= OCTET STRING        -- the certificate that the root signed, DER
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding

from dmvpn.errors import WrongInput
from dmvpn.identity import claims, der, issuing
from dmvpn.identity.claims import Claims, identities
from dmvpn.identity.der import Malformed

ORIGIN_OID = x509.ObjectIdentifier(f"{claims.OID}.1")
CERTIFICATE_LIMIT_OCTETS = 16384
RENEWERS_LIMIT = 16


@dataclass(frozen=True, slots=True)
class Vouched:
    """What is known of a certificate once its chain is verified. `origin` is the serial number that the root gave.

    `issuer` is the key identifier of whoever signed it, `issuer_serial` the number of its certificate; `renewed`: a
    renewal authority did.
    """

    claims: Claims
    identities: tuple[str, ...]
    serial: int
    issuer: bytes
    issuer_serial: int
    origin: int
    renewed: bool
    not_before: datetime
    not_after: datetime


class Chain:
    """The roots of a PEM file, and renewal authorities that they made. Raises WrongInput if it holds no certificate.

    None: there are no roots, and nobody is vouched for.
    """

    def __init__(self, pem: bytes | None, renewers: Iterable[x509.Certificate] = ()) -> None:
        try:
            self.roots = () if pem is None else tuple(x509.load_pem_x509_certificates(pem))
        except ValueError as error:
            raise WrongInput("ca.pem", f"holds no certificate: {error}", "run `dmvpn pki install`") from error
        self.renewers: tuple[x509.Certificate, ...] = ()
        for one in renewers:
            self.add_renewer(one)

    def add_renewer(self, certificate: x509.Certificate) -> bool:
        """Whether it is a renewal authority of ours: what is not is left out. At most so many are kept."""
        if certificate in self.renewers or len(self.renewers) >= RENEWERS_LIMIT or not self.is_renewer(certificate):
            return certificate in self.renewers
        self.renewers += (certificate,)
        return True

    def is_renewer(self, certificate: x509.Certificate) -> bool:
        """Whether one of the roots made it an authority, and that below which there is no other."""
        try:
            extensions = certificate.extensions
            constraints = extensions.get_extension_for_class(x509.BasicConstraints).value
            usage = extensions.get_extension_for_class(x509.KeyUsage).value
        except (ValueError, x509.DuplicateExtension, x509.ExtensionNotFound):
            return False
        if not constraints.ca or constraints.path_length != 0 or not usage.key_cert_sign:
            return False
        return certificate not in self.roots and any(is_issued_by(certificate, root) for root in self.roots)

    def vouch(self, certificate: bytes) -> Vouched:
        """What a DER certificate says that one of ours vouches for; whether it is valid now, others ask.

        Raises Malformed for all else.
        """
        read = _load(certificate)
        root = next((root for root in self.roots if is_issued_by(read, root)), None)
        if root is not None:
            return _vouched(read, certificate, root, read.serial_number, renewed=False)
        renewer = next((one for one in self.renewers if is_issued_by(read, one)), None)
        if renewer is None:
            raise Malformed("no authority of ours signed it")
        return self._renewed(read, certificate, renewer)

    def _renewed(self, read: x509.Certificate, certificate: bytes, renewer: x509.Certificate) -> Vouched:
        origin = origin_of(read)
        if origin is None:
            raise Malformed("was renewed, and does not carry the certificate that it is a renewal of")
        first = _load(origin)
        if not any(is_issued_by(first, root) for root in self.roots):
            raise Malformed("was renewed from a certificate that our root did not sign")
        found = _vouched(read, certificate, renewer, first.serial_number, renewed=True)
        if found.claims != Claims.from_certificate(origin) or found.identities != identities(origin):
            raise Malformed("was renewed with other claims than our root vouched for")
        return found

    def origin_certificate(self, certificate: bytes) -> bytes:
        """The certificate (DER) that the root signed: this very one, or the one that it was renewed from."""
        return origin_of(_load(certificate)) or certificate


def origin_extension(origin: bytes) -> x509.UnrecognizedExtension:
    return x509.UnrecognizedExtension(ORIGIN_OID, der.encode(der.OCTET_STRING, origin))


def origin_of(certificate: x509.Certificate) -> bytes | None:
    """The certificate that this one carries. Raises Malformed."""
    try:
        octets = certificate.extensions.get_extension_for_oid(ORIGIN_OID).value.public_bytes()
    except x509.ExtensionNotFound:
        return None
    outer = der.Reader(octets)
    origin = outer.value(der.OCTET_STRING)
    outer.end()
    return origin


def key_identifier(authority: x509.Certificate) -> bytes:
    """How certificates and revocation lists name their issuer's key; empty where it has none."""
    try:
        return authority.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    except (ValueError, x509.DuplicateExtension, x509.ExtensionNotFound):
        return b""


def is_issued_by(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def to_der(pem: bytes) -> bytes:
    """Raises WrongInput."""
    return issuing.load_certificate(pem).public_bytes(Encoding.DER)


def _load(certificate: bytes) -> x509.Certificate:
    if len(certificate) > CERTIFICATE_LIMIT_OCTETS:
        raise Malformed(f"is {len(certificate)} octets; {CERTIFICATE_LIMIT_OCTETS} are the limit")
    try:
        read = x509.load_der_x509_certificate(certificate)
        _ = read.extensions, read.not_valid_before_utc, read.not_valid_after_utc
    except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as error:
        raise Malformed(f"is no certificate: {error}") from error
    return read


def _vouched(
    read: x509.Certificate, certificate: bytes, issuer: x509.Certificate, origin: int, *, renewed: bool
) -> Vouched:
    return Vouched(
        claims=Claims.from_certificate(certificate),
        identities=identities(certificate),
        serial=read.serial_number,
        issuer=key_identifier(issuer),
        issuer_serial=issuer.serial_number,
        origin=origin,
        renewed=renewed,
        not_before=read.not_valid_before_utc,
        not_after=read.not_valid_after_utc,
    )
