"""The machines of one engine, joined: who tells whom that an SA, a path or a prefix came or went."""

from dmvpn.nhrp.authorisation import Authorisations
from dmvpn.nhrp.core import Core
from dmvpn.nhrp.events import Address, Endpoint, Network
from dmvpn.nhrp.indications import Indications
from dmvpn.nhrp.invalidation import Invalidation
from dmvpn.nhrp.liveness import Paths
from dmvpn.nhrp.next_hops import NextHops
from dmvpn.nhrp.purges import Answered, Purges
from dmvpn.nhrp.queries import Queries
from dmvpn.nhrp.registration_client import RegistrationClient
from dmvpn.nhrp.registration_server import RegistrationServer
from dmvpn.nhrp.requesters import Requesters
from dmvpn.nhrp.resolution import Resolution
from dmvpn.nhrp.security import Security
from dmvpn.nhrp.shortcuts import Shortcuts
from dmvpn.nhrp.transit import Transit


class Machines:
    def __init__(self, core: Core) -> None:
        self._core = core
        self.security = Security(core)
        self.authorisations = Authorisations(core)
        self.paths = Paths(core, self._path_alive, self._path_dead, self._path_answer)
        self.queries = Queries(core)
        self.transit = Transit(core, self.security, self.authorisations)
        answered = Answered(core)
        self.purges = Purges(core, self.security, self.authorisations, self.transit, answered, self._purged)
        self.client = RegistrationClient(core, self.security, self.paths, self.purges)
        self.server = RegistrationServer(core, self.security, self.authorisations, self.transit, self.purges)
        self.requesters = Requesters(core, self.security, self.authorisations)
        self.resolution = Resolution(core, self.security, self.authorisations, self.requesters, self.transit, answered)
        self.shortcuts = Shortcuts(core, self.security, self.paths, self.authorisations, self.queries)
        self.invalidation = Invalidation(core, self.shortcuts.endings)
        self.indications = Indications(core, self._wanted)
        self.next_hops = NextHops(core, self.shortcuts)

    def security_up(self, nbma: Address, observed: Endpoint | None) -> None:
        self.security.security_up(nbma, observed)
        self.client.security_up(nbma)
        self.server.security_up(nbma)
        self.paths.security_up(nbma)
        self.requesters.security_up(nbma)
        self.shortcuts.security_up(nbma)

    def security_down(self, nbma: Address, reason: str) -> None:
        """Routes first, then what hangs on them."""
        self.security.security_down(nbma)
        self.authorisations.security_down(nbma)
        self.paths.security_down(nbma)
        self.shortcuts.security_down(nbma)
        self.shortcuts.endings.direct.relay_lost(nbma)
        self.client.security_down(nbma, reason)
        self.server.security_down(nbma)
        self.requesters.security_down(nbma)

    def own_endpoints(self, private: tuple[Endpoint, ...]) -> None:
        """Where peers find us: hubs are told of a change at once, and tell others."""
        if private != self._core.private:
            self._core.private = private
            self.client.renew()

    def forget(self, prefix: Network | None) -> None:
        self.invalidation.forget(prefix)
        self.server.forget(prefix)
        self.requesters.forget(prefix)
        self.indications.limiter.forget(prefix)

    def _wanted(self, destination: Address) -> None:
        self.shortcuts.want(destination, next_hop_only=False)

    def _path_alive(self, nbma: Address) -> None:
        self.shortcuts.path_alive(nbma)

    def _path_dead(self, nbma: Address) -> None:
        self.shortcuts.path_dead(nbma)
        self.client.path_dead(nbma)
        if self.security.is_wanted(nbma):
            self.security.restart(nbma)

    def _path_answer(self, nbma: Address, code: int) -> None:
        self.client.path_answer(nbma, code)

    def _purged(self, network: Network, owner: Address) -> None:
        self.server.purged(network, owner)
        self.requesters.purged(network, owner)
        self.invalidation.purged(network, owner)
        self.indications.limiter.forget(network)
