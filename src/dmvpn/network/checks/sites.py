"""A site's networks and its routers' addresses in them."""

from collections.abc import Iterator

from dmvpn.errors import Problem
from dmvpn.network.checks.addresses import not_a_host
from dmvpn.network.model import Network, SiteNetwork
from dmvpn.network.places import Place, first_address, places
from dmvpn.network.plan import Address
from dmvpn.network.plan import Network as Prefix
from dmvpn.network.ports import lan_port
from dmvpn.network.source import Key


def gateways(network: Network) -> Iterator[Problem]:
    for site_name, site in network.sites.items():
        for name, net in site.networks.items():
            key: Key = ("sites", site_name, "networks", name, "gateway")
            for index, address in enumerate(net.gateway):
                yield from _in_prefix((*key, index), address, net, f"{site_name}.{name}")


def router_addresses(network: Network) -> Iterator[Problem]:
    """Each router of a site has its own address in each network; with two routers nothing can be derived."""
    for place in places(network):
        for name, net in place.site.networks.items():
            given = place.router.addresses.get(name, ())
            for index, address in enumerate(given):
                yield from _in_prefix((*place.key, "addresses", name, index), address, net, f"{place.site_name}.{name}")
            yield from _missing_address(place, name, net, given)


def _missing_address(place: Place, name: str, net: SiteNetwork, given: tuple[Address, ...]) -> Iterator[Problem]:
    if len(place.site.routers) < 2 or not place.ours:
        return
    for prefix in net.prefix:
        if not any(address.version == prefix.version for address in given):
            what = f"{place.name} has no address in {place.site_name}.{name}, and the site has two routers"
            write = f"write addresses: {{{name}: an address of {prefix}}}"
            yield Problem(place.key, what, f"{write}, and the shared one as the network's gateway")


def addresses_twice(network: Network) -> Iterator[Problem]:
    for site_name, site in network.sites.items():
        shared = len(site.routers) > 1
        seen: dict[tuple[str, Address], str] = {}
        for name, net in site.networks.items():
            if shared:
                seen.update(
                    {((name, address)): "the gateway, which the site's routers share" for address in net.gateway}
                )
        for router_name, router in site.routers.items():
            for name, addresses in router.addresses.items():
                for index, address in enumerate(addresses):
                    key: Key = ("sites", site_name, "routers", router_name, "addresses", name, index)
                    if (name, address) in seen:
                        what = f"{address} is that of {seen[name, address]} too"
                        yield Problem(key, what, "give the router an address of its own")
                    seen.setdefault((name, address), router_name)


def _in_prefix(key: Key, address: Address, net: SiteNetwork, who: str) -> Iterator[Problem]:
    prefix = next((prefix for prefix in net.prefix if address in prefix), None)
    if prefix is None:
        prefixes = " and ".join(str(prefix) for prefix in net.prefix)
        yield Problem(
            key, f"{address} is not in {who}", f"use an address of {prefixes}, such as {_example(net.prefix)}"
        )
    elif not_a_host(address, prefix):
        yield Problem(key, f"{address} is not a host's address in {prefix}", f"use one such as {first_address(prefix)}")


def _example(prefixes: tuple[Prefix, ...]) -> str:
    return str(first_address(prefixes[0])) if prefixes else "one of its prefix"


def lan_ports(network: Network) -> Iterator[Problem]:
    """Every network is on a port of every router of ours."""
    for place in places(network):
        if not place.ours:
            continue
        for name, net in place.site.networks.items():
            if lan_port(place, net) is None:
                key: Key = ("sites", place.site_name, "networks", name)
                what = f"{place.site_name}.{name} is on no port of {place.name}"
                yield Problem(key, what, f"write port: here, or lan-port: at {place.name}")


CHECKS = (gateways, router_addresses, addresses_twice, lan_ports)
