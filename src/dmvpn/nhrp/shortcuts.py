"""Shortcuts: from a hint that a destination has a shorter way to an installed route, and back.

resolving -> connecting -> authorising -> probing -> up. Until up, packets take the hub. What was up once and lost its
path goes back to resolving, with back-off, as long as it is wanted; what never came up turns negative for a while.
"""

from functools import partial
from typing import Final

from dmvpn.nhrp.authorisation import Authorisations
from dmvpn.nhrp.candidates import Candidates
from dmvpn.nhrp.cie import Cie
from dmvpn.nhrp.core import Core
from dmvpn.nhrp.endings import USER, Endings
from dmvpn.nhrp.events import Address, DropReason, Happening, Network
from dmvpn.nhrp.liveness import Paths
from dmvpn.nhrp.numbers import CieCode, ErrorCode
from dmvpn.nhrp.queries import Answer, Queries
from dmvpn.nhrp.rib import host_of
from dmvpn.nhrp.security import Security
from dmvpn.nhrp.shortcut import Shortcut, ShortcutState, WhyNot

MTU_LEAST_V4: Final = 576  # RFC 791 3.2: every host takes that much
MTU_LEAST_V6: Final = 1280  # RFC 8200 5
PROBE_WAIT_S: Final = 15.0  # from SA to first answer, the authorisation included
REFUSED_LIMIT: Final = 8
REFRESH_PART: Final = 2 / 3  # of the holding time

WHY_OF_CODE: Final[dict[int, WhyNot]] = {
    CieCode.ADMINISTRATIVELY_PROHIBITED: WhyNot.REFUSED_BY_PEER,
    CieCode.INSUFFICIENT_RESOURCES: WhyNot.REFUSED_BY_PEER,
}
FOR_WANT_OF_A_PATH: Final = (WhyNot.NO_SECURITY, WhyNot.NO_PROBE_ANSWER, WhyNot.PATH_DEAD)
WHY_TOO_LONG: Final = {
    ShortcutState.CONNECTING: WhyNot.NO_SECURITY,
    ShortcutState.AUTHORISING: WhyNot.NOT_AUTHORISED,
    ShortcutState.PROBING: WhyNot.NO_PROBE_ANSWER,
}


class Shortcuts:
    """The life cycle. What ends one from outside (routes, purges, the operator) is in invalidation.py."""

    def __init__(
        self, core: Core, security: Security, paths: Paths, authorisations: Authorisations, queries: Queries
    ) -> None:
        self.endings = Endings(core, security, paths, queries, self._resolve)
        self.table = self.endings.table
        self._core = core
        self._security = security
        self._paths = paths
        self._authorisations = authorisations
        self._queries = queries

    # ------------------------------------------------------------ wanted, asked, answered

    def want(self, destination: Address, *, next_hop_only: bool) -> Shortcut | None:
        """A shorter way is known to exist. None when the table is full."""
        known = self.table.covering(destination)
        until = self._core.now + self._core.settings.holding_time_s
        if known is not None:
            known.wanted_until = until
            return known
        if self.table.is_full:
            self._core.drop(DropReason.LIMIT, None, f"no room for a shortcut to {destination}")
            return None
        number = self.table.next_number()
        shortcut = Shortcut(number, destination, host_of(destination), next_hop_only, self._core.now, until)
        self.table.put(shortcut)
        self._core.log(Happening.SHORTCUT_WANTED, destination)
        self._resolve(shortcut)
        return shortcut

    def _resolve(self, shortcut: Shortcut) -> None:
        # After a loss the reason stays: "asking" would hide why the pair is not direct.
        if not shortcut.up_once:
            shortcut.turn(ShortcutState.RESOLVING, self._core.now)
        if self._core.next_hop(shortcut.destination) is None:
            shortcut.why = WhyNot.NO_HUB
        self._ask(shortcut)

    def _ask(self, shortcut: Shortcut) -> None:
        self._queries.ask(
            shortcut.destination,
            partial(self._answered, shortcut),
            partial(self._silent, shortcut),
            partial(self._error, shortcut),
            straight=shortcut.nbma if shortcut.state is ShortcutState.UP else None,
        )

    def _answered(self, shortcut: Shortcut, answer: Answer) -> None:
        if shortcut.state is ShortcutState.UP:
            self._refreshed(shortcut, answer)
        elif shortcut.state is not ShortcutState.RESOLVING or answer.nbma in shortcut.refused:
            self._core.drop(DropReason.DUPLICATE, answer.nbma, f"{shortcut.destination} is answered already")
        elif (why := self._unusable(shortcut, answer)) is not None:
            self.endings.give_up(shortcut, why)
        else:
            self._take(shortcut, answer)
            self._queries.pause(shortcut.destination)
            self._connect(shortcut)

    def _unusable(self, shortcut: Shortcut, answer: Answer) -> WhyNot | None:
        if answer.cie.code != CieCode.OK:
            return WHY_OF_CODE.get(answer.cie.code, WhyNot.NO_BINDING)
        if self._core.is_own_nbma(answer.nbma) or self._core.is_own(answer.protocol):
            return WhyNot.NO_BINDING
        if answer.nbma == self._core.next_hop(shortcut.destination):
            return WhyNot.VIA_HUB
        if not self._core.can_reach(answer.nbma):
            return WhyNot.NO_SECURITY
        if shortcut.next_hop_only and answer.protocol != shortcut.destination:
            return WhyNot.NO_BINDING
        return None

    def _take(self, shortcut: Shortcut, answer: Answer) -> None:
        if shortcut.nbma not in (None, answer.nbma):
            self.endings.leave_peer(shortcut)
        candidates = self._candidates(answer)
        if answer.is_straight:
            candidates = self._security.witnessed(candidates, answer.nbma)
        shortcut.nbma = shortcut.peer = answer.nbma
        shortcut.gateway = answer.protocol
        shortcut.offered = self._offered(shortcut, answer)
        shortcut.ours = candidates is not None
        shortcut.whereabouts = candidates
        shortcut.candidates = self._core.worth_trying(candidates)
        shortcut.holding_time_s = self._holding_time_s(answer)
        shortcut.mtu_octets = self._mtu_octets(shortcut.offered, answer.cie)

    def _candidates(self, answer: Answer) -> Candidates | None:
        """None from a foreign router: some copy what they do not know into the reply."""
        candidates = answer.packet.candidates()
        echoed = candidates == self._core.candidates() and candidates != Candidates()
        return None if echoed or not self._core.is_ours(answer.nbma) else candidates

    def _mtu_octets(self, prefix: Network, cie: Cie) -> int | None:
        """What the responder says its tunnel takes, if it is less than ours takes and can be true.

        IOS sends 17912, 17916 or 1514, figures of a virtual device, and others 0: then our own has to do.
        """
        least = MTU_LEAST_V4 if prefix.version == 4 else MTU_LEAST_V6
        return cie.mtu_octets if least <= cie.mtu_octets < self._core.settings.mtu_octets else None

    def _holding_time_s(self, answer: Answer) -> float:
        return float(answer.cie.holding_time_s or self._core.settings.holding_time_s)

    def _offered(self, shortcut: Shortcut, answer: Answer) -> Network:
        """The prefix of the answer, no wider than our own route, and without what better routes lead elsewhere."""
        destination = shortcut.destination
        whole = destination.max_prefixlen
        length = answer.cie.prefix_length
        if shortcut.next_hop_only or not 0 < length <= whole:
            return host_of(destination)
        route = self._core.rib.lookup(destination)
        if route is not None:
            length = max(length, route.prefix.prefixlen)
        return self._core.rib.narrow(host_of(destination, length), destination, lambda route: True)

    def _silent(self, shortcut: Shortcut) -> None:
        if shortcut.state is ShortcutState.UP:
            shortcut.refreshing = False  # the next use asks again, until the holding time is over
        elif self._core.first_hub() is None and not shortcut.up_once:
            self.endings.discard(shortcut)  # a hub's next indication starts anew
        else:
            self.endings.give_up(shortcut, WhyNot.NOT_AUTHORISED if shortcut.refused else WhyNot.NO_ANSWER)

    def _error(self, shortcut: Shortcut, code: int) -> None:
        if shortcut.state is ShortcutState.RESOLVING:
            self.endings.give_up(shortcut, WhyNot.UNREACHABLE if code == ErrorCode.UNREACHABLE else WhyNot.NO_ANSWER)

    # ------------------------------------------------------------ connecting, authorising, probing

    def _connect(self, shortcut: Shortcut) -> None:
        assert shortcut.nbma is not None
        shortcut.turn(ShortcutState.CONNECTING, self._core.now)
        self._core.log(Happening.SHORTCUT_CONNECTING, shortcut.destination, f"{shortcut.offered} via {shortcut.nbma}")
        self._arm_patience(shortcut, self._core.settings.security_wait_s)
        self._security.want(shortcut.nbma, shortcut.candidates, shortcut.user)
        if self._security.is_up(shortcut.nbma):
            self._authorise(shortcut)

    def security_up(self, nbma: Address) -> None:
        for shortcut in self.table.of_nbma(nbma):
            if shortcut.state is ShortcutState.CONNECTING:
                self._authorise(shortcut)
            elif shortcut.confirm:
                self._confirm(shortcut)
        self._reconsider(nbma)

    def _reconsider(self, nbma: Address) -> None:
        """The SA that never came up is there after all: the peer has asked for one from its side."""
        for shortcut in self.table:
            gave_up = shortcut.state is ShortcutState.NEGATIVE and shortcut.why in FOR_WANT_OF_A_PATH
            if gave_up and shortcut.peer == nbma:
                self.endings.discard(shortcut)
                self.want(shortcut.destination, next_hop_only=shortcut.next_hop_only)

    def _authorise(self, shortcut: Shortcut) -> None:
        assert shortcut.nbma is not None
        assert shortcut.gateway is not None
        shortcut.turn(ShortcutState.AUTHORISING, self._core.now)
        told = partial(self._told, shortcut, shortcut.nbma)
        self._authorisations.ask(shortcut.nbma, shortcut.gateway, shortcut.offered, told)

    def _told(self, shortcut: Shortcut, nbma: Address, refusal: str | None) -> None:
        if shortcut not in self.table or shortcut.state is not ShortcutState.AUTHORISING or shortcut.nbma != nbma:
            return  # overtaken by events
        if refusal is None:
            self._allowed(shortcut, nbma)
            return
        self.endings.leave_peer(shortcut)
        shortcut.refused.add(nbma)
        if len(shortcut.refused) >= REFUSED_LIMIT:
            self.endings.negative(shortcut, WhyNot.NOT_AUTHORISED)
            return
        # The true egress may still answer the same question.
        shortcut.turn(ShortcutState.RESOLVING, self._core.now, WhyNot.NOT_AUTHORISED)
        self._core.timers.disarm(("patience", shortcut.number))
        self._queries.resume(shortcut.destination)

    def _allowed(self, shortcut: Shortcut, nbma: Address) -> None:
        assert shortcut.gateway is not None
        prefix = shortcut.offered or host_of(shortcut.destination)
        other = self.table.get(prefix)
        if other is not None and other is not shortcut:
            if other.state in (ShortcutState.PROBING, ShortcutState.UP):
                other.wanted_until = shortcut.wanted_until
                self.endings.discard(shortcut)
                return
            self.endings.discard(other)
        self.table.move(shortcut, prefix)
        shortcut.authorised = True
        if not shortcut.ours:
            self._up(shortcut)
            return
        shortcut.turn(ShortcutState.PROBING, self._core.now)
        self._arm_patience(shortcut, PROBE_WAIT_S)
        self._paths.watch(nbma, shortcut.gateway, USER, self._core.settings.probe_interval_s)
        if self._paths.is_alive(nbma):
            self._up(shortcut)

    def nbma_of(self, gateway: Address) -> Address | None:
        """Whom the kernel has for this gateway, if a shortcut that is up bound it."""
        return self.endings.direct.nbma_of(gateway)

    def path_alive(self, nbma: Address) -> None:
        for shortcut in self.table.of_nbma(nbma, ShortcutState.PROBING):
            self._up(shortcut)

    def _arm_patience(self, shortcut: Shortcut, wait_s: float) -> None:
        self._core.timers.arm(("patience", shortcut.number), self._core.now + wait_s, partial(self._too_long, shortcut))

    def _too_long(self, shortcut: Shortcut) -> None:
        probed = shortcut.authorised and shortcut.state is ShortcutState.CONNECTING
        self.endings.give_up(shortcut, WhyNot.NO_PROBE_ANSWER if probed else WHY_TOO_LONG[shortcut.state])

    # ------------------------------------------------------------ up, refreshed, expired

    def _up(self, shortcut: Shortcut) -> None:
        assert shortcut.gateway is not None
        assert shortcut.nbma is not None
        self._queries.close(shortcut.destination)
        self._core.timers.disarm(("patience", shortcut.number))
        shortcut.turn(ShortcutState.UP, self._core.now)
        shortcut.up_once = True
        shortcut.used = False
        shortcut.refused.clear()
        shortcut.route = self._core.rib.covering(shortcut.prefix)
        shortcut.wanted_until = self._core.now + shortcut.holding_time_s
        self.endings.direct.install(shortcut, shortcut.gateway, shortcut.nbma)
        self._core.log(Happening.SHORTCUT_UP, shortcut.prefix, f"via {shortcut.gateway} at {shortcut.nbma}")
        self._hold(shortcut, shortcut.holding_time_s)

    def _hold(self, shortcut: Shortcut, remaining_s: float) -> None:
        shortcut.refreshing = False
        shortcut.expires = self._core.now + remaining_s
        shortcut.refresh_at = shortcut.expires - shortcut.holding_time_s * (1 - REFRESH_PART)
        refresh = max(shortcut.refresh_at, self._core.now)
        self._core.timers.arm(("hold", shortcut.number), refresh, partial(self._ageing, shortcut))

    def adopt(self, shortcut: Shortcut, remaining_s: float) -> None:
        """From before a restart: up at once, to be confirmed by probes and by its peer's claims."""
        assert shortcut.gateway is not None
        assert shortcut.nbma is not None
        shortcut.turn(ShortcutState.UP, self._core.now)
        shortcut.up_once = shortcut.authorised = shortcut.confirm = shortcut.used = True
        self.table.put(shortcut)
        self._security.adopt(shortcut.nbma, shortcut.user)
        if shortcut.ours:
            interval = self._core.settings.probe_interval_s
            self._paths.adopt(shortcut.nbma, shortcut.gateway, USER, interval)
        self.endings.direct.install(shortcut, shortcut.gateway, shortcut.nbma)
        self._hold(shortcut, remaining_s)

    def _confirm(self, shortcut: Shortcut) -> None:
        assert shortcut.nbma is not None
        assert shortcut.gateway is not None
        shortcut.confirm = False
        told = partial(self._confirmed, shortcut, shortcut.nbma)
        self._authorisations.ask(shortcut.nbma, shortcut.gateway, shortcut.prefix, told)

    def _confirmed(self, shortcut: Shortcut, nbma: Address, refusal: str | None) -> None:
        if refusal is not None and shortcut in self.table and shortcut.nbma == nbma:
            self.endings.withdraw([shortcut], WhyNot.NOT_AUTHORISED, "its peer may not have it")
            self.endings.negative(shortcut, WhyNot.NOT_AUTHORISED)

    def used(self, nbma: Address) -> None:
        for shortcut in self.table.of_nbma(nbma, ShortcutState.UP):
            shortcut.used = True
            shortcut.wanted_until = self._core.now + shortcut.holding_time_s
            if self._core.now >= shortcut.refresh_at and not shortcut.refreshing:
                self._refresh(shortcut)

    def _ageing(self, shortcut: Shortcut) -> None:
        expires = shortcut.expires or self._core.now
        self._core.timers.arm(("hold", shortcut.number), expires, partial(self._expire, shortcut))
        if shortcut.used and not shortcut.refreshing:
            self._refresh(shortcut)

    def _refresh(self, shortcut: Shortcut) -> None:
        shortcut.refreshing = True
        shortcut.used = False
        self._ask(shortcut)

    def _refreshed(self, shortcut: Shortcut, answer: Answer) -> None:
        """The same again holds it longer. Anything else is a new shortcut, made while packets take the hub."""
        same = (answer.nbma, answer.protocol) == (shortcut.nbma, shortcut.gateway)
        if answer.cie.code == CieCode.OK and same and self._offered(shortcut, answer) == shortcut.prefix:
            self._queries.close(shortcut.destination)
            mtu_octets = self._mtu_octets(shortcut.prefix, answer.cie)
            if mtu_octets != shortcut.mtu_octets:
                shortcut.mtu_octets = mtu_octets
                self.endings.direct.install(shortcut, answer.protocol, answer.nbma)
            shortcut.holding_time_s = self._holding_time_s(answer)
            self._hold(shortcut, shortcut.holding_time_s)
            return
        self.endings.withdraw([shortcut], WhyNot.ASKING, "the answer has changed")
        self._answered(shortcut, answer)

    def _expire(self, shortcut: Shortcut) -> None:
        self.endings.withdraw([shortcut], WhyNot.ASKING, "expired")
        self.endings.discard(shortcut)

    # ------------------------------------------------------------ lost

    def path_dead(self, nbma: Address) -> None:
        """Probes are not answered any more. The routes go before anything else."""
        self._lost(nbma, WhyNot.PATH_DEAD, "the direct path is dead")

    def security_down(self, nbma: Address) -> None:
        self._lost(nbma, WhyNot.NO_SECURITY, "the SA is gone")

    def _lost(self, nbma: Address, why: WhyNot, detail: str) -> None:
        up = self.table.of_nbma(nbma, ShortcutState.UP)
        self.endings.withdraw(up, why, detail)
        for shortcut in up:
            self.endings.give_up(shortcut, why)
        for shortcut in self.table.of_nbma(nbma, ShortcutState.AUTHORISING, ShortcutState.PROBING):
            # Still within its patience: the SA is asked for again meanwhile.
            shortcut.turn(ShortcutState.CONNECTING, self._core.now)
