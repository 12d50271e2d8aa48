"""A cloud needs a hub that can be reached, and members that can talk to each other."""

from collections.abc import Iterator

from dmvpn.errors import Problem
from dmvpn.network.clouds import cloud_mtu_octets, crypto_profile
from dmvpn.network.model import Cloud, Network, PlaneChoice
from dmvpn.network.mtu import FLOOR_OCTETS, cipher_of
from dmvpn.network.places import Member, Place, hubs, members, places
from dmvpn.network.plan import Address, Plane, Role
from dmvpn.network.planes import chosen_plane, forced_plane
from dmvpn.network.proposals import is_documentation
from dmvpn.network.source import Key
from dmvpn.network.vouched import is_encrypted, reachable_addresses

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
    elif reachable and all(address.is_private and not is_documentation(address) for address in reachable):
        what = f"hub {hub.place.name} has only the private address {reachable[0]}"
        yield Problem(hub.key, what, "write public: at its uplink, unless the underlay is private too", warning=True)


def foreign_members(network: Network) -> Iterator[Problem]:
    """A foreign router speaks ESP in transport mode, which the userspace plane cannot do: whoever it needs must not be
    on it. Two spokes need each other for nothing but the direct path.
    """
    for name, cloud in network.clouds.items():
        foreign = [member for member in members(network, name) if not member.place.ours]
        for member in members(network, name) if is_encrypted(cloud) else ():
            first = next((peer for peer in foreign if Role.HUB in (member.tunnel.role, peer.tunnel.role)), None)
            if first is None or not member.place.ours:
                continue
            if forced_plane(network, member.place.router) is Plane.USERSPACE:
                peer = first.place
                what = f"{member.place.name} is on plane userspace, and cloud {name} has a {peer.router.platform}"
                fix = "write plane: kernel: a foreign router needs ESP in transport mode, which userspace lacks"
                yield Problem(_plane_key(member), f"{what} {first.tunnel.role} ({peer.name})", fix)


def _plane_key(member: Member) -> Key:
    """Where the member's plane is written: at the router, or else at the cloud."""
    named = member.place.router.plane is not None
    return (*member.place.key, "plane") if named else ("clouds", member.cloud, "plane")


def clouds_in_clear(network: Network) -> Iterator[Problem]:
    """Without certificates a router is known by its address, and GRE is the kernel's."""
    for name, cloud in network.clouds.items():
        if is_encrypted(cloud):
            continue
        what = f"everything in cloud {name} travels in clear"
        fix = "name a crypto profile, unless nobody else can reach the underlay"
        yield Problem(("clouds", name, "crypto"), what, fix, warning=True)
        for member in members(network, name):
            yield from _in_clear(network, cloud, member)


def _in_clear(network: Network, cloud: Cloud, member: Member) -> Iterator[Problem]:
    router, name = member.place.name, member.cloud
    if member.place.ours and forced_plane(network, member.place.router) is Plane.USERSPACE:
        what = f"{router} is on plane userspace, and cloud {name} has crypto: none"
        yield Problem(_plane_key(member), what, "write plane: kernel: the userspace plane has no GRE without ESP")
    if not reachable_addresses(cloud, member):
        what = f"{router} has no fixed {cloud.underlay} address, and cloud {name} has crypto: none"
        yield Problem(member.key, what, "write address: at its uplink: without certificates the address is its name")
    elif any(uplink.public is not None for uplink in member.known_uplinks()):
        what = f"{router} is behind NAT, and cloud {name} has crypto: none"
        yield Problem(member.key, what, "use another uplink, or a crypto profile: GRE does not pass NAT")
    uplinks = set(member.over)
    for other in _with_foreign(network, member.place):
        if member.place.ours and uplinks & set(Member(member.place, other, member.place.router.tunnels[other]).over):
            what = f"{router} is in {name} (crypto: none) and in {other} (foreign routers) over the same uplink"
            taken = f"{what}, where IPsec takes all GRE for {other}"
            yield Problem(member.key, taken, "write over: at both tunnels, with no uplink in common")


def _with_foreign(network: Network, place: Place) -> Iterator[str]:
    """The encrypted clouds of a router in which charon's trap policy takes all GRE of the uplink's address."""
    for name in place.router.tunnels:
        cloud = network.clouds.get(name)
        if cloud is not None and is_encrypted(cloud) and any(not one.place.ours for one in members(network, name)):
            yield name


def one_plane_a_router(network: Network) -> Iterator[Problem]:
    """One charon serves all clouds of a router, and with kernel-libipsec all its ESP is in user space."""
    for place in places(network):
        forced: dict[PlaneChoice, str] = {}
        for name in place.router.tunnels:
            # What stands at the router is for all its clouds.
            at_cloud = network.clouds[name].plane if name in network.clouds else PlaneChoice.AUTO
            choice = place.router.plane or at_cloud
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


def kernel_needs_a_key(network: Network) -> Iterator[Problem]:
    """The kernel's own gre0 has no key and no addresses, and a second device like it cannot be made."""
    for name, cloud in network.clouds.items():
        for member in members(network, name) if cloud.gre_key is None else ():
            if member.place.ours and forced_plane(network, member.place.router) is Plane.KERNEL:
                what = f"{member.place.name} is on plane kernel, and cloud {name} has no GRE key"
                yield Problem(("clouds", name), what, "write gre-key: at the cloud: the kernel has a gre0 without one")
                break


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
    clouds_in_clear,
    one_plane_a_router,
    gre_keys,
    kernel_needs_a_key,
    mtu_floor,
    nat_traversal,
)
