"""Whether one of our own CA issued a certificate: charon also knows certificates of other CAs, for foreign peers."""

from cryptography import x509
from cryptography.exceptions import InvalidSignature

from dmvpn.errors import WrongInput


class Issuers:
    """The certificates of a PEM file. Raises WrongInput if it holds none."""

    def __init__(self, pem: bytes) -> None:
        try:
            self._authorities = x509.load_pem_x509_certificates(pem)
        except ValueError as error:
            raise WrongInput("ca.pem", f"holds no certificate: {error}", "run `dmvpn pki install`") from error

    def issued(self, certificate: bytes) -> bool:
        """Whether this DER certificate carries the signature of one of them. What cannot be read does not."""
        try:
            read = x509.load_der_x509_certificate(certificate)
        except ValueError:
            return False
        return any(_is_issued_by(read, authority) for authority in self._authorities)


def _is_issued_by(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True
