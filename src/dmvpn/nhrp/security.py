"""Security associations as the engine sees them: which stand, who needs them, and asking again."""

from collections.abc import Hashable
from typing import Final

from dmvpn.nhrp.candidates import Candidates
from dmvpn.nhrp.core import Core
from dmvpn.nhrp.events import Address, Endpoint, ReleaseSecurity, RestartSecurity, WantSecurity

RETRY_FIRST_S: Final = 1.0
RETRY_MOST_S: Final = 16.0
UNANSWERED_S: Final = 20.0  # asked, and neither up nor down was reported
PEERS_LIMIT: Final = 4096  # peers with users; each is an IKE initiator


class Security:
    """Users are names of what needs a peer's SA; with the first it is asked for, after the last it is let go."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._up: dict[Address, Endpoint | None] = {}
        self._users: dict[Address, set[Hashable]] = {}
        self._candidates: dict[Address, tuple[Endpoint, ...]] = {}
        self._failures: dict[Address, int] = {}

    def is_up(self, nbma: Address) -> bool:
        return nbma in self._up

    def is_wanted(self, nbma: Address) -> bool:
        return nbma in self._users

    def needs(self, nbma: Address) -> bool:
        """Wanted, or a client's or a hub's, whose SA is not ours to end."""
        return nbma in self._users or any(binding.routes for binding in self._core.bindings.of_nbma(nbma))

    def observed(self, nbma: Address) -> Endpoint | None:
        return self._up.get(nbma)

    def witnessed(self, candidates: Candidates | None, nbma: Address) -> Candidates | None:
        """What a peer says of its own whereabouts, its public ones being where we see it: else it could aim IKE at
        anybody. Where we have not seen it yet, it is nowhere.
        """
        if candidates is None:
            return None
        seen = self.observed(nbma)
        return Candidates() if seen is None else Candidates((seen,), candidates.private)

    def has_room(self, nbma: Address) -> bool:
        return nbma in self._users or len(self._users) < PEERS_LIMIT

    def want(self, nbma: Address, candidates: tuple[Endpoint, ...], user: Hashable) -> None:
        """Ask, unless it stands. Newer candidates replace older ones, none at all leave them."""
        self._users.setdefault(nbma, set()).add(user)
        if candidates:
            self._candidates[nbma] = candidates
        if not self.is_up(nbma):
            self._ask(nbma)

    def adopt(self, nbma: Address, user: Hashable) -> None:
        """After a restart: it stood, and is taken to stand until probes or the keying daemon say otherwise."""
        self._users.setdefault(nbma, set()).add(user)
        self._up.setdefault(nbma, None)
        self._core.emit(WantSecurity(nbma, ()))

    def release(self, nbma: Address, user: Hashable) -> None:
        users = self._users.get(nbma)
        if users is None or user not in users:
            return
        users.discard(user)
        if not users:
            del self._users[nbma]
            self._candidates.pop(nbma, None)
            self._failures.pop(nbma, None)
            self._core.timers.disarm(("security", nbma))
            if not self.needs(nbma):
                self._core.emit(ReleaseSecurity(nbma))

    def restart(self, nbma: Address) -> None:
        """The path is dead: from now on the SA counts as down, whatever the keying daemon still believes."""
        self._up.pop(nbma, None)
        self._core.emit(RestartSecurity(nbma))
        self._core.timers.arm(("security", nbma), self._core.now + UNANSWERED_S, lambda: self._ask(nbma))

    def security_up(self, nbma: Address, observed: Endpoint | None) -> None:
        self._up[nbma] = observed
        self._failures.pop(nbma, None)
        self._core.timers.disarm(("security", nbma))

    def security_down(self, nbma: Address) -> None:
        self._up.pop(nbma, None)
        if nbma not in self._users:
            return
        failures = self._failures.get(nbma, 0)
        self._failures[nbma] = failures + 1
        wait = min(RETRY_FIRST_S * 2.0**failures, RETRY_MOST_S)
        self._core.timers.arm(("security", nbma), self._core.after(wait), lambda: self._ask(nbma))

    def _ask(self, nbma: Address) -> None:
        self._core.emit(WantSecurity(nbma, self._candidates.get(nbma, ())))
        self._core.timers.arm(("security", nbma), self._core.now + UNANSWERED_S, lambda: self._ask(nbma))
