"""What a site serves: pools in their prefix, records that point somewhere."""

from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address, ip_address

from dmvpn.errors import Problem
from dmvpn.network.model import Network
from dmvpn.network.places import places
from dmvpn.network.services_model import DnsZone, Record, Services
from dmvpn.network.source import Key

KINDS = ("a", "aaaa", "mx", "cname", "ns", "srv", "txt", "ptr")
INTERNET = "internet"  # the zone of the uplinks
POINTERS = ("mx", "cname", "ns", "srv")


def dhcp(network: Network) -> Iterator[Problem]:
    for site_name, site in network.sites.items():
        for name, net in site.networks.items():
            if net.dhcp is None:
                continue
            key: Key = ("sites", site_name, "networks", name, "dhcp")
            prefixes = " and ".join(str(prefix) for prefix in net.prefix)
            if net.dhcp.pool is not None and not _pool_fits(net.dhcp.pool, net.prefix):
                what = f"pool {net.dhcp.pool} is not a range inside {prefixes}"
                yield Problem((*key, "pool"), what, "write FIRST-LAST of that prefix")
            for host, reservation in net.dhcp.reservations.items():
                if not any(reservation.address in prefix for prefix in net.prefix):
                    where = (*key, "reservations", host, "address")
                    yield Problem(
                        where, f"{reservation.address} is not in {site_name}.{name}", f"use one of {prefixes}"
                    )


def _pool_fits(pool: str, prefixes: tuple[object, ...]) -> bool:
    try:
        first, last = (ip_address(part) for part in pool.split("-"))
    except ValueError:
        return False
    return int(first) <= int(last) and any(first in prefix and last in prefix for prefix in prefixes)  # type: ignore[operator]


def dns_zones(network: Network) -> Iterator[Problem]:
    seen: dict[str, str] = {}
    for key, who, services in _services(network):
        zone = services.dns_zone
        if zone is None:
            continue
        here = (*key, "dns-zone")
        if zone.name in seen:
            yield Problem((*here, "name"), f"{seen[zone.name]} serves zone {zone.name} too", "give each its own zone")
        seen.setdefault(zone.name, who)
        for index, record in enumerate(zone.records):
            yield from _record((*here, "records", index), zone, record)


def _record(key: Key, zone: DnsZone, record: Record) -> Iterator[Problem]:
    given = [kind for kind in KINDS if getattr(record, kind) is not None]
    if len(given) != 1:
        has = " and ".join(given) if given else "no data"
        yield Problem(key, f"the record {record.name} has {has}", f"write exactly one of {', '.join(KINDS)}")
        return
    kind, data = given[0], str(getattr(record, given[0]))
    if kind in ("a", "aaaa") and not _is_address(data, 4 if kind == "a" else 6):
        yield Problem(
            (*key, kind), f"{data} is not an IPv{4 if kind == 'a' else 6} address", "write the host's address"
        )
    if kind in POINTERS:
        target = data.split()[-1]
        known = {"ns", "@", *(other.name for other in zone.records if other.a or other.aaaa)}
        if not target.endswith(".") and target not in known:
            what = f"{kind} points to {target}, which has no address in {zone.name}"
            yield Problem((*key, kind), what, f"add {{name: {target}, a: ADDRESS}}, or end a full name with a dot")


def _is_address(text: str, version: int) -> bool:
    try:
        return isinstance(ip_address(text), IPv4Address if version == 4 else IPv6Address)
    except ValueError:
        return False


def _services(network: Network) -> Iterator[tuple[Key, str, Services]]:
    for site_name, site in network.sites.items():
        yield ("sites", site_name, "services"), site_name, site.services
    for place in places(network):
        yield (*place.key, "services"), place.name, place.router.services


def open_to_all(network: Network) -> Iterator[Problem]:
    """Resolvers and time servers that answer everybody are what others flood their victims with."""
    for key, who, services in _services(network):
        for word, what, service in (("dns", "name server", services.dns), ("ntp", "time server", services.ntp)):
            if service is not None and INTERNET in service.zones:
                said = f"the {what} of {who} answers the whole Internet, which floods others by it"
                yield Problem((*key, word, "zones"), said, f"remove {INTERNET}", warning=True)


CHECKS = (dhcp, dns_zones, open_to_all)
