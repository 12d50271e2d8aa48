"""This router's own certificate: how long it is good for, and renewing it in time, with a hub that does that."""

import asyncio
import hashlib
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import IPv4Address, IPv6Address
from typing import Any

from dmvpn.daemon.ike import Ike
from dmvpn.daemon.papers import Pair
from dmvpn.daemon.renewals import NotRenewed, Refused, Renewals
from dmvpn.daemon.server import ask_tcp
from dmvpn.daemon.vouching import Vouching, now
from dmvpn.errors import Fault
from dmvpn.identity import authority, issuing, renewal
from dmvpn.identity.chain import Vouched
from dmvpn.identity.renewal import Asking

Address = IPv4Address | IPv6Address
log = logging.getLogger("dmvpnd.papers")

ASK_LIMIT_S = 10.0
LOOK_S = 3600.0  # a clock may be set, or the machine sleep
RETRY_FIRST_S, RETRY_LAST_S = 5.0, 3600.0
SPREAD = 30  # a thirtieth of its life: routers that were issued together do not all come at once


@dataclass(frozen=True, slots=True)
class Standing:
    """The own certificate as `status` tells it. `trouble`: why it could not be renewed."""

    router: str
    not_before: datetime
    not_after: datetime
    renews_at: datetime
    revoked: str
    trouble: str


def renews_at(own: Vouched) -> datetime:
    """When to begin: at a third of its life before the end, spread by the router's name; an invitation's at once."""
    life = own.not_after - own.not_before
    if life < timedelta(days=renewal.INVITATION_DAYS):
        return own.not_before
    digest = hashlib.sha256(own.claims.router.encode()).digest()
    share = int.from_bytes(digest[:4], "big") / 2**32
    return own.not_after - life / 3 - life / SPREAD * share


class Renewing:
    """`hubs` are overlay addresses of hubs with an SA; `own` is this router's own, for one that renews itself."""

    def __init__(
        self,
        vouching: Vouching,
        ike: Ike,
        renewals: Renewals,
        hubs: Callable[[], Iterable[Address]],
        own: Callable[[], str],
        port: int,
    ) -> None:
        self._vouching = vouching
        self._ike = ike
        self._renewals = renewals
        self._hubs = hubs
        self._own = own
        self._port = port
        self._wake = asyncio.Event()
        self._one = asyncio.Lock()
        self._tries = 0
        self.trouble = ""

    def hub_is_up(self) -> None:
        """Somebody can be asked now."""
        self._wake.set()

    async def run(self) -> None:
        """Renew in time, until cancelled."""
        while True:
            self._wake.clear()
            pause_s = LOOK_S
            own = self._vouching.own()
            if own is not None and now() >= renews_at(own):
                pause_s = await self._try()
            elif own is not None:
                pause_s = min(LOOK_S, (renews_at(own) - now()).total_seconds() + 1.0)
            await self._rest(pause_s)

    async def _try(self) -> float:
        try:
            await self.renew()
        except Fault as fault:
            level = logging.INFO if str(fault) == self.trouble else logging.WARNING
            self.trouble = str(fault)
            log.log(level, "%s", fault)
            pause_s = min(RETRY_FIRST_S * 2.0 ** min(self._tries, 16), RETRY_LAST_S)
            self._tries += 1
            return pause_s
        return 0.0

    async def _rest(self, pause_s: float) -> None:
        try:
            await asyncio.wait_for(self._wake.wait(), max(pause_s, 0.0))
        except TimeoutError:
            return
        await asyncio.sleep(1.0)  # the way through a new SA is there a moment later

    async def renew(self) -> Vouched:
        """Ask the hubs one after the other, and put the new papers in place without an outage. Raises Fault."""
        async with self._one:
            papers = self._vouching.papers
            before, key = papers.own(), papers.pending_key()
            asking = renewal.ask(before.certificate, before.key, key)
            certificate, renewer = await self._asked(asking)
            self._vouching.take_renewer(issuing.load_certificate(renewer))
            found = renewal.accept(certificate, before.certificate, key, self._vouching.chain, now())
            await self._ike.install(Pair(certificate, key))
            self._tries, self.trouble = 0, ""
            log.info("certificate renewed: valid until %s", found.not_after.date())
            return found

    async def _asked(self, asking: Asking) -> tuple[bytes, bytes]:
        why: list[str] = []
        if self._renewals.certificate() is not None:
            given = self._renewals.renew(asking, self._vouching, self._own(), now())
            return given["certificate"].encode(), given["renewer"].encode()
        question = {"ask": "renew", "asking": asking.to_wire()}
        for hub in dict.fromkeys(map(str, self._hubs())):
            try:
                given = await ask_tcp(hub, self._port, question, timeout_s=ASK_LIMIT_S)
                return _answer(hub, given)
            except Fault as fault:
                why.append(f"{fault.where} {fault.what}")
        what = "; ".join(why) or "no hub is up"
        raise Fault("renewal", what, "make new papers at the authority: `dmvpn pki renew ROUTER`")

    def answer(self, question: dict[str, Any], source: str) -> dict[str, str]:
        """Another router asks. What it is told of a refusal is one of a few words; the rest is in our log."""
        try:
            return self._renewals.renew(Asking.from_wire(_dict(question.get("asking"))), self._vouching, source, now())
        except Refused as refused:
            log.warning("%s", refused)
            return {"refused": refused.reason.name}

    def standing(self) -> Standing | None:
        """None while the own certificate cannot be read."""
        own = self._vouching.own()
        if own is None:
            return None
        revoked = self._vouching.revoked(own)
        return Standing(
            router=own.claims.router,
            not_before=own.not_before,
            not_after=own.not_after,
            renews_at=renews_at(own),
            revoked="" if revoked is None else str(revoked),
            trouble=self.trouble,
        )


def _dict(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _answer(hub: str, given: Any) -> tuple[bytes, bytes]:
    """Raises Fault: a refusal, in words of ours, or something that is no answer."""
    given = _dict(given)
    refused = given.get("refused")
    if refused is not None:
        reason = NotRenewed.__members__.get(str(refused))
        raise Fault(f"hub {hub}", reason.value if reason is not None else "refuses it")
    try:
        certificate, renewer = str(given["certificate"]).encode(), str(given["renewer"]).encode()
    except KeyError as error:
        raise Fault(f"hub {hub}", "gave no certificate") from error
    authority.describe(certificate)
    return certificate, renewer
