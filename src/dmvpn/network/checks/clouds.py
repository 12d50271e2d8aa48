"""A cloud needs a hub that can be reached, and members that can talk to each other."""

from collections.abc import Iterator

from dmvpn.errors import Problem
from dmvpn.network.clouds import cloud_mtu_octets, crypto_profile, reachable_addresses
from dmvpn.network.model import Cloud, Network, PlaneChoice
from dmvpn.network.mtu import FLOOR_OCTETS, cipher_of
from dmvpn.network.places import Member, hubs, members, places
from dmvpn.network.plan import Address, Plane
from dmvpn.network.planes import chosen_plane

IPV4_FLOOR_OCTETS = 576  # what every IPv4 host must accept, RFC 791 3.2


def every_cloud_has_a_hub(network: Network) -> Iterator[Problem]:
    for name in network.clouds:
        everyone = list(members(network, name))
        if not everyone:
            yield Problem(("clouds", name), f"no router has a tunnel in cloud {name}", "add one, or remove the cloud")
        elif not any(hubs(network, name)):
            routers = ", ".join(member.place.name for member in everyone[:3])
            yield Problem(
                ("clouds", name), f"cloud {name} has no hub", f"write role: hub at one of its tunnels ({routers})"
            )


def hubs_are_reachable(network: Network) -> Iterator[Problem]:
    for name, cloud in network.clouds.items():
        for hub in hubs(network, name):
            if not hub.tunnel.over or all(uplink in hub.place.router.uplinks for uplink in hub.tunnel.over):
                yield from _reachable(name, cloud, hub, reachable_addresses(cloud, hub))


def _reachable(name: str, cloud: Cloud, hub: Member, reachable: tuple[Address, ...]) -> Iterator[Problem]:
    if not reachable and not hub.place.ours:
        what = f"hub {hub.place.name} has no fixed {cloud.underlay} address"
        yield Problem(hub.key, what, "write address: or public: at its uplink: it is a foreign hub's NBMA address")
    elif not reachable and cloud.hubs is None:
        what = f"nobody can reach hub {hub.place.name}: its uplinks have no fixed {cloud.underlay} address"
        fix = f"write address: or public: at an uplink, or hubs: with a DNS name at cloud {name}"
        yield Problem(hub.key, what, fix)
    elif reachable and all(address.is_private and not _documentation(address) for address in reachable):
        what = f"hub {hub.place.name} has only the private address {reachable[0]}"
        yield Problem(hub.key, what, "write public: at its uplink, unless the underlay is private too", warning=True)


def _documentation(address: Address) -> bool:
    """RFC 5737 and 3849: ipaddress calls these private, but examples use them as public ones."""
    return str(address).startswith(("192.0.2.", "198.51.100.", "203.0.113.", "2001:db8:"))


def foreign_members(network: Network) -> Iterator[Problem]:
    """A foreign router speaks ESP in transport mode, which the userspace plane cannot do."""
    for name, cloud in network.clouds.items():
        foreign = [member for member in members(network, name) if not member.place.ours]
        if foreign and cloud.plane is not PlaneChoice.KERNEL:
            first = foreign[0].place
            what = f"cloud {name} has a {first.router.platform} router ({first.name}) and plane {cloud.plane}"
            fix = "write plane: kernel: a foreign router needs ESP in transport mode, which userspace lacks"
            yield Problem(("clouds", name, "plane"), what, fix)


def one_plane_a_router(network: Network) -> Iterator[Problem]:
    """One charon serves all clouds of a router, and with kernel-libipsec all its ESP is in user space."""
    for place in places(network):
        forced: dict[PlaneChoice, str] = {}
        for name in place.router.tunnels:
            choice = network.clouds[name].plane if name in network.clouds else PlaneChoice.AUTO
            if choice is not PlaneChoice.AUTO:
                forced.setdefault(choice, name)
        if place.ours and len(forced) > 1:
            kernel, userspace = forced[PlaneChoice.KERNEL], forced[PlaneChoice.USERSPACE]
            what = f"{place.name} is in {kernel} (plane kernel) and in {userspace} (plane userspace)"
            yield Problem(
                (*place.key, "tunnels"), what, "a router has one plane: write the same, or auto, at both clouds"
            )


def gre_keys(network: Network) -> Iterator[Problem]:
    """Two tunnels of one router between the same addresses are told apart by the key only."""
    reported: set[str] = set()
    for place in places(network):
        seen: dict[int | None, str] = {}
        for name in place.router.tunnels:
            if name not in network.clouds:
                continue
            key = network.clouds[name].gre_key
            if key in seen and name not in reported:
                reported.add(name)
                has = "no GRE key" if key is None else f"GRE key {key}"
                what = f"{place.name} is in {seen[key]} and {name}, and both have {has}"
                yield Problem(("clouds", name, "gre-key"), what, "give each cloud its own gre-key")
            seen.setdefault(key, name)


def mtu_floor(network: Network) -> Iterator[Problem]:
    for name, cloud in network.clouds.items():
        floor = FLOOR_OCTETS if any(overlay.version == 6 for overlay in cloud.overlay) else IPV4_FLOOR_OCTETS
        try:
            cipher_of(crypto_profile(network, cloud).esp)
        except KeyError:
            continue
        for member in members(network, name):
            mtu = cloud_mtu_octets(network, member, chosen_plane(network, member.place.router, (Plane.USERSPACE,)))
            if mtu < floor:
                what = f"{mtu} octets are left inside GRE and ESP on the way of {member.place.name} in cloud {name}"
                need = f"the overlay needs {floor}"
                yield Problem(member.key, what, f"{need}: raise mtu: of its uplinks or underlay-mtu: of the cloud")


def nat_traversal(network: Network) -> Iterator[Problem]:
    for name, cloud in network.clouds.items():
        for member in members(network, name) if not cloud.nat_traversal else ():
            if any(uplink.public is not None for uplink in member.known_uplinks()):
                what = f"cloud {name} has nat-traversal: false, and {member.place.name} is behind NAT"
                yield Problem(("clouds", name, "nat-traversal"), what, "remove the line")


CHECKS = (
    every_cloud_has_a_hub,
    hubs_are_reachable,
    foreign_members,
    one_plane_a_router,
    gre_keys,
    mtu_floor,
    nat_traversal,
)
