"""Who a peer is: its certificate, the chain that vouches for it, and whether it was revoked."""

import logging
import threading
from dataclasses import dataclass
from datetime import UTC, datetime

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from dmvpn.daemon.papers import Papers
from dmvpn.errors import Fault
from dmvpn.identity import chain as chains
from dmvpn.identity.chain import Vouched
from dmvpn.identity.revocation import RevocationList, Revocations, Revoked
from dmvpn.linux.vici_client import PeerCertificate, ViciSession

log = logging.getLogger("dmvpnd.papers")


@dataclass(frozen=True, slots=True)
class Known:
    """A peer's certificate as charon has it: `vouched` is None if no authority of our own vouches for it."""

    identities: tuple[str, ...]
    not_before: float
    vouched: Vouched | None
    revoked: Revoked | None

    @property
    def rank(self) -> tuple[bool, float]:
        """Of two that are known under one name the higher one counts."""
        return (self.vouched is not None, self.not_before)


@dataclass(frozen=True, slots=True)
class Refusal:
    """A router that is refused because its certificate is revoked."""

    router: str
    revoked: Revoked


class Vouching:
    """Reads certificates that charon verified. Only our own authorities make claims; a foreign one names routers.

    Used by the loop and by the thread that speaks vici.
    """

    def __init__(self, papers: Papers) -> None:
        self.papers = papers
        self.chain = papers.chain()
        self.signers = papers.signers(self.chain)
        self.revocations = Revocations()
        self._roots = tuple(chains.key_identifier(root) for root in self.chain.roots)
        self._read: dict[bytes, Known] = {}  # by certificate: read once
        self._lock = threading.RLock()
        self.read_lists()

    def reload(self) -> None:
        """The files have changed."""
        with self._lock:
            self.chain = self.papers.chain()
            self.signers = self.papers.signers(self.chain)
            self._roots = tuple(chains.key_identifier(root) for root in self.chain.roots)
            self._read = {}
            self.read_lists()

    def read_lists(self) -> None:
        good, bad = self.papers.lists(self.signers)
        for fault in bad:
            log.warning("%s", fault)
        for one in good:
            self.revocations.take(one)

    def take(self, found: RevocationList) -> bool:
        """Whether this list is newer than what was known; then it is kept on disk, and counts."""
        with self._lock:
            if not self.revocations.take(found):
                return False
            self._read = {}
        self.papers.keep_list(found)
        return True

    def take_renewer(self, certificate: x509.Certificate) -> bool:
        """Whether it is a renewal authority of ours; one that is new is kept."""
        with self._lock:
            if certificate in self.chain.renewers:
                return True
            if not self.chain.add_renewer(certificate):
                return False
            self.signers = self.papers.signers(self.chain)
            self._read = {}
        self.papers.keep_renewer(certificate.public_bytes(Encoding.PEM))
        return True

    def revoked(self, vouched: Vouched) -> Revoked | None:
        return self.revocations.entry(vouched, self._roots)

    def known(self, session: ViciSession) -> dict[str, Known]:
        """The newest certificate of every peer, by the identities it may be known under; ours before any other."""
        certificates = session.peer_certificates()
        if any(one.der not in self._read for one in certificates):
            for authority in session.authority_certificates():
                self._meet(authority)
        with self._lock:
            self._read = {one.der: self._read.get(one.der) or self._look(one) for one in certificates}
            every = tuple(self._read.values())
        found: dict[str, Known] = {}
        for known in every:
            for identity in known.identities:
                if identity not in found or found[identity].rank < known.rank:
                    found[identity] = known
        return found

    def _meet(self, authority: bytes) -> None:
        """charon has it from a peer: it may be a renewal authority that nobody told us of."""
        try:
            self.take_renewer(x509.load_der_x509_certificate(authority))
        except (ValueError, Fault) as error:
            log.debug("authority that cannot be read: %s", error)

    def _look(self, certificate: PeerCertificate) -> Known:
        try:
            vouched = self.chain.vouch(certificate.der)
        except Fault as fault:
            log.debug("certificate without claims: %s", fault)
            return Known(certificate.identities, certificate.not_before, None, self._foreign(certificate))
        return Known(certificate.identities, certificate.not_before, vouched, self.revoked(vouched))

    def _foreign(self, certificate: PeerCertificate) -> Revoked | None:
        """A foreign router's certificate has no claims, and may be revoked as well."""
        try:
            read = x509.load_der_x509_certificate(certificate.der)
            for found in self.revocations.lists:
                signers = (one for one in self.signers if chains.key_identifier(one) == found.issuer)
                if read.serial_number in found.entries and any(chains.is_issued_by(read, one) for one in signers):
                    return found.entries[read.serial_number]
        except ValueError as error:
            log.debug("certificate that cannot be read: %s", error)
        return None

    def own(self) -> Vouched | None:
        """What this router's own certificate says; None while it cannot be told."""
        try:
            return self.chain.vouch(chains.to_der(self.papers.own().certificate))
        except Fault as fault:
            log.debug("own certificate: %s", fault)
            return None


def now() -> datetime:
    return datetime.now(UTC)
