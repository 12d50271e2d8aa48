"""Who is behind an address, as far as it is known here."""

import asyncio
from collections.abc import Mapping
from ipaddress import IPv4Address, IPv6Address

from dmvpn.daemon.authority import Authority
from dmvpn.daemon.cloud import Cloud
from dmvpn.daemon.settings import Settings

Address = IPv4Address | IPv6Address


class Names:
    """`clouds` is filled as they open."""

    def __init__(self, settings: Settings, authority: Authority, clouds: Mapping[str, Cloud]) -> None:
        self._settings = settings
        self._authority = authority
        self._clouds = clouds
        self._loop = asyncio.get_running_loop()

    def of_overlay(self, overlay: Address) -> str:
        """The name of the router with this overlay address, as far as it is known here."""
        for cloud in self._settings.clouds:
            for hub in cloud.hubs:
                if overlay in hub.overlay:
                    return hub.router
        for one in self._clouds.values():
            for row in one.engine.view(self._loop.time()).bindings:
                if row.protocol == overlay and row.nbma is not None:
                    return self._authority.name(row.nbma)
        return ""

    def of_nbma(self, nbma: Address) -> str:
        """The name of the router behind this NBMA address, as far as it is known here."""
        if nbma == self._settings.transport or any(nbma == cloud.underlay_address for cloud in self._settings.clouds):
            return self._settings.router
        for cloud in self._settings.clouds:
            for hub in cloud.hubs:
                if hub.nbma == nbma:
                    return hub.router
            for member in cloud.foreign:
                if member.nbma == nbma:
                    return member.router
        return self._authority.name(nbma)

    def overlay_of_nbma(self, nbma: Address) -> tuple[Address, ...]:
        """The overlay addresses of the router behind this NBMA address, likewise."""
        own = [
            cloud.addresses
            for cloud in self._settings.clouds
            if nbma in (self._settings.transport, cloud.underlay_address)
        ]
        known = [hub.overlay for cloud in self._settings.clouds for hub in cloud.hubs if hub.nbma == nbma]
        claims = self._authority.claims(nbma)
        return tuple(address for group in (*own, *known, claims.overlay if claims else ()) for address in group)
