"""Whom an SA carries GRE to, by the selectors that charon lists."""

from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

from dmvpn.linux.vici_client import ChildSa, IkeSa, Mode

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

STANDING = frozenset({"INSTALLED", "REKEYING", "REKEYED", "UPDATING"})
ALIVE = frozenset({"ESTABLISHED", "REKEYING"})


def standing_peers(sa: IkeSa, own: Address, transport: Network | None) -> set[Address]:
    """NBMA addresses that this IKE SA's children carry GRE to.

    Those in `transport` are named by certificates of ours, in tunnel mode from `own`. Anybody may send IKE from such an
    address in transport mode: that is no SA with the router whose transport address it is.
    """
    return {peer for child in _carrying(sa) for peer in _peers(child) if not _is_false(child, peer, own, transport)}


def has_false_ends(sa: IkeSa, own: Address, transport: Network | None) -> bool:
    """Whether a child carries GRE to a transport address otherwise than our own routers do."""
    return any(_is_false(child, peer, own, transport) for child in _carrying(sa) for peer in _peers(child))


def _carrying(sa: IkeSa) -> list[ChildSa]:
    return [child for child in sa.children if child.state in STANDING] if sa.state in ALIVE else []


def _peers(child: ChildSa) -> set[Address]:
    return {host for selector in child.remote_ts for host in _host(selector)}


def _is_false(child: ChildSa, peer: Address, own: Address, transport: Network | None) -> bool:
    if transport is None or peer not in transport:
        return False
    ours = bool(child.local_ts) and all(_host(selector) == {own} for selector in child.local_ts)
    return not ours or child.mode.lower() not in ("", Mode.TUNNEL)


@lru_cache(maxsize=8192)
def _host(selector: str) -> frozenset[Address]:
    """The address of a host selector such as 100.64.0.12/32[gre]; nothing for a wider one."""
    network, _, _ = selector.partition("[")
    address, _, length = network.partition("/")
    try:
        host = ip_address(address)
    except ValueError:
        return frozenset()
    return frozenset((host,) if length in ("", str(host.max_prefixlen)) else ())
