"""All that has to do with certificates on one router: its own, those of peers, who renews, and who is revoked."""

import asyncio
from collections.abc import Callable, Collection, Iterable
from ipaddress import IPv4Address, IPv6Address, ip_network
from typing import Any

from cryptography import x509

from dmvpn.daemon.cloud import Cloud
from dmvpn.daemon.control import OVERLAY_PORT
from dmvpn.daemon.ike import Ike
from dmvpn.daemon.papers import Papers
from dmvpn.daemon.renewals import Renewals
from dmvpn.daemon.renewing import Renewing
from dmvpn.daemon.revoking import Revoking
from dmvpn.daemon.settings import Settings
from dmvpn.daemon.vouching import Vouching
from dmvpn.identity.claims import Claims
from dmvpn.nhrp.events import Forget

Address = IPv4Address | IPv6Address
MEET_WAIT_S = 1.0  # after an SA came up: by then its far end answers through the overlay


class Credentials:
    """`vouching` is there from the beginning; the rest once charon's side is (`serve`)."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.papers = Papers(settings.paths.pki)
        self.papers.mend()
        self.vouching = Vouching(self.papers)
        self.renewals = Renewals(self.papers, settings.paths.state)
        self._meet_ourselves()

    def serve(
        self,
        ike: Ike,
        peers: Callable[[], Iterable[Address]],
        hubs: Callable[[], Iterable[Address]],
        listed: Callable[[Collection[str]], None],
    ) -> None:
        """`peers` and `hubs` are overlay addresses of those with an SA; `listed` hears whom a new list names."""
        self._ike = ike
        self.revoking = Revoking(self.vouching, ike, self.renewals, peers, OVERLAY_PORT, listed)
        self.renewing = Renewing(self.vouching, ike, self.renewals, hubs, self._own_address, OVERLAY_PORT)

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.renewing.run())
            group.create_task(self.revoking.run())

    def met(self, overlay: Iterable[Address]) -> None:
        """A router is admitted; one of its addresses answers."""
        first = next(iter(overlay), None)
        if first is not None:
            self.revoking.met(first, after_s=MEET_WAIT_S)
        self.renewing.hub_is_up()

    async def changed(self) -> None:
        """Papers on disk were changed by somebody else. Raises Fault if charon does not take them."""
        self._meet_ourselves()
        await self.revoking.changed()
        await self._ike.install(None)

    def answer(self, question: dict[str, Any], source: str) -> dict[str, str] | None:
        """What another router asks of this; None for what is none of our questions. Raises Fault."""
        match question["ask"]:
            case "revoked":
                return self.revoking.answer(question)
            case "revocations":
                return self.revoking.told(question, source)
            case "renew":
                return self.renewing.answer(question, source)
            case _:
                return None

    def _meet_ourselves(self) -> None:
        own = self.renewals.certificate()
        if own is not None:
            self.vouching.take_renewer(x509.load_der_x509_certificate(own))

    def _own_address(self) -> str:
        return next((str(one) for cloud in self._settings.clouds for one in cloud.addresses), "")


def forget_router(clouds: Iterable[Cloud], claims: Claims) -> None:
    """A revoked router will not be back: what it registered goes with its SA, and what others were told of it."""
    for cloud in clouds:
        for address in claims.overlay:
            if any(address in net for net in cloud.settings.overlay if net.version == address.version):
                cloud.feed(Forget(ip_network(address)))
