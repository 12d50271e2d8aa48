"""Questions to the outside: may this peer have that binding or prefix? Every binding passes here before it is used."""

from collections.abc import Callable
from typing import Final

from dmvpn.nhrp.core import Core
from dmvpn.nhrp.events import Address, Authorise, DropReason, Network, Verdict

QUESTIONS_LIMIT: Final = 4096
ANSWER_WAIT_S: Final = 10.0

Claim = tuple[Address, Address, Network | None]  # NBMA address, protocol address, prefix
Told = Callable[[str | None], None]  # None: allowed; else why not


class Authorisations:
    """Tickets and who waits for them. Equal questions in flight share one; allowed answers hold while the SA does."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._next_ticket = 1
        self._claims: dict[int, Claim] = {}
        self._waiting: dict[Claim, list[Told]] = {}
        self._allowed: dict[Address, set[Address]] = {}  # NBMA address: protocol addresses

    def knows(self, nbma: Address, protocol: Address) -> bool:
        """Was this binding allowed since the SA came up?"""
        return protocol in self._allowed.get(nbma, ())

    def ask(self, nbma: Address, protocol: Address, prefix: Network | None, then: Told) -> None:
        claim = (nbma, protocol, prefix)
        if claim in self._waiting:
            self._waiting[claim].append(then)
            return
        if len(self._waiting) >= QUESTIONS_LIMIT:
            self._core.drop(DropReason.LIMIT, nbma, f"{QUESTIONS_LIMIT} authorisations are open")
            then("too many open authorisations")
            return
        ticket = self._next_ticket
        self._next_ticket += 1
        self._claims[ticket] = claim
        self._waiting[claim] = [then]
        self._core.emit(Authorise(ticket, nbma, protocol, prefix))
        wait = self._core.now + ANSWER_WAIT_S
        self._core.timers.arm(("authorise", ticket), wait, lambda: self._settle(ticket, "not answered"))

    def verdict(self, verdict: Verdict) -> None:
        self._settle(verdict.ticket, None if verdict.allowed else verdict.reason or "refused")

    def security_down(self, nbma: Address) -> None:
        """Another certificate may come up in its place."""
        self._allowed.pop(nbma, None)

    def _settle(self, ticket: int, refusal: str | None) -> None:
        claim = self._claims.pop(ticket, None)
        if claim is None:
            return
        self._core.timers.disarm(("authorise", ticket))
        nbma, protocol, prefix = claim
        if refusal is None:
            self._allowed.setdefault(nbma, set()).add(protocol)
        else:
            what = f"{protocol}" if prefix is None else f"{prefix} via {protocol}"
            self._core.drop(DropReason.NOT_AUTHORISED, nbma, f"{what}: {refusal}")
        for then in self._waiting.pop(claim):
            then(refusal)
