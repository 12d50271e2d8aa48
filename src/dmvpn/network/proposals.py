"""What a new site gets when nobody says otherwise: the next free prefix, ASN, addresses and names, by rule.

The next free one is the first after the highest in use; where nothing is left above, the first gap.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Network
from itertools import chain, islice
from typing import Any

from dmvpn.errors import WrongInput
from dmvpn.firewall.prefixes import within
from dmvpn.network.model import Network
from dmvpn.network.places import members, overlapping, places
from dmvpn.network.plan import Address, Interface, Role
from dmvpn.network.plan import Network as Prefix
from dmvpn.network.transport import derived, transport_address

FIRST_ASN = 4_200_000_001  # RFC 6996, after the hub's of a first file
LAST_SHORT_ASN = 65534
FIRST_SPOKE = 11  # the addresses below are the hubs'
LAN_LENGTH = 24
UPLINK_LENGTH = 30
TRIES = 100_000
# RFC 5737: what books and examples use. A network that has such uplinks is still an example.
EXAMPLES = (IPv4Network("192.0.2.0/24"), IPv4Network("198.51.100.0/24"), IPv4Network("203.0.113.0/24"))
EXAMPLES_6 = IPv6Network("2001:db8::/32")  # RFC 3849


@dataclass(frozen=True, slots=True)
class Wanted:
    """What somebody said of a new site; None: by rule."""

    name: str
    router: str | None = None
    asn: int | None = None
    prefix: Prefix | None = None
    lan_port: str = "eth1"
    port: str = "eth0"
    address: Interface | None = None
    gateway: Address | None = None
    dhcp: bool = False
    clouds: tuple[str, ...] = ()
    role: Role = Role.SPOKE


def new_site(network: Network, wanted: Wanted) -> dict[str, Any]:
    """The site as values of the file. Raises WrongInput for a name that is taken and where nothing is free."""
    if wanted.name in network.sites:
        raise WrongInput(wanted.name, "there is a site of that name", "choose another one")
    router = wanted.router or free_router(network, wanted.name)
    clouds = wanted.clouds or tuple(network.clouds)
    unknown = [cloud for cloud in clouds if cloud not in network.clouds]
    if unknown:
        raise WrongInput(unknown[0], "there is no such cloud", f"the file has {', '.join(network.clouds)}")
    tunnels = {}
    for number, cloud in enumerate(clouds):
        addresses = free_overlay(network, cloud, wanted.role, derives_transport=number == 0)
        role = {"role": "hub"} if wanted.role is Role.HUB else {}
        tunnels[cloud] = {**role, "address": [str(address) for address in addresses]}
    prefix = wanted.prefix or free_prefix(network)
    return {
        "asn": wanted.asn or free_asn(network),
        "networks": {"lan": {"port": wanted.lan_port, "prefix": str(prefix)}},
        "routers": {router: {"uplinks": {"isp1": _uplink(network, wanted)}, "tunnels": tunnels}},
    }


def _uplink(network: Network, wanted: Wanted) -> dict[str, Any]:
    address, gateway = wanted.address, wanted.gateway
    if address is None and not wanted.dhcp and is_example(network):
        address, gateway = free_uplink(network)
    if address is None:
        return {"port": wanted.port, "dhcp": True}
    first = next(host for host in address.network.hosts() if host != address.ip)
    return {"port": wanted.port, "address": [str(address)], "gateway": [str(gateway or first)]}


def is_documentation(address: Address) -> bool:
    """ipaddress calls these private, but examples use them as public ones."""
    return any(address in net for net in (*EXAMPLES, EXAMPLES_6))


def free_asn(network: Network) -> int:
    """One more than the highest; the private range of RFC 6996 is where they begin."""
    found = max((site.asn for site in network.sites.values() if site.asn is not None), default=FIRST_ASN - 1)
    return FIRST_ASN if found == LAST_SHORT_ASN else found + 1


def free_router(network: Network, site: str) -> str:
    """Three letters of the site and a number: paris has par1."""
    stem = re.sub(r"[^a-z]", "", site)[:3] or "r"
    taken = {place.name for place in places(network)}
    return next(f"{stem}{number}" for number in range(1, TRIES) if f"{stem}{number}" not in taken)


def free_prefix(network: Network) -> Prefix:
    """After the highest network of a site, as long as that one. Raises WrongInput if `prefixes` has no room."""
    nets = [prefix for site in network.sites.values() for net in site.networks.values() for prefix in net.prefix]
    own = [prefix for prefix in nets if isinstance(prefix, IPv4Network)]
    highest = max(own, key=lambda prefix: int(prefix.network_address), default=None)
    length = highest.prefixlen if highest is not None else LAN_LENGTH
    taken = [*nets, network.transport, *(overlay for cloud in network.clouds.values() for overlay in cloud.overlay)]
    if network.road_warriors is not None:
        taken.append(network.road_warriors.pool)
    for internal in (prefix for prefix in network.prefixes if isinstance(prefix, IPv4Network)):
        if internal.prefixlen > length:
            continue
        for candidate in islice(_subnets(internal, length, highest), TRIES):
            if not any(overlapping(candidate, used) for used in taken):
                return candidate
    raise WrongInput("prefixes", f"no /{length} is free in it", "add a prefix, or say --prefix")


def _subnets(internal: IPv4Network, length: int, highest: IPv4Network | None) -> Iterator[IPv4Network]:
    step, last = 1 << (32 - length), int(internal.broadcast_address)
    start = int(internal.network_address)
    after = start
    if highest is not None and within(highest, internal):
        after = int(highest.network_address) + step
    for value in chain(range(after, last + 1, step), range(start, after, step)):
        yield IPv4Network((value, length))


def free_overlay(network: Network, cloud: str, role: Role, *, derives_transport: bool) -> tuple[Address, ...]:
    """A tunnel address of each family; hubs' begin at .1, spokes' at .11. Raises WrongInput where none is left."""
    found = []
    for overlay in network.clouds[cloud].overlay:
        taken = _taken(network, cloud)
        transports = {transport_address(network, place) for place in places(network) if place.ours}
        # What the first tunnel address gives must be nobody's either.
        clash = transports if derives_transport and overlay.version == 4 else set()
        low = 1 if role is Role.HUB else FIRST_SPOKE if overlay.num_addresses > 2 * FIRST_SPOKE else 1
        for candidate in islice(_hosts(overlay, low, taken if role is Role.SPOKE else ()), TRIES):
            if candidate not in taken and derived(network.transport, candidate) not in clash:
                found.append(candidate)
                break
        else:
            raise WrongInput(f"clouds.{cloud}.overlay", f"no address of {overlay} is free", "make a second cloud")
    return tuple(found)


def _taken(network: Network, cloud: str) -> set[Address]:
    return {address for member in members(network, cloud) for address in member.tunnel.address}


def _hosts(overlay: Prefix, low: int, taken: Iterable[Address]) -> Iterator[Address]:
    """From one after the highest taken, then from the bottom."""
    start = int(overlay.network_address)
    last = int(overlay.broadcast_address) - 1
    inside = [int(address) for address in taken if address in overlay]
    after = max((value + 1 for value in inside), default=start + low)
    after = max(after, start + low)
    make = IPv4Address if overlay.version == 4 else IPv6Address
    return (make(value) for value in chain(range(after, last + 1), range(start + 1, min(after, last + 1))))


def is_example(network: Network) -> bool:
    """Whether every fixed uplink has an address of the documentation ranges."""
    known = [given.ip for place in places(network) for up in place.router.uplinks.values() for given in up.address]
    return bool(known) and all(any(address in example for example in EXAMPLES) for address in known)


def free_uplink(network: Network) -> tuple[Interface, Address]:
    """An example's next /30: the router has the second address, the ISP the first. Raises WrongInput."""
    used = [
        given.network
        for place in places(network)
        for uplink in place.router.uplinks.values()
        for given in uplink.address
    ]
    for example in (EXAMPLES[1], EXAMPLES[2], EXAMPLES[0]):
        for subnet in example.subnets(new_prefix=UPLINK_LENGTH):
            if not any(overlapping(subnet, other) for other in used):
                return IPv4Interface((int(subnet[2]), UPLINK_LENGTH)), subnet[1]
    raise WrongInput("uplinks", "no example address is left", "say --address and --gateway, or --dhcp")
