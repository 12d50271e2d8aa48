"""A hub that renews: what it signed, and its own revocation list, which charon everywhere needs.

The root's list says whose first certificate is revoked; only whoever renewed it knows the numbers of its successors.
"""

import hashlib
import json
import logging
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding

from dmvpn.daemon.papers import Papers
from dmvpn.daemon.vouching import Vouching
from dmvpn.errors import Fault
from dmvpn.identity import authority, issuing, renewal, requests, revocation
from dmvpn.identity.chain import key_identifier
from dmvpn.identity.renewal import Asking
from dmvpn.identity.revocation import RevocationList, Revoked
from dmvpn.linux import files

log = logging.getLogger("dmvpnd.papers")

LEDGER = "renewals.json"
LEDGER_LIMIT_OCTETS = 16 << 20
OFTEN = timedelta(days=1)
OFTEN_LIMIT = 8  # renewals of one router in that time


class NotRenewed(StrEnum):
    """Why a hub does not renew: the closed list of what it answers."""

    NO_AUTHORITY = "is no renewal authority"
    REFUSED = "refuses it: the certificate is revoked, expired or not this router's"
    USED = "refuses it: this invitation was used already, for another key"
    OFTEN = "refuses it: renewed too often today"


class Refused(Fault):
    """Renewal is refused; `reason` is what the asker may know."""

    def __init__(self, where: str, reason: NotRenewed, detail: str = "") -> None:
        super().__init__(where, detail or reason.value)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Renewed:
    """One row of the ledger: what was signed for whom. Times are Unix time; `key` is the new key's SHA-256."""

    serial: int
    origin: int
    of: int
    router: str
    key: str
    at: float
    until: float


class Renewals:
    """Empty-handed on a router that renews nobody."""

    def __init__(self, papers: Papers, state: Path) -> None:
        self._papers = papers
        self._path = state / LEDGER
        self._rows = self._recall()

    def renew(self, asking: Asking, vouching: Vouching, source: str, at: datetime) -> dict[str, str]:
        """The new certificate and ours, PEM. `source` is the overlay address that it is asked from. Raises Refused."""
        pair = self._papers.renewer()
        if pair is None:
            raise Refused(source, NotRenewed.NO_AUTHORITY)
        try:
            vouched = renewal.judge(asking, vouching.chain, lambda one: str(vouching.revoked(one) or ""), at)
            if source not in {str(address) for address in vouched.claims.overlay}:
                raise Fault(source, f"asks with the certificate of {vouched.claims.router}")
        except Fault as fault:
            raise Refused(source, NotRenewed.REFUSED, str(fault)) from fault
        key = hashlib.sha256(requests.public_key_of_request(asking.request)).hexdigest()
        invited = vouched.not_after - vouched.not_before < timedelta(days=renewal.INVITATION_DAYS)
        if invited and any(row.of == vouched.serial and row.key != key for row in self._rows):
            raise Refused(f"renewal for {vouched.claims.router}", NotRenewed.USED)
        lately = [row for row in self._rows if row.origin == vouched.origin and row.at > (at - OFTEN).timestamp()]
        if len(lately) >= OFTEN_LIMIT:
            raise Refused(f"renewal for {vouched.claims.router}", NotRenewed.OFTEN)
        renewer = issuing.opened(pair.certificate, pair.key)
        pem = renewal.renew(asking, vouched, vouching.chain, renewer, at)
        told = authority.describe(pem)
        row = Renewed(
            serial=told.serial,
            origin=vouched.origin,
            of=vouched.serial,
            router=vouched.claims.router,
            key=key,
            at=at.timestamp(),
            until=told.not_after.timestamp(),
        )
        self._remember([*self._rows, row], at)
        log.info("renewed %s until %s", row.router, told.not_after.date())
        return {"certificate": pem.decode(), "renewer": pair.certificate.decode()}

    def revoke(self, vouching: Vouching, at: datetime) -> RevocationList | None:
        """Our own list, if what others revoked makes it another one than it was, or it is half over."""
        pair = self._papers.renewer()
        if pair is None:
            return None
        renewer = issuing.opened(pair.certificate, pair.key)
        identifier = key_identifier(renewer.certificate)
        roots = [one for one in vouching.revocations.lists if one.issuer != identifier]
        rows = [(row, entry) for row in self._rows for one in roots if (entry := one.entries.get(row.origin))]
        entries = [Revoked(row.serial, row.router, entry.reason, entry.at) for row, entry in rows]
        known = next((one for one in vouching.revocations.lists if one.issuer == identifier), None)
        if known is None and not entries:
            return None
        fresh = known is not None and at < known.this_update + (known.next_update - known.this_update) / 2
        if known is not None and fresh and {entry.serial for entry in entries} <= known.entries.keys():
            return None
        # The time as a number goes on counting though the ledger were lost.
        number = max(int(at.timestamp()), known.number + 1 if known is not None else 0)
        pem = revocation.make(renewer, entries, number=number, now=at)
        return revocation.read(pem, [renewer.certificate])

    def certificate(self) -> bytes | None:
        """Our authority's certificate, DER, on a hub that renews."""
        pair = self._papers.renewer()
        return None if pair is None else issuing.load_certificate(pair.certificate).public_bytes(Encoding.DER)

    def _recall(self) -> list[Renewed]:
        if not self._path.exists():
            return []
        try:
            rows = json.loads(files.read(self._path, limit_octets=LEDGER_LIMIT_OCTETS))
            return [Renewed(**row) for row in rows]
        except (Fault, ValueError, TypeError) as error:
            log.warning("%s cannot be used, beginning afresh: %s", self._path, error)
            return []

    def _remember(self, rows: list[Renewed], at: datetime) -> None:
        """On disk before the answer goes out: what is not written down could not be revoked. Raises Fault."""
        kept = [row for row in rows if row.until > at.timestamp()]
        files.write(self._path, json.dumps([asdict(row) for row in kept]), mode=0o600)
        self._rows = kept
