"""Questions to the outside: may this peer have that binding or prefix? Every binding passes here before it is used."""

from collections.abc import Callable
from typing import Final

from dmvpn.nhrp.cache import Key, key_of
from dmvpn.nhrp.core import Core
from dmvpn.nhrp.events import Address, Authorise, DropReason, Network, Verdict

QUESTIONS_LIMIT: Final = 4096
ANSWER_WAIT_S: Final = 10.0

Claim = tuple[Address, Address, Network | None]  # NBMA address, protocol address, prefix
Told = Callable[[str | None], None]  # None: allowed; else why not
_Key = tuple[Key, Key, Network | None]


class Authorisations:
    """Tickets and who waits for them. Equal questions in flight share one; allowed answers hold while the SA does."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._next_ticket = 1
        self._deadlines: dict[int, float] = {}  # by ticket, in the order of asking, which is that of the deadlines
        self._is_armed = False
        self._claims: dict[int, tuple[Claim, _Key]] = {}
        self._waiting: dict[_Key, list[Told]] = {}  # by the claim
        self._allowed: dict[Key, set[Key]] = {}  # NBMA address: protocol addresses

    def knows(self, nbma: Address, protocol: Address) -> bool:
        """Was this binding allowed since the SA came up?"""
        return key_of(protocol) in self._allowed.get(key_of(nbma), ())

    def ask(self, nbma: Address, protocol: Address, prefix: Network | None, then: Told) -> None:
        key = _key(nbma, protocol, prefix)
        if key in self._waiting:
            self._waiting[key].append(then)
            return
        if len(self._waiting) >= QUESTIONS_LIMIT:
            self._core.drop(DropReason.LIMIT, nbma, f"{QUESTIONS_LIMIT} authorisations are open")
            then("too many open authorisations")
            return
        ticket = self._next_ticket
        self._next_ticket += 1
        self._claims[ticket] = (nbma, protocol, prefix), key
        self._waiting[key] = [then]
        self._core.emit(Authorise(ticket, nbma, protocol, prefix))
        self._deadlines[ticket] = self._core.now + ANSWER_WAIT_S
        if not self._is_armed:
            self._arm()

    def _arm(self) -> None:
        """One timer looks after all: nearly every question is answered at once, and then it finds nothing to do."""
        self._is_armed = bool(self._deadlines)
        if self._deadlines:
            self._core.timers.arm("authorise", next(iter(self._deadlines.values())), self._overdue)

    def _overdue(self) -> None:
        for ticket in [ticket for ticket, at in self._deadlines.items() if at <= self._core.now]:
            self._settle(ticket, "not answered")
        self._arm()

    def verdict(self, verdict: Verdict) -> None:
        self._settle(verdict.ticket, None if verdict.allowed else verdict.reason or "refused")

    def security_down(self, nbma: Address) -> None:
        """Another certificate may come up in its place."""
        self._allowed.pop(key_of(nbma), None)

    def _settle(self, ticket: int, refusal: str | None) -> None:
        asked = self._claims.pop(ticket, None)
        if asked is None:
            return
        self._deadlines.pop(ticket, None)
        (nbma, protocol, prefix), key = asked
        if refusal is None:
            self._allowed.setdefault(key[0], set()).add(key[1])
        else:
            what = f"{protocol}" if prefix is None else f"{prefix} via {protocol}"
            self._core.drop(DropReason.NOT_AUTHORISED, nbma, f"{what}: {refusal}")
        for then in self._waiting.pop(key):
            then(refusal)


def _key(nbma: Address, protocol: Address, prefix: Network | None) -> _Key:
    return key_of(nbma), key_of(protocol), prefix
