"""Autonomous systems, and what is announced where."""

from collections.abc import Iterator

from dmvpn.errors import Problem
from dmvpn.network.model import Network
from dmvpn.network.plan import Protocol

AS_TRANS = 23456  # RFC 6793 9
LAST_16_BIT_AS = 65535  # RFC 7300


def asns(network: Network) -> Iterator[Problem]:
    seen: dict[int, str] = {}
    for name, site in network.sites.items():
        clouds = {cloud for router in site.routers.values() for cloud in router.tunnels if cloud in network.clouds}
        bgp = sorted(cloud for cloud in clouds if network.clouds[cloud].routing is Protocol.BGP)
        if site.asn is None:
            if bgp:
                what = f"site {name} has no asn, and cloud {bgp[0]} speaks BGP"
                yield Problem(("sites", name), what, "add asn: a number no other site has, such as 65001")
            continue
        key = ("sites", name, "asn")
        if site.asn in (AS_TRANS, LAST_16_BIT_AS):
            yield Problem(key, f"AS {site.asn} is reserved", "use a private one: 64512 to 65534, or 4200000000 and up")
        if site.asn in seen:
            what = f"AS {site.asn} is that of {seen[site.asn]} too, so each would refuse the other's routes"
            yield Problem(key, what, "give each site its own")
        seen.setdefault(site.asn, name)


def redistribution(network: Network) -> Iterator[Problem]:
    """Two protocols that feed each other loop."""
    reported: set[tuple[str, str]] = set()
    for name, cloud in network.clouds.items():
        for index, other in enumerate(cloud.redistribute):
            key = ("clouds", name, "redistribute", index)
            if other == name:
                yield Problem(key, f"cloud {name} takes its own routes", "remove it")
            elif other in network.clouds and (other, name) not in reported and _reaches(network, other, name):
                reported.add((name, other))
                what = f"{name} takes the routes of {other}, and its own come to {other}"
                yield Problem(key, what, "keep one direction: routes that go round come back better than they left")


def _reaches(network: Network, start: str, goal: str) -> bool:
    """Whether routes of `goal` come to `start`, over any number of clouds."""
    todo, seen = [start], {start}
    while todo:
        cloud = network.clouds.get(todo.pop())
        for other in cloud.redistribute if cloud is not None else ():
            if other == goal:
                return True
            if other not in seen:
                seen.add(other)
                todo.append(other)
    return False


CHECKS = (asns, redistribution)
