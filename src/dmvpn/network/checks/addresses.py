"""Prefixes that must not meet, and addresses that must lie in theirs."""

from collections.abc import Iterator

from dmvpn.errors import Problem
from dmvpn.firewall.prefixes import within
from dmvpn.network.model import Network
from dmvpn.network.places import members, overlapping, places
from dmvpn.network.plan import Address
from dmvpn.network.plan import Network as Prefix
from dmvpn.network.proposals import is_documentation
from dmvpn.network.source import Key
from dmvpn.network.transport import transport_address

Used = tuple[Prefix, str, Key]  # a prefix, who has it, where the file says so


def not_a_host(address: Address, prefix: Prefix) -> bool:
    """Whether it is the prefix's own first address or its broadcast address, which no host may have."""
    if prefix.num_addresses <= 2:
        return False
    return address == prefix.network_address or (prefix.version == 4 and address == prefix.broadcast_address)


def prefixes_meet(network: Network) -> Iterator[Problem]:
    """Networks, overlays, the road warriors' pool and the transport range: no two may share an address."""
    numbered = list(enumerate(_used(network)))
    numbered.sort(key=lambda entry: (entry[1][0].version, int(entry[1][0].network_address), entry[1][0].prefixlen))
    widest = numbered[0]
    for entry in numbered[1:]:
        if overlapping(entry[1][0], widest[1][0]):
            # The one that the file has later is blamed: it is the one just added.
            (_, first), (_, later) = sorted((widest, entry), key=lambda either: either[0])
            what = f"{later[0]} of {later[1]} overlaps {first[0]} of {first[1]}"
            yield Problem(later[2], what, "give one of them another prefix")
        if not within(entry[1][0], widest[1][0]):
            widest = entry


def _used(network: Network) -> Iterator[Used]:
    yield network.transport, "transport", ("transport",)
    for name, cloud in network.clouds.items():
        for index, overlay in enumerate(cloud.overlay):
            yield overlay, f"cloud {name}", ("clouds", name, "overlay", index)
    for site_name, site in network.sites.items():
        for name, net in site.networks.items():
            for index, prefix in enumerate(net.prefix):
                yield prefix, f"{site_name}.{name}", ("sites", site_name, "networks", name, "prefix", index)
    if network.road_warriors is not None:
        yield network.road_warriors.pool, "road-warriors", ("road-warriors", "pool")


def prefixes_cover(network: Network) -> Iterator[Problem]:
    """`prefixes` is all that is ever internal: everything but the transport range lies in it."""
    for prefix, who, key in _used(network):
        if key == ("transport",):
            for index, internal in enumerate(network.prefixes):
                if overlapping(internal, prefix):
                    what = f"prefixes has {internal}, which overlaps the transport range {prefix}"
                    fix = "move transport: hubs announce prefixes, and no tunnel may carry transport addresses"
                    yield Problem(("prefixes", index), what, fix)
        elif not any(within(prefix, internal) for internal in network.prefixes):
            yield Problem(key, f"{prefix} of {who} is not inside prefixes", "add a prefix that has it to prefixes")


def one_prefix_a_family(network: Network) -> Iterator[Problem]:
    lists: list[tuple[Key, tuple[Prefix, ...]]] = []
    lists += [(("clouds", name, "overlay"), cloud.overlay) for name, cloud in network.clouds.items()]
    for site_name, site in network.sites.items():
        lists += [(("sites", site_name, "networks", name, "prefix"), net.prefix) for name, net in site.networks.items()]
    for key, prefixes in lists:
        if not prefixes:
            yield Problem(key, f"{key[-1]} is empty", "write at least one prefix")
        for version in (4, 6):
            if sum(prefix.version == version for prefix in prefixes) > 1:
                kind = "cloud" if key[0] == "clouds" else "network"
                yield Problem(key, f"{key[-1]} has two IPv{version} prefixes", f"make a second {kind} of one of them")


def tunnel_addresses(network: Network) -> Iterator[Problem]:
    for name, cloud in network.clouds.items():
        seen: dict[Address, str] = {}
        for member in members(network, name):
            for index, address in enumerate(member.tunnel.address):
                key = (*member.key, "address", index)
                prefix = next((overlay for overlay in cloud.overlay if address in overlay), None)
                if not cloud.overlay:
                    continue  # reported at the cloud
                if prefix is None:
                    overlays = " and ".join(str(overlay) for overlay in cloud.overlay)
                    yield Problem(key, f"{address} is not in the overlay of {name}", f"use an address of {overlays}")
                elif not_a_host(address, prefix):
                    yield Problem(key, f"{address} is not a host's address in {prefix}", "use another one")
                elif address in seen:
                    yield Problem(key, f"{address} is the tunnel address of {seen[address]} too", "use another one")
                seen.setdefault(address, member.place.name)
            versions = [address.version for address in member.tunnel.address]
            if not versions:
                yield Problem(
                    (*member.key, "address"), "the tunnel has no address", f"use one of the overlay of {name}"
                )
            elif len(set(versions)) < len(versions):
                fix = "keep one of each family; for two tunnels make a second cloud"
                yield Problem((*member.key, "address"), "the tunnel has two addresses of one family", fix)


def transport_addresses(network: Network) -> Iterator[Problem]:
    """Each router's own, in the range, given or derived."""
    seen: dict[Address, str] = {}
    derived_from: set[Address] = set()  # a tunnel address that two have is reported as such, once
    for place in places(network):
        given = place.router.transport
        key = (*place.key, "transport") if given is not None else place.key
        if not place.ours:
            if given is not None:
                yield Problem(key, f"a {place.router.platform} router has no transport address", "remove the line")
            continue
        if not all(tunnel.address for tunnel in place.router.tunnels.values()):
            continue
        address, first = transport_address(network, place), next(iter(place.router.tunnels.values())).address[0]
        how = "" if given is not None else ", derived from its first tunnel address,"
        write = (
            "write another one" if given is not None else f"write transport: an unused address of {network.transport}"
        )
        if address not in network.transport:
            yield Problem(key, f"transport {address} is outside {network.transport}", "use an address of the range")
        elif not_a_host(address, network.transport):
            yield Problem(key, f"transport {address} of {place.name}{how} is not a host's address", write)
        elif address in seen and not (given is None and first in derived_from):
            yield Problem(key, f"transport {address} of {place.name}{how} is that of {seen[address]} too", write)
        seen.setdefault(address, place.name)
        if given is None:
            derived_from.add(first)


def uplinks_outside(network: Network) -> Iterator[Problem]:
    """An uplink inside the internal prefixes works, but packets to its neighbours may take the tunnel."""
    for place in places(network):
        for name, uplink in place.router.uplinks.items():
            for index, given in enumerate(uplink.address):
                key = (*place.key, "uplinks", name, "address", index)
                if overlapping(given.network, network.transport):
                    yield Problem(key, f"{given} lies in the transport range {network.transport}", "move transport")
                elif any(given.ip in prefix for prefix in network.prefixes):
                    what = f"uplink address {given.ip} lies inside prefixes"
                    yield Problem(key, what, "narrow prefixes, or ask the ISP for another address", warning=True)


def uplink_addresses(network: Network) -> Iterator[Problem]:
    """Behind NAT many may be 192.168.1.2; on the Internet an address is somebody's alone.

    Of one site it is a warning: a router that waits switched off may have what the other one has.
    """
    seen: dict[Address, tuple[str, str]] = {}
    for place in places(network):
        for name, uplink in place.router.uplinks.items():
            for index, given in enumerate(uplink.address):
                if not given.ip.is_global and not is_documentation(given.ip):
                    continue
                if given.ip in seen:
                    site, who = seen[given.ip]
                    what, fix = f"{given.ip} is that of {who} too", "write the one that the ISP gave"
                    key = (*place.key, "uplinks", name, "address", index)
                    yield Problem(key, what, fix, warning=site == place.site_name)
                seen.setdefault(given.ip, (place.site_name, f"uplink {name} of {place.name}"))


CHECKS = (
    prefixes_meet,
    prefixes_cover,
    one_prefix_a_family,
    tunnel_addresses,
    transport_addresses,
    uplinks_outside,
    uplink_addresses,
)
