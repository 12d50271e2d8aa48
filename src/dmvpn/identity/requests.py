"""Signing requests, PKCS #10 (RFC 2986): a key is made where it stays, and its public half goes to the authority."""

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.x509.oid import NameOID

from dmvpn.errors import WrongInput
from dmvpn.identity import keys
from dmvpn.identity.claims import check_name
from dmvpn.identity.issuing import HASH


def create_request(identity: str, key: bytes | None = None) -> tuple[bytes, bytes]:
    """A signing request (PEM) for a key (PEM; without one it is made), and that key. Raises WrongInput."""
    check_name("identity", identity)
    own = keys.new_key() if key is None else keys.load_key(key, None, "key")
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, identity[:64])])
    names = x509.SubjectAlternativeName([x509.DNSName(identity)])
    request = x509.CertificateSigningRequestBuilder(subject).add_extension(names, critical=False).sign(own, HASH())
    return request.public_bytes(serialization.Encoding.PEM), keys.key_pem(own)


def load_request(octets: bytes) -> x509.CertificateSigningRequest:
    """A request in PEM or DER whose own signature holds. Raises WrongInput."""
    keys.refuse_large(octets, "signing request")
    load = x509.load_pem_x509_csr if octets.lstrip().startswith(b"-----") else x509.load_der_x509_csr
    try:
        read = load(octets)
        valid = read.is_signature_valid
        _ = read.extensions, read.subject, read.public_key()
    except (ValueError, InvalidSignature, UnsupportedAlgorithm, x509.DuplicateExtension) as error:
        raise WrongInput("signing request", f"cannot be read: {error}") from error
    except x509.UnsupportedGeneralNameType as error:
        raise WrongInput("signing request", "has a name of a kind that no router has") from error
    if not valid:
        raise WrongInput("signing request", "its signature does not hold", "make it again")
    return read


def public_key_of_request(octets: bytes) -> bytes:
    """The public key (PEM) of a signing request whose own signature holds; what else it says, the issuer decides.

    Raises WrongInput.
    """
    read = load_request(octets)
    public = read.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    keys.load_public_key(public)
    return public


def identity_of_request(octets: bytes) -> str:
    """Who asks: the request's one DNS name, or else its common name. Raises WrongInput."""
    read = load_request(octets)
    try:
        found = read.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        names = found.get_values_for_type(x509.DNSName)
    except x509.ExtensionNotFound:
        names = [str(one.value) for one in read.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    if len(names) != 1:
        raise WrongInput("signing request", f"has {len(names)} names where one belongs", "make it again")
    check_name("identity", names[0])
    return names[0]
