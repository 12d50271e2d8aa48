"""A hub's BGP neighbours among its spokes: one for each router that is vouched for, with its AS and its own filter.

No listen range: bgpd knows nobody whose certificate (or the network file) has not said what it may be and announce, so
an unknown router's connection is closed before its OPEN is read.
"""

from collections.abc import Iterator

from dmvpn.firewall.prefixes import common
from dmvpn.network.plan import Address, Bgp, Cloud, Role
from dmvpn.render import bfd, frr_choice
from dmvpn.render.learned import Learned, Spoke
from dmvpn.render.words import word

# A spoke announces a handful; one that sends more is broken or hostile, and its session ends for that many minutes.
PREFIX_LIMIT = 1000
PREFIX_PAUSE_MIN = 5


def group(cloud: Cloud) -> str:
    return f"{word(cloud.name, 'cloud')}-spokes"


def filter_name(cloud: Cloud, address: Address) -> str:
    """Of what is taken from one neighbour."""
    return f"{word(cloud.name, 'cloud')}-from-{address}"


def neighbours(cloud: Cloud, bgp: Bgp, learned: Learned) -> tuple[tuple[Address, Spoke], ...]:
    """Whom bgpd speaks with, by address: those the file vouches for, then those with a certificate.

    What is not a spoke's to have is nobody's: an address outside the overlay, ours, a hub's, or one that somebody
    before it has.
    """
    taken = {*cloud.addresses, *(address for hub in cloud.hubs for address in hub.overlay)}
    vouched = tuple(
        Spoke(peer.router, peer.overlay, peer.asn, peer.prefixes)
        for peer in cloud.foreign
        if peer.role is Role.SPOKE and peer.asn
    )
    found: dict[Address, Spoke] = {}
    for spoke in (*vouched, *learned.get(cloud.name, ())):
        for address in spoke.overlay:
            inside = any(address in overlay for overlay in bgp.listen if overlay.version == address.version)
            # Of our own AS it would be an internal neighbour, whose word counts for more.
            if inside and address not in taken and address not in found and spoke.asn not in (0, bgp.asn):
                found[address] = spoke
    return tuple(sorted(found.items(), key=lambda row: (row[0].version, int(row[0]))))


def filters(cloud: Cloud, bgp: Bgp, learned: Learned) -> Iterator[tuple[str, list[str]]]:
    """Each neighbour's prefix list: the kind and name, and the entries before the deny that ends it."""
    for address, spoke in neighbours(cloud, bgp, learned):
        version = address.version
        longest, kind = (32, "ip") if version == 4 else (128, "ipv6")
        refuse = [f"deny {prefix} le {longest}" for prefix in bgp.refuse if prefix.version == version]
        # What the hub itself originates is nobody else's to announce, though longer prefixes are.
        own = [f"deny {prefix}" for prefix in bgp.announce if prefix.version == version]
        claimed = [prefix for prefix in common(spoke.prefixes, bgp.accept) or () if prefix.version == version]
        allowed = [f"permit {prefix} le {longest}" for prefix in claimed]
        yield f"{kind} prefix-list {filter_name(cloud, address)}", [*refuse, *own, *allowed]


def group_lines(cloud: Cloud, bgp: Bgp, learned: Learned) -> Iterator[str]:
    """The group has what all have in common; a spoke calls, so that nothing is sent to one that is away."""
    name = group(cloud)
    yield f" neighbor {name} peer-group"
    yield f" neighbor {name} timers {bgp.keepalive_s} {bgp.hold_s}"
    yield f" neighbor {name} passive"
    yield from bfd.callers(cloud, name)
    for address, spoke in neighbours(cloud, bgp, learned):
        yield f" neighbor {address} remote-as {spoke.asn}"
        yield f" neighbor {address} peer-group {name}"
        yield f" neighbor {address} description {word(spoke.router, 'router')}"


def family_lines(version: int, cloud: Cloud, bgp: Bgp, learned: Learned) -> Iterator[str]:
    """The filters of the neighbours. The group's own lets nothing in: who lost its own is heard by nobody."""
    cloud_name = word(cloud.name, "cloud")
    name = group(cloud)
    yield f"  neighbor {name} activate"
    yield f"  neighbor {name} prefix-list {cloud_name}-from-nobody in"
    yield f"  neighbor {name} prefix-list {cloud_name}-to-spokes out"
    yield from frr_choice.from_peers(cloud, f"  neighbor {name}")
    yield from frr_choice.to_peers(cloud, f"  neighbor {name}")
    yield f"  neighbor {name} maximum-prefix {PREFIX_LIMIT} restart {PREFIX_PAUSE_MIN}"
    for address, _ in neighbours(cloud, bgp, learned):
        if address.version == version:
            yield f"  neighbor {address} prefix-list {filter_name(cloud, address)} in"
