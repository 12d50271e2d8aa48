"""The reverse binding: who asked us is likely to be sent to, so its SA is brought up. RFC 2332 6.2.1.

No neighbour entry hangs on it: a shortcut of our own towards the requester has that, with its own proofs.
"""

from dataclasses import dataclass
from functools import partial

from dmvpn.nhrp.authorisation import Authorisations
from dmvpn.nhrp.cache import Binding, BindingKind
from dmvpn.nhrp.candidates import Candidates
from dmvpn.nhrp.core import Core
from dmvpn.nhrp.events import Address, DropReason, Network
from dmvpn.nhrp.security import Security


@dataclass(frozen=True, slots=True)
class _Hopeful:
    """A requester whose SA or authorisation is still open."""

    nbma: Address
    candidates: Candidates | None
    holding_time_s: float


class Requesters:
    """Both ends initiate: the requester learns where we are by our reply, we learn it by its request."""

    def __init__(self, core: Core, security: Security, authorisations: Authorisations) -> None:
        self._core = core
        self._security = security
        self._authorisations = authorisations
        self._hopeful: dict[Address, _Hopeful] = {}

    def learn(self, protocol: Address, nbma: Address, candidates: Candidates | None, holding_time_s: float) -> None:
        known = self._core.bindings.get(protocol)
        if self._core.is_own(protocol) or self._core.is_own_nbma(nbma) or not self._core.can_reach(nbma):
            return
        if known is not None and (known.kind is not BindingKind.REQUESTER or known.nbma == nbma):
            self._refresh(known, holding_time_s)
            return
        if not self._core.bindings.has_room(protocol, nbma) or not self._security.has_room(nbma):
            self._core.drop(DropReason.LIMIT, nbma, f"no room for the binding of {protocol}")
            return
        self._give_up(protocol, but_for=nbma)
        endpoints = self._core.worth_trying(candidates)
        self._hopeful[protocol] = _Hopeful(nbma, candidates, holding_time_s)
        wait = self._core.now + self._core.settings.security_wait_s
        self._core.timers.arm(("hopeful", protocol), wait, partial(self._give_up, protocol))
        self._security.want(nbma, endpoints, ("requester", protocol))
        if self._security.is_up(nbma):
            self._authorise(protocol, nbma)

    def security_up(self, nbma: Address) -> None:
        for protocol, hopeful in list(self._hopeful.items()):
            if hopeful.nbma == nbma:
                self._authorise(protocol, nbma)

    def security_down(self, nbma: Address) -> None:
        """The peer let go or is gone; it asks again when it needs us. Only attempts still under way go on."""
        for binding in self._core.bindings.of_nbma(nbma):
            if binding.kind is BindingKind.REQUESTER:
                self._expire(binding.protocol)

    def purged(self, network: Network, owner: Address) -> None:
        for binding in self._core.bindings.of_nbma(owner):
            if binding.kind is BindingKind.REQUESTER and binding.protocol in network:
                self._expire(binding.protocol)

    def forget(self, network: Network | None) -> None:
        """The operator's purge."""
        for binding in self._core.bindings:
            if binding.kind is BindingKind.REQUESTER and (network is None or binding.protocol in network):
                self._expire(binding.protocol)

    def _refresh(self, known: Binding, holding_time_s: float) -> None:
        if known.kind is BindingKind.REQUESTER:
            self._hold(known, holding_time_s)

    def _authorise(self, protocol: Address, nbma: Address) -> None:
        self._authorisations.ask(nbma, protocol, None, partial(self._told, protocol, nbma))

    def _told(self, protocol: Address, nbma: Address, refusal: str | None) -> None:
        hopeful = self._hopeful.get(protocol)
        if hopeful is None or hopeful.nbma != nbma:
            return
        if refusal is not None:
            self._give_up(protocol)
            return
        del self._hopeful[protocol]
        self._core.timers.disarm(("hopeful", protocol))
        self._expire(protocol)  # the requester may have had another NBMA address
        now = self._core.now
        binding = Binding(protocol, nbma, BindingKind.REQUESTER, now, now, nbma, candidates=hopeful.candidates)
        self._core.bindings.put(binding)
        self._hold(binding, hopeful.holding_time_s)

    def _hold(self, binding: Binding, holding_time_s: float) -> None:
        binding.expires = self._core.now + holding_time_s
        protocol = binding.protocol
        self._core.timers.arm(("requester", protocol.packed), binding.expires, partial(self._expire, protocol))

    def _expire(self, protocol: Address) -> None:
        self._core.timers.disarm(("requester", protocol.packed))
        binding = self._core.bindings.drop(protocol)
        if binding is not None:
            self._security.release(binding.nbma, ("requester", protocol))

    def _give_up(self, protocol: Address, but_for: Address | None = None) -> None:
        """`but_for`: an attempt at that NBMA address goes on."""
        hopeful = self._hopeful.get(protocol)
        if hopeful is not None and hopeful.nbma != but_for:
            del self._hopeful[protocol]
            self._core.timers.disarm(("hopeful", protocol))
            self._security.release(hopeful.nbma, ("requester", protocol))
