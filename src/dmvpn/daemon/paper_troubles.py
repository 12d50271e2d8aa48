"""What `status` says of certificates: this router's own, and those of routers that are refused."""

from collections.abc import Iterable
from datetime import datetime, timedelta

from dmvpn.daemon.control import REMARK, SEVERE, WARNING, Trouble
from dmvpn.daemon.renewing import Standing
from dmvpn.daemon.vouching import Refusal
from dmvpn.identity.revocation import RevocationList

LOOK = "openssl x509 -noout -dates -in {pki}/router.pem"
NAMES = 5


def own_troubles(own: Standing | None, pki: str, now: datetime) -> list[Trouble]:
    """Of the router's own certificate: revoked, outside its dates by this clock, or nearing its end unrenewed."""
    look = LOOK.format(pki=pki)
    if own is None:
        return [Trouble(SEVERE, "this router's certificate is missing, or no authority of ours vouches for it", look)]
    clock = f"this machine's clock says {now:%Y-%m-%d %H:%M} UTC"
    if own.revoked:
        what = f"this router's certificate was {own.revoked}: other routers refuse it"
        return [Trouble(SEVERE, what, f"dmvpn pki renew {own.router} (at the authority)")]
    if now < own.not_before:
        what = f"this router's certificate is not valid before {own.not_before:%Y-%m-%d %H:%M} UTC, and {clock}"
        return [Trouble(SEVERE, what, "date -u; set the clock")]
    if now >= own.not_after:
        what = f"this router's certificate expired on {own.not_after:%Y-%m-%d %H:%M} UTC, and {clock}"
        return [Trouble(SEVERE, what, f"dmvpn pki renew {own.router} (at the authority)")]
    if now < own.renews_at or not own.trouble:
        return []
    left = own.not_after - now
    severity = WARNING if left > (own.not_after - own.not_before) / 6 else SEVERE
    what = f"this router's certificate ends in {_span(left)} and cannot be renewed: {own.trouble}"
    return [Trouble(severity, what, f"dmvpn pki renew {own.router} (at the authority)")]


def _span(left: timedelta) -> str:
    hours = int(left.total_seconds() // 3600)
    return f"{hours // 24} days" if hours >= 48 else f"{hours} h"


def list_troubles(overdue: Iterable[RevocationList]) -> list[Trouble]:
    """An old list still counts: what it revokes stays revoked, and who is not in it is let in."""
    found = sorted(overdue, key=lambda one: one.next_update)
    if not found:
        return []
    what = f"the revocation list {found[0].number} should have had a successor on {found[0].next_update:%Y-%m-%d}"
    return [
        Trouble(WARNING, f"{what}: it still counts, and what was revoked since is not known here", "dmvpn pki publish")
    ]


def refusal_troubles(refused: Iterable[Refusal]) -> list[Trouble]:
    """Who is kept out, and why."""
    rows = sorted({f"{one.router} ({one.revoked})" for one in refused})
    if not rows:
        return []
    more = ", ..." if len(rows) > NAMES else ""
    return [Trouble(REMARK, f"refused, its certificate is revoked: {', '.join(rows[:NAMES])}{more}", "dmvpn pki list")]
