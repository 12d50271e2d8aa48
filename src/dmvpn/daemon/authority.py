"""Who may claim what: the claims of every peer with an SA, by its NBMA address."""

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from dmvpn.identity.claims import Claims, Role
from dmvpn.linux.link_local import link_locals_of

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network


NAMES_LIMIT = 20_000


class Authority:
    """Answers the engine's Authorise from the certificates that charon verified.

    A row exists only while an SA with the peer stands, so what is not here is nobody's. Whoever changes a row tells the
    engines that the SA is up or down: what they were answered before holds until then.
    """

    def __init__(self) -> None:
        self._claims: dict[Address, Claims] = {}
        self._names: dict[Address, str] = {}

    def learn(self, nbma: Address, claims: Claims) -> None:
        self._claims[nbma] = claims
        self._names.pop(nbma, None)
        self._names[nbma] = claims.router
        if len(self._names) > NAMES_LIMIT:
            del self._names[next(iter(self._names))]

    def forget(self, nbma: Address) -> None:
        self._claims.pop(nbma, None)

    def claims(self, nbma: Address) -> Claims | None:
        return self._claims.get(nbma)

    def name(self, nbma: Address) -> str:
        """The router's name, also of one whose SA is down: just then an operator wants to know who it was."""
        return self._names.get(nbma, "")

    def claims_overlay(self, address: Address) -> bool:
        """Whether it is the overlay address of a peer with an SA."""
        return any(address in claims.overlay for claims in self._claims.values())

    def ours(self, transport: Network, role: Role | None = None) -> tuple[Address, ...]:
        """One overlay address of every router of ours with an SA (of this role): where its dmvpnd answers."""
        return tuple(
            claims.overlay[0]
            for nbma, claims in self._claims.items()
            if nbma in transport and claims.overlay and role in (None, claims.role)
        )

    def refusal(self, nbma: Address, protocol: Address, prefix: Network | None) -> str:
        """Why the binding or prefix is refused; empty when it is allowed."""
        claims = self._claims.get(nbma)
        if claims is None:
            return f"no certificate is known for {nbma}"
        if refused := claims.permits_binding(protocol):
            return refused
        if prefix is not None:
            return claims.permits_prefix(prefix) or ""
        return ""

    def inner_sources(self, nbma: Address, link_local_in: Iterable[Network] = ()) -> tuple[Network, ...]:
        """What the data plane lets this sender put inside: nothing if it is unknown.

        `link_local_in`: with its addresses in these overlays go link-local ones, which routing protocols speak from.
        """
        claims = self._claims.get(nbma)
        return (*claims.inner_sources(), *link_locals_of(claims.overlay, link_local_in)) if claims else ()

    def is_in(self, nbma: Address, overlay: Iterable[Network]) -> bool:
        """Whether the peer behind this NBMA address has an SA and an address in this overlay."""
        claims = self._claims.get(nbma)
        return claims is not None and _has_address_in(claims, tuple(overlay))

    def peers_in(self, overlay: Iterable[Network]) -> tuple[Address, ...]:
        """NBMA addresses of the peers that have an address in this overlay."""
        ranges = tuple(overlay)
        return tuple(nbma for nbma, claims in self._claims.items() if _has_address_in(claims, ranges))

    def hubs_in(self, overlay: Iterable[Network]) -> tuple[Address, ...]:
        """Those of them that are hubs: whom a spoke sends multicast, or routing protocols would meet over shortcuts."""
        return tuple(nbma for nbma in self.peers_in(overlay) if self._claims[nbma].role is Role.HUB)


def _has_address_in(claims: Claims, ranges: tuple[Network, ...]) -> bool:
    return any(one in net for one in claims.overlay for net in ranges if one.version == net.version)
