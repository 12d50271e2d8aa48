"""The lab section names routers, uplinks and networks of the file, and its WAN holds together."""

from collections.abc import Iterator, Mapping

from dmvpn.errors import Problem
from dmvpn.network.checks.addresses import not_a_host
from dmvpn.network.checks.references import unknown
from dmvpn.network.lab_model import LabHost, LabUplink, NatKind, NatPort
from dmvpn.network.model import Network, SiteNetwork, Uplink
from dmvpn.network.places import NHRPD, own_addresses, places
from dmvpn.network.plan import Address, Platform
from dmvpn.network.source import Key


def uplinks(network: Network) -> Iterator[Problem]:
    known = {
        f"{place.name}.{name}": uplink for place in places(network) for name, uplink in place.router.uplinks.items()
    }
    for name, link in network.lab.uplinks.items():
        key: Key = ("lab", "uplinks", name)
        if name not in known:
            yield unknown(key, "uplink", name, known)
        elif link.nat.behind is not None:
            yield from _behind((*key, "nat"), name, link, network, known)
        else:
            yield from _nat((*key, "nat"), name, link, known[name])
        if link.at not in network.lab.routers:
            yield unknown((*key, "at"), "WAN router", link.at, network.lab.routers)


def _nat(key: Key, name: str, link: LabUplink, uplink: Uplink) -> Iterator[Problem]:
    nat = link.nat
    if nat.kind is not NatKind.PORT_RESTRICTED and nat.port is NatPort.OTHER:
        what = f"the NAT of {name} is {nat.kind}, and port: other is for port-restricted"
        yield Problem((*key, "port"), what, "remove the line")
    if nat.kind is NatKind.NONE:
        if nat.public is not None:
            yield Problem((*key, "public"), f"{name} has a public address and no NAT", "write kind: 1:1, or remove it")
        return
    if nat.public is None:
        yield Problem(key, f"the NAT of {name} has no public address", "add public: the address the WAN sees")
    elif uplink.public is not None and nat.public != uplink.public:
        what = f"the NAT of {name} has {nat.public}, and the uplink says public {uplink.public}"
        yield Problem((*key, "public"), what, f"write {uplink.public}")


def _behind(key: Key, name: str, link: LabUplink, network: Network, known: Mapping[str, Uplink]) -> Iterator[Problem]:
    """Two uplinks of one NAT router: on one network, told apart by its ports."""
    other = str(link.nat.behind)
    where = (*key, "behind")
    if link.nat.model_fields_set != {"behind"}:
        yield Problem(key, f"{name} is behind the NAT router of {other} and describes another", "write behind alone")
    if other not in known or other == name:
        yield unknown(where, "other uplink", other, set(known) - {name})
        return
    theirs = network.lab.uplinks.get(other, LabUplink())
    if theirs.nat.kind in (NatKind.NONE, NatKind.ONE_TO_ONE):
        yield Problem(where, f"{other} has no NAT router that two can share", "give it kind: port-restricted")
    elif theirs.nat.port is NatPort.OTHER:
        yield Problem(where, f"the NAT of {other} moves 4500 to one port, for one uplink", "remove its port: other")
    if link.at != theirs.at:
        yield Problem((*key[:-1], "at"), f"the NAT router of {other} is at {theirs.at}", f"write at: {theirs.at}")
    if _subnets(known[name]) != _subnets(known[other]):
        yield Problem(where, f"{name} is not on the network of {other}", "give both addresses and gateways of one")
    sharing = [
        other,
        *(third for third, one in network.lab.uplinks.items() if one.nat.behind == other and third in known),
    ]
    for third in sharing[: sharing.index(name)]:
        both = {given.ip for given in known[name].address} & {given.ip for given in known[third].address}
        for address in sorted(both, key=str):
            yield Problem(where, f"{address} is that of {third} too, on the same network", "change one of the two")


def _subnets(uplink: Uplink) -> tuple[object, object]:
    return {given.network for given in uplink.address}, set(uplink.gateway)


def wan_addresses(network: Network) -> Iterator[Problem]:
    """What the WAN sees of two uplinks must differ."""
    if not network.lab.uplinks:
        return
    seen: dict[Address, str] = {}
    for place in places(network):
        for name, uplink in place.router.uplinks.items():
            link = network.lab.uplinks.get(f"{place.name}.{name}", LabUplink())
            if link.nat.behind is not None:
                continue  # it shares the address on purpose
            natted = link.nat.kind is not NatKind.NONE
            outside = (link.nat.public,) if natted else tuple(given.ip for given in uplink.address)
            for address in outside:
                if address is not None and address in seen:
                    what = f"the lab's WAN sees {address} at {seen[address]} and at {place.name}.{name}"
                    yield Problem(
                        ("lab", "uplinks", f"{place.name}.{name}"), what, "put a NAT before one, or change it"
                    )
                if address is not None:
                    seen.setdefault(address, f"{place.name}.{name}")


def wan_routers(network: Network) -> Iterator[Problem]:
    routers = network.lab.routers
    if not routers:
        yield Problem(("lab", "routers"), "the lab's WAN has no router", "write internet: {}, or remove the line")
        return
    joined: dict[str, set[str]] = {name: set() for name in routers}
    for name, router in routers.items():
        for other in router.links:
            if other not in routers or other == name:
                yield unknown(
                    ("lab", "routers", name, "links", other), "other WAN router", other, set(routers) - {name}
                )
            else:
                joined[name].add(other)
                joined[other].add(name)
    first, *rest = routers
    reached, todo = {first}, [first]
    while todo:
        new = joined[todo.pop()] - reached
        reached |= new
        todo += new
    for name in rest:
        if name not in reached:
            what = f"WAN router {name} has no way to {first}"
            yield Problem(("lab", "routers", name), what, f"add links: {{{first}: {{}}}}")


def hosts(network: Network) -> Iterator[Problem]:
    nets = {f"{site}.{name}": net for site, place in network.sites.items() for name, net in place.networks.items()}
    taken = _taken(network)
    routers = {place.name for place in places(network)}
    for name, host in network.lab.hosts.items():
        key: Key = ("lab", "hosts", name)
        if name in routers or name in network.lab.routers:
            yield Problem(key, f"a router is called {name} too", "rename the host")
        if host.network not in nets:
            yield unknown((*key, "network"), "network", host.network, nets)
        else:
            yield from _host(key, host, nets[host.network], taken)
        taken.setdefault((host.network, host.address), name)


def _host(key: Key, host: LabHost, net: SiteNetwork, taken: dict[tuple[str, Address], str]) -> Iterator[Problem]:
    prefix = next((prefix for prefix in net.prefix if host.address in prefix), None)
    where = (*key, "address")
    if prefix is None:
        prefixes = " and ".join(str(prefix) for prefix in net.prefix)
        yield Problem(where, f"{host.address} is not in {host.network}", f"use an address of {prefixes}")
    elif not_a_host(host.address, prefix):
        yield Problem(where, f"{host.address} is not a host's address in {prefix}", "use another one")
    elif (host.network, host.address) in taken:
        yield Problem(where, f"{host.address} is that of {taken[host.network, host.address]} too", "use another one")


def _taken(network: Network) -> dict[tuple[str, Address], str]:
    taken: dict[tuple[str, Address], str] = {}
    for place in places(network):
        for name, net in place.site.networks.items():
            here = f"{place.site_name}.{name}"
            taken |= {(here, address.ip): place.name for address in own_addresses(place, name, net)}
            taken |= {(here, gateway): place.name for gateway in net.gateway}
    return taken


def bare(network: Network) -> Iterator[Problem]:
    ours = {place.name for place in places(network) if place.ours}
    for index, name in enumerate(network.lab.bare):
        if name not in ours:
            yield unknown(("lab", "bare", index), "router of ours", name, ours)


def players(network: Network) -> Iterator[Problem]:
    foreign = [place.name for place in places(network) if not place.ours]
    for name, platform in network.lab.play.items():
        key: Key = ("lab", "play", name)
        if name not in foreign:
            yield unknown(key, "foreign router", name, foreign)
        elif platform not in (Platform.DEBIAN, Platform.FRR):
            yield Problem(key, f"no lab has an image of {platform}", "write debian, or frr")


def newer_frr(network: Network) -> Iterator[Problem]:
    play = network.lab.play
    run = [
        place.name for place in places(network) if place.ours or play.get(place.name, place.router.platform) in NHRPD
    ]
    for index, name in enumerate(network.lab.frr10):
        if name not in run:
            yield unknown(("lab", "frr10", index), "router with an FRR", name, run)
        elif name in network.lab.frr10[:index]:
            yield Problem(("lab", "frr10", index), f"{name} is here twice", "name it once")


CHECKS = (uplinks, wan_addresses, wan_routers, hosts, bare, players, newer_frr)
