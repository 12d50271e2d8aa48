"""Members of a cloud that the file alone vouches for, and the addresses by which they know each other."""

from collections.abc import Iterator

from dmvpn.network.model import Cloud, Network, Underlay
from dmvpn.network.places import Member, announced, members
from dmvpn.network.plan import Address, ForeignPeer, Role
from dmvpn.network.plan import Network as Prefix

IN_CLEAR = "none"  # crypto: none


def is_encrypted(cloud: Cloud) -> bool:
    return cloud.crypto != IN_CLEAR


def vouched_members(network: Network, name: str) -> Iterator[Member]:
    """Those without a certificate of ours: foreign routers, and everybody in a cloud that is in clear."""
    everybody = not is_encrypted(network.clouds[name])
    return (member for member in members(network, name) if everybody or not member.place.ours)


def foreign_peers(network: Network, member: Member) -> tuple[ForeignPeer, ...]:
    """All of them but this router, as it must know them."""
    cloud = network.clouds[member.cloud]
    others = (other for other in vouched_members(network, member.cloud) if other.place.name != member.place.name)
    return tuple(_foreign_peer(network, cloud, other) for other in others)


def vouched_prefixes(network: Network, member: Member) -> tuple[Prefix, ...]:
    """What it may announce; a hub: all that is internal."""
    return network.prefixes if member.tunnel.role is Role.HUB else announced(member.place)


def reachable_addresses(cloud: Cloud, member: Member) -> tuple[Address, ...]:
    """Where the Internet reaches this router for this cloud: public addresses, else its own, by preference."""
    version = 6 if cloud.underlay is Underlay.IPV6 else 4
    found: list[Address] = []
    for uplink in member.known_uplinks():
        own = (uplink.public,) if uplink.public is not None else tuple(given.ip for given in uplink.address)
        found += [address for address in own if address.version == version]
    return tuple(found)


def underlay_address(cloud: Cloud, member: Member) -> Address | None:
    """This router's own on its first fixed uplink of the cloud, as its packets carry it before any NAT."""
    version = 6 if cloud.underlay is Underlay.IPV6 else 4
    for uplink in member.known_uplinks():
        for given in uplink.address:
            if given.ip.version == version:
                return given.ip
    return None


def _foreign_peer(network: Network, cloud: Cloud, member: Member) -> ForeignPeer:
    place = member.place
    return ForeignPeer(
        router=place.name,
        identity=f"{place.name}.{network.domain}",
        nbma=next(iter(reachable_addresses(cloud, member)), None),
        overlay=member.tunnel.address,
        prefixes=vouched_prefixes(network, member),
        asn=place.site.asn or 0,
        role=member.tunnel.role,
    )
