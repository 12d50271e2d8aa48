"""Revocation lists: made by an authority, and held against certificates. RFC 5280 section 5.

The root's list names certificates that it signed itself. Whoever was renewed is looked up there by the serial number
that the root gave it; a renewal authority's own list is for charon, which knows nothing of that.
An entry carries the router's name in an extension of ours (not critical), so that every router can say who it is.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding

from dmvpn.errors import WrongInput
from dmvpn.identity import claims, der
from dmvpn.identity.chain import Vouched, key_identifier
from dmvpn.identity.claims import check_name
from dmvpn.identity.der import Malformed
from dmvpn.identity.issuing import HASH, Issuer

ROUTER_OID = x509.ObjectIdentifier(f"{claims.OID}.2")
LIST_LIMIT_OCTETS = 1 << 19  # about ten thousand entries
LIST_DAYS = 30
SLOW_CLOCK = timedelta(hours=1)  # a list is as old as this when it is made: clocks differ


class Reason(StrEnum):
    """Why, in the operator's words; RFC 5280 5.3.1 knows each."""

    UNSPECIFIED = "unspecified"
    KEY_COMPROMISE = "key-compromise"
    SUPERSEDED = "superseded"
    RETIRED = "retired"


_FLAGS = {
    Reason.UNSPECIFIED: x509.ReasonFlags.unspecified,
    Reason.KEY_COMPROMISE: x509.ReasonFlags.key_compromise,
    Reason.SUPERSEDED: x509.ReasonFlags.superseded,
    Reason.RETIRED: x509.ReasonFlags.cessation_of_operation,
}
_REASONS = {flag: reason for reason, flag in _FLAGS.items()}


@dataclass(frozen=True, slots=True)
class Revoked:
    """One entry. `router` is empty where the list does not say."""

    serial: int
    router: str
    reason: Reason
    at: datetime

    def __str__(self) -> str:
        why = "" if self.reason is Reason.UNSPECIFIED else f" ({self.reason.value})"
        return f"revoked on {self.at:%Y-%m-%d}{why}"


@dataclass(frozen=True, slots=True)
class RevocationList:
    """A list whose signature holds. `issuer` is the key identifier of whoever signed it."""

    issuer: bytes
    number: int
    this_update: datetime
    next_update: datetime
    entries: Mapping[int, Revoked]
    der: bytes

    @property
    def pem(self) -> bytes:
        return x509.load_der_x509_crl(self.der).public_bytes(Encoding.PEM)


def make(issuer: Issuer, entries: Iterable[Revoked], *, number: int, now: datetime, days: int = LIST_DAYS) -> bytes:
    """A list, PEM, good for so many days."""
    identifier = issuer.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer.certificate.subject)
        .last_update(now - SLOW_CLOCK)
        .next_update(now + timedelta(days=days))
        .add_extension(x509.CRLNumber(number), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False)
    )
    for entry in entries:
        row = x509.RevokedCertificateBuilder().serial_number(entry.serial).revocation_date(entry.at)
        if entry.reason is not Reason.UNSPECIFIED:  # RFC 5280 5.3.1: then it is left out
            row = row.add_extension(x509.CRLReason(_FLAGS[entry.reason]), critical=False)
        if entry.router:
            name = x509.UnrecognizedExtension(ROUTER_OID, der.text(entry.router))
            row = row.add_extension(name, critical=False)
        builder = builder.add_revoked_certificate(row.build())
    return builder.sign(issuer.key, HASH()).public_bytes(Encoding.PEM)


def read(octets: bytes, authorities: Iterable[x509.Certificate], where: str = "revocation list") -> RevocationList:
    """A list in PEM or DER that one of the authorities signed. Raises WrongInput for all else."""
    if len(octets) > 2 * LIST_LIMIT_OCTETS:
        raise WrongInput(where, f"is {len(octets)} octets; {LIST_LIMIT_OCTETS} are the limit")
    load = x509.load_pem_x509_crl if octets.lstrip().startswith(b"-----") else x509.load_der_x509_crl
    try:
        found = load(octets)
        signer = next((one for one in authorities if _signed_by(found, one)), None)
        if signer is None:
            raise WrongInput(where, "no authority of this network signed it", "publish with `dmvpn pki publish`")
        number = found.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
        entries = {row.serial_number: _entry(row) for row in found}
        this_update, next_update = found.last_update_utc, found.next_update_utc
    except (ValueError, x509.DuplicateExtension, UnsupportedAlgorithm) as error:
        raise WrongInput(where, f"is no revocation list: {error}", "publish with `dmvpn pki publish`") from error
    except x509.ExtensionNotFound as error:
        raise WrongInput(where, "has no number", "publish with `dmvpn pki publish`") from error
    if next_update is None:
        raise WrongInput(where, "does not say until when it holds", "publish with `dmvpn pki publish`")
    wire = found.public_bytes(Encoding.DER)
    if len(wire) > LIST_LIMIT_OCTETS:
        raise WrongInput(where, f"is {len(wire)} octets; {LIST_LIMIT_OCTETS} are the limit")
    return RevocationList(key_identifier(signer), number, this_update, next_update, entries, wire)


def _signed_by(found: x509.CertificateRevocationList, authority: x509.Certificate) -> bool:
    try:
        key = authority.public_key()
        return found.issuer == authority.subject and found.is_signature_valid(key)  # type: ignore[arg-type]
    except (TypeError, InvalidSignature):
        return False


def _entry(row: x509.RevokedCertificate) -> Revoked:
    reason, router = Reason.UNSPECIFIED, ""
    for extension in row.extensions:
        if isinstance(extension.value, x509.CRLReason):
            reason = _REASONS.get(extension.value.reason, Reason.UNSPECIFIED)
        elif extension.oid == ROUTER_OID:
            router = _router(extension.value.public_bytes())
    return Revoked(row.serial_number, router, reason, row.revocation_date_utc)


def _router(octets: bytes) -> str:
    outer = der.Reader(octets)
    try:
        name = outer.text()
        outer.end()
        check_name("router", name)
    except (Malformed, WrongInput) as fault:
        raise ValueError(str(fault)) from fault
    return name


class Revocations:
    """The newest list of each authority."""

    def __init__(self) -> None:
        self._lists: dict[bytes, RevocationList] = {}

    def take(self, found: RevocationList) -> bool:
        """Whether it is newer than what was known; then it counts from now on."""
        known = self._lists.get(found.issuer)
        if known is not None and known.number >= found.number:
            return False
        self._lists[found.issuer] = found
        return True

    @property
    def lists(self) -> tuple[RevocationList, ...]:
        return tuple(self._lists.values())

    def numbers(self) -> dict[str, int]:
        """What is known here, as routers tell each other: issuer's key identifier in hex, number."""
        return {issuer.hex(): found.number for issuer, found in self._lists.items()}

    def newer_than(self, numbers: Mapping[str, int]) -> RevocationList | None:
        """One that whoever has these does not have."""
        return next((one for one in self.lists if numbers.get(one.issuer.hex(), -1) < one.number), None)

    def entry(self, vouched: Vouched, roots: Iterable[bytes]) -> Revoked | None:
        """Whether this certificate is revoked: by its own number, by the root's first one, or with who renewed it.

        `roots` are the key identifiers of the roots.
        """
        own = self._lists.get(vouched.issuer)
        found = own.entries.get(vouched.serial) if own is not None else None
        above = (self._lists[root].entries for root in roots if root in self._lists)
        for entries in above:
            found = found or entries.get(vouched.origin) or entries.get(vouched.issuer_serial)
        return found

    def overdue(self, now: datetime) -> tuple[RevocationList, ...]:
        """Lists that should have been followed by a newer one. What they revoke stays revoked."""
        return tuple(one for one in self.lists if one.next_update < now)


def numbers_in(value: object) -> dict[str, int]:
    """What another router says it has. Raises WrongInput."""
    if not isinstance(value, dict) or len(value) > 64:
        raise WrongInput("question", "no numbers of revocation lists")
    return {str(issuer): number for issuer, number in value.items() if isinstance(number, int)}
