"""Ports, uplinks and device names of a router."""

from collections.abc import Iterator, Sequence

from dmvpn.errors import Problem
from dmvpn.network.checks.addresses import not_a_host
from dmvpn.network.model import Network, Uplink
from dmvpn.network.places import Place, places
from dmvpn.network.plan import Address, Interface
from dmvpn.network.ports import lan_device, uplink_device
from dmvpn.network.registry import DEVICE_OCTETS, device_name
from dmvpn.network.source import Key

RESERVED = (
    "lo",
    *(f"ipsec{number}" for number in range(8)),
    "gre0",
    "gretap0",
    "erspan0",
)  # the kernel's and charon's own


def uplink_shape(network: Network) -> Iterator[Problem]:
    for place, name, uplink, key in _uplinks(network):
        mine, theirs = ("port", "interface") if place.ours else ("interface", "port")
        given = {"port": uplink.port, "interface": uplink.interface}
        if given[mine] is None:
            yield Problem(key, f"uplink {name} has no {mine}", f"a {place.router.platform} router needs {mine}:")
        if given[theirs] is not None:
            fix = f"write {mine}: instead of {theirs}:, as a {place.router.platform} router needs"
            yield Problem((*key, theirs), f"uplink {name} has {theirs}", fix)
        ways = [way for way in ("address", "dhcp", "pppoe") if getattr(uplink, way)]
        if len(ways) != 1 and not (uplink.autoconf and not ways):
            what = f"uplink {name} has {' and '.join(ways)}" if ways else f"uplink {name} has no address"
            yield Problem(key, what, "write exactly one of address:, dhcp: true and pppoe:")


def uplink_gateways(network: Network) -> Iterator[Problem]:
    for place, name, uplink, key in _uplinks(network):
        for index, gateway in enumerate(uplink.gateway):
            what = _not_a_gateway(gateway, uplink.address)
            if what:
                yield Problem((*key, "gateway", index), f"gateway {gateway} {what}", "use the ISP router's address")
            elif any(gateway.version == other.version for other in uplink.gateway[:index]):
                what = f"uplink {name} has two IPv{gateway.version} gateways"
                yield Problem((*key, "gateway", index), what, "keep one; another ISP router is another uplink")
        for version in (4, 6):
            has = any(given.version == version for given in uplink.address)
            alone = not (uplink.dhcp or uplink.pppoe)  # with those it is said above
            if has and alone and place.ours and not any(gateway.version == version for gateway in uplink.gateway):
                yield Problem(
                    key, f"uplink {name} has no IPv{version} gateway", "add gateway: the ISP router's address"
                )


def _not_a_gateway(gateway: Address, own: Sequence[Interface]) -> str:
    """Why not; empty: it may be one. With a single address of a family the ISP's router is on the link beside it."""
    nets = [given.network for given in own if given.version == gateway.version]
    if any(gateway == given.ip for given in own):
        return "is the uplink's own address"
    if gateway.is_multicast or gateway.is_unspecified or gateway.is_loopback:
        return "is no host's address"
    if gateway.version == 6 and gateway.is_link_local:
        return ""  # as many ISPs' routers have it
    inside = next((net for net in nets if gateway in net), None)
    if inside is not None:
        return f"is not a host's address in {inside}" if not_a_host(gateway, inside) else ""
    if not own or (nets and all(net.num_addresses == 1 for net in nets)):
        return ""
    return f"is not in {' and '.join(str(given.network) for given in own)}"


def uplink_addresses(network: Network) -> Iterator[Problem]:
    for _place, _name, uplink, key in _uplinks(network):
        for index, given in enumerate(uplink.address):
            if not_a_host(given.ip, given.network):
                what = f"{given.ip} is not a host's address in {given.network}"
                yield Problem((*key, "address", index), what, "use the one that the ISP gave")


def device_names(network: Network) -> Iterator[Problem]:
    """Two uses of one device, names the kernel does not take, and names that are ours."""
    clouds = {device_name(network.network, cloud): f"cloud {cloud}" for cloud in network.clouds}
    if len(clouds) < len(network.clouds):
        yield Problem(("clouds",), "two clouds get the same device name", "rename one of them, or the network")
    for place in places(network):
        if place.ours:
            yield from _devices_of(place, clouds)


def _devices_of(place: Place, clouds: dict[str, str]) -> Iterator[Problem]:
    seen = {**clouds, **{name: "the system" for name in RESERVED}}
    members = {member: bond for bond, ports in place.router.ports.items() for member in ports.members}
    for name, uplink in place.router.uplinks.items():
        key: Key = (*place.key, "uplinks", name, "port")
        yield from _device(key, uplink_device(name, uplink), f"uplink {name}", seen)
        yield from _member(key, uplink.port, members)
    for name, net in place.site.networks.items():
        device = lan_device(place, net)
        if device is not None:
            key = ("sites", place.site_name, "networks", name)
            yield from _device(key, device, f"network {name}", seen)
            yield from _member(key, net.port or place.router.lan_port, members)
    for bond in place.router.ports:
        if bond in clouds or bond in RESERVED:
            yield from _device((*place.key, "ports", bond), bond, f"bond {bond}", seen)


def _device(key: Key, device: str, use: str, seen: dict[str, str]) -> Iterator[Problem]:
    if len(device) > DEVICE_OCTETS:
        yield Problem(
            key, f"device name {device} has more than {DEVICE_OCTETS} characters", "use a port with a shorter name"
        )
    elif device in seen:
        what = f"{use} is on {device}, which {seen[device]} has"
        yield Problem(key, what, "give it another port or a VLAN of its own")
    seen.setdefault(device, use)


def _member(key: Key, port: str | None, members: dict[str, str]) -> Iterator[Problem]:
    if port is not None and port in members:
        yield Problem(key, f"{port} is a member of {members[port]}", f"write port: {members[port]}")


def bond_members(network: Network) -> Iterator[Problem]:
    for place in places(network):
        seen: dict[str, str] = {}
        for bond, ports in place.router.ports.items():
            for index, member in enumerate(ports.members):
                if member in seen:
                    key = (*place.key, "ports", bond, "members", index)
                    yield Problem(key, f"{member} is a member of {seen[member]} already", "name each port once")
                seen.setdefault(member, bond)


def _uplinks(network: Network) -> Iterator[tuple[Place, str, Uplink, Key]]:
    for place in places(network):
        for name, uplink in place.router.uplinks.items():
            yield place, name, uplink, (*place.key, "uplinks", name)


CHECKS = (uplink_shape, uplink_gateways, uplink_addresses, device_names, bond_members)
