"""Prefix lists and route-maps, as all of FRR's daemons write them. FRR manual, "Filtering" and "Route Maps"."""

from collections.abc import Iterable, Iterator

from dmvpn.network.plan import Cloud, Plan

IP_WORDS = {4: "ip", 6: "ipv6"}


def numbered(head: str, entries: Iterable[str]) -> Iterator[str]:
    """A list that ends with FRR's own refusal."""
    for number, entry in enumerate(entries, start=1):
        yield f"{head} seq {5 * number} {entry}"


def closed(head: str, entries: Iterable[str]) -> Iterator[str]:
    """A list that says so itself, and is there also when it lets nothing in."""
    everything = "::/0 le 128" if head.startswith("ipv6") else "0.0.0.0/0 le 32"
    yield from numbered(head, [*entries, f"deny {everything}"])


def permit(name: str, number: int, body: Iterable[str]) -> Iterator[str]:
    yield from (f"route-map {name} permit {number}", *body, "exit")


def matched(name: str, entries: Iterable[str], version: int = 4) -> Iterator[str]:
    """A list of one family and the route-map of its name, for daemons that take a map only."""
    word = IP_WORDS[version]
    yield from numbered(f"{word} prefix-list {name}", entries)
    yield from permit(name, 10, (f" match {word} address prefix-list {name}",))


def behind(plan: Plan, name: str, version: int = 4) -> Iterator[str]:
    """Networks behind another router of the site, for `redistribute kernel`; nothing where there are none."""
    entries = [f"permit {route.prefix}" for route in plan.routes if route.prefix.version == version]
    yield from matched(name, entries, version) if entries else ()


def served_devices(plan: Plan, version: int = 4) -> list[str]:
    """Devices of the networks of a family that the clouds are told of."""
    return sorted({lan.device for lan in plan.lans if lan.prefix in plan.serves and lan.prefix.version == version})


def speaks(cloud: Cloud, version: int) -> bool:
    """Whether this router has an overlay address of that family in the cloud."""
    return any(address.version == version for address in cloud.addresses)
