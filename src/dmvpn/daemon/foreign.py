"""Routers of other vendors: no certificate of ours says who they are, so the network file does."""

from ipaddress import IPv4Address, IPv6Address

from dmvpn.daemon.settings import CloudSettings, ForeignSettings, Settings
from dmvpn.identity.claims import Claims, Role

Address = IPv4Address | IPv6Address


class Foreign:
    """Those of all encrypted clouds, by their IKE identity. A router in several clouds has the claims of all."""

    def __init__(self, settings: Settings) -> None:
        self._network = settings.network
        self._rows: dict[str, list[ForeignSettings]] = {}
        self._identities: dict[Address, str] = {}
        for cloud in settings.clouds:
            for row in cloud.foreign if cloud.encrypted else ():
                self._rows.setdefault(row.identity, []).append(row)
                if row.nbma is not None:
                    self._identities[row.nbma] = row.identity

    def claims(self, identity: str, nbma: Address) -> Claims | None:
        """What the router with this identity may claim, now that it is at `nbma`; None for one not in the file."""
        rows = self._rows.get(identity)
        return None if rows is None else claims_of(self._network, nbma, rows)

    def identity(self, nbma: Address) -> str | None:
        """Who is at a fixed address; None if the file does not say."""
        return self._identities.get(nbma)


def claims_of(network: str, nbma: Address, rows: list[ForeignSettings]) -> Claims:
    """One router's rows of the file as a certificate would say it. Raises WrongInput for more than fits in one."""
    return Claims(
        network=network,
        router=rows[0].router,
        role=Role(rows[0].role),
        transport=nbma,
        overlay=tuple(dict.fromkeys(address for row in rows for address in row.overlay)),
        prefixes=tuple(dict.fromkeys(prefix for row in rows for prefix in row.prefixes)),
        asn=rows[0].asn,
    )


def members_in_clear(cloud: CloudSettings, network: str) -> dict[Address, Claims]:
    """Of a cloud without IPsec: an address is admitted because the file lists it."""
    return {row.nbma: claims_of(network, row.nbma, [row]) for row in cloud.foreign if row.nbma is not None}
