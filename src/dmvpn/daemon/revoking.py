"""Revocation lists on their way: in from a file or another router, to charon and the disk, on to every other router.

The newest of each authority counts, by its number. Whoever has news tells the routers it has an SA with; each asks the
one that told it, and tells its own. Routers that meet compare numbers as well, so one that was away learns all.
"""

import asyncio
import base64
import binascii
import contextlib
import logging
from collections.abc import Callable, Collection, Iterable
from ipaddress import IPv4Address, IPv6Address
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from dmvpn.daemon.ike import Ike
from dmvpn.daemon.renewals import Renewals
from dmvpn.daemon.server import ask_tcp
from dmvpn.daemon.tasks import Tasks
from dmvpn.daemon.vouching import Vouching, now
from dmvpn.errors import Fault, WrongInput
from dmvpn.identity import revocation
from dmvpn.identity.chain import key_identifier
from dmvpn.identity.revocation import RevocationList

Address = IPv4Address | IPv6Address
log = logging.getLogger("dmvpnd.papers")

ASK_LIMIT_S = 5.0
REFRESH_S = 3600.0
AT_ONCE = 32  # routers that are told together
ROUNDS_LIMIT = 16  # lists from one router in one go


class Revoking:
    """`peers` are the overlay addresses of the routers with an SA; `port` is where each answers.

    `listed` hears whom a list that is new here names.
    """

    def __init__(
        self,
        vouching: Vouching,
        ike: Ike,
        renewals: Renewals,
        peers: Callable[[], Iterable[Address]],
        port: int,
        listed: Callable[[Collection[str]], None],
    ) -> None:
        self._vouching = vouching
        self._ike = ike
        self._renewals = renewals
        self._peers = peers
        self._port = port
        self._listed = listed
        self._tasks = Tasks()
        self._pulling: set[str] = set()
        self._gate = asyncio.Semaphore(AT_ONCE)

    # ------------------------------------------------------------ what came

    async def changed(self) -> None:
        """Lists or authorities on disk were changed by somebody else: take what is new of them."""
        before = self._vouching.revocations.numbers()
        self._vouching.reload()
        fresh = [one for one in self._vouching.revocations.lists if before.get(one.issuer.hex()) != one.number]
        await self._put_in_force(fresh, "")

    async def _put_in_force(self, fresh: list[RevocationList], source: str) -> None:
        if not fresh:
            return
        for one in fresh:
            log.info("revocation list %d of %s: %d entries", one.number, one.issuer.hex()[:8], len(one.entries))
        own = self._renewals.revoke(self._vouching, now())
        if own is not None and self._vouching.take(own):
            fresh.append(own)
        await self._ike.enforce(tuple(fresh))
        self._listed({entry.router for one in fresh for entry in one.entries.values()})
        self._tell(except_for=source)

    async def run(self) -> None:
        """Sign our own list anew before it is over, on a hub that has one; until cancelled."""
        while True:
            try:
                own = self._renewals.revoke(self._vouching, now())
                if own is not None and self._vouching.take(own):
                    await self._ike.enforce((own,))
                    self._tell(except_for="")
            except Fault as fault:
                log.warning("%s", fault)
            await asyncio.sleep(REFRESH_S)

    # ------------------------------------------------------------ other routers

    def answer(self, question: dict[str, Any]) -> dict[str, str]:
        """A list that the asker does not have, and who signed it; nothing if it has them all. Raises Fault."""
        found = self._vouching.revocations.newer_than(revocation.numbers_in(question.get("numbers")))
        if found is None:
            return {}
        signer = next(one for one in self._vouching.signers if key_identifier(one) == found.issuer)
        return {"list": _text(found.der), "signer": _text(signer.public_bytes(Encoding.DER))}

    def told(self, question: dict[str, Any], source: str) -> dict[str, str]:
        """Another router says what it has. Raises Fault."""
        theirs = revocation.numbers_in(question.get("numbers"))
        ours = self._vouching.revocations.numbers()
        if any(number > ours.get(issuer, -1) for issuer, number in theirs.items()):
            self._tasks.begin(self._pull(source))
        return {}

    def met(self, peer: Address, *, after_s: float) -> None:
        """An SA with this router came up. Both ends ask, so whoever knows less learns."""
        self._tasks.begin(self._pull_later(str(peer), after_s))

    async def _pull_later(self, source: str, after_s: float) -> None:
        await asyncio.sleep(after_s)
        await self._pull(source)

    async def _pull(self, source: str) -> None:
        if source in self._pulling:
            return
        self._pulling.add(source)
        try:
            async with self._gate:
                fresh = await self._fetch(source)
            await self._put_in_force(fresh, source)
        except Fault as fault:
            log.debug("revocation lists of %s: %s", source, fault)
        finally:
            self._pulling.discard(source)

    async def _fetch(self, source: str) -> list[RevocationList]:
        fresh: list[RevocationList] = []
        for _ in range(ROUNDS_LIMIT):
            question = {"ask": "revoked", "numbers": self._vouching.revocations.numbers()}
            given = await ask_tcp(source, self._port, question, timeout_s=ASK_LIMIT_S)
            if not given:
                break
            found = self._read(given)
            if not self._vouching.take(found):
                break  # it has nothing newer after all
            fresh.append(found)
        return fresh

    def _read(self, given: Any) -> RevocationList:
        """Raises Fault: what another router says is input."""
        where = "revocation list of another router"
        try:
            der, signer = (base64.b64decode(given[word], validate=True) for word in ("list", "signer"))
            authority = x509.load_der_x509_certificate(signer)
        except (KeyError, TypeError, ValueError, binascii.Error) as error:
            raise WrongInput(where, "is not what routers send") from error
        self._vouching.take_renewer(authority)
        return revocation.read(der, self._vouching.signers, where)

    def _tell(self, except_for: str) -> None:
        for peer in dict.fromkeys(map(str, self._peers())):
            if peer != except_for:
                self._tasks.begin(self._tell_one(peer))

    async def _tell_one(self, peer: str) -> None:
        async with self._gate:
            with contextlib.suppress(Fault):
                question = {"ask": "revocations", "numbers": self._vouching.revocations.numbers()}
                await ask_tcp(peer, self._port, question, timeout_s=ASK_LIMIT_S)


def _text(octets: bytes) -> str:
    return base64.b64encode(octets).decode()
