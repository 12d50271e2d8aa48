"""Octets through the SAs, by peer."""

from ipaddress import IPv4Address, IPv6Address

from dmvpn.daemon.settings import Settings
from dmvpn.daemon.standing import standing_peers
from dmvpn.linux.vici_client import IkeSa

Address = IPv4Address | IPv6Address


def traffic_of(sas: tuple[IkeSa, ...], settings: Settings) -> dict[Address, tuple[int, int]]:
    """Octets out and in for each peer, over all its children."""
    found: dict[Address, tuple[int, int]] = {}
    for sa in sas:
        sent = sum(child.octets_out for child in sa.children)
        received = sum(child.octets_in for child in sa.children)
        for nbma in standing_peers(sa, settings.transport, settings.transport_range):
            before = found.get(nbma, (0, 0))
            found[nbma] = (before[0] + sent, before[1] + received)
    return found
