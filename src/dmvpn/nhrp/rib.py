"""The routing table as NHRP sees it: the best route of each prefix, shortcuts excluded."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from ipaddress import ip_network

from dmvpn.nhrp.events import Address, Egress, Network


@dataclass(frozen=True, slots=True)
class Route:
    prefix: Network
    egress: Egress
    gateway: Address | None
    device: str
    more: tuple[Address, ...] = ()  # gateways as good as the first

    @property
    def gateways(self) -> tuple[Address, ...]:
        return () if self.gateway is None else (self.gateway, *self.more)

    @property
    def is_here(self) -> bool:
        """This router is the egress of what the route covers."""
        return self.egress in (Egress.LOCAL, Egress.ELSEWHERE)

    def same_egress(self, other: "Route") -> bool:
        return (self.egress, self.device) == (other.egress, other.device)


class Rib:
    """Longest match over both families. Its size is that of the kernel's table, which is the operator's."""

    def __init__(self) -> None:
        self._routes: dict[tuple[int, int], dict[int, Route]] = {}  # (version, prefix length) -> leading bits
        self._lengths: dict[int, list[int]] = {4: [], 6: []}  # longest first

    def put(self, route: Route) -> None:
        version, length = route.prefix.version, route.prefix.prefixlen
        table = self._routes.get((version, length))
        if table is None:
            table = self._routes[version, length] = {}
            self._lengths[version] = sorted([*self._lengths[version], length], reverse=True)
        table[_lead(route.prefix.network_address, length)] = route

    def drop(self, prefix: Network) -> None:
        version, length = prefix.version, prefix.prefixlen
        table = self._routes.get((version, length), {})
        table.pop(_lead(prefix.network_address, length), None)
        if not table and (version, length) in self._routes:
            del self._routes[version, length]
            self._lengths[version].remove(length)

    def lookup(self, destination: Address) -> Route | None:
        return self._longest(destination, destination.max_prefixlen)

    def covering(self, prefix: Network) -> Route | None:
        """The best route that covers the whole of `prefix`."""
        return self._longest(prefix.network_address, prefix.prefixlen)

    def inside(self, prefix: Network) -> Iterator[Route]:
        """Routes of parts of `prefix`, itself not included."""
        lead = _lead(prefix.network_address, prefix.prefixlen)
        for length in self._lengths[prefix.version]:
            if length <= prefix.prefixlen:
                return
            for bits, route in self._routes[prefix.version, length].items():
                if bits >> (length - prefix.prefixlen) == lead:
                    yield route

    def narrow(self, prefix: Network, destination: Address, cuts: Callable[[Route], bool]) -> Network:
        """The widest part of `prefix` around `destination` without a more specific route that `cuts`.

        Whoever is behind that route has the better way there.
        """
        narrowed = prefix
        for route in [route for route in self.inside(prefix) if cuts(route)]:
            while contains(narrowed, route.prefix) and narrowed.prefixlen < destination.max_prefixlen:
                narrowed = host_of(destination, narrowed.prefixlen + 1)
        return narrowed

    def _longest(self, destination: Address, up_to: int) -> Route | None:
        bits, width = int(destination), destination.max_prefixlen
        for length in self._lengths[destination.version]:
            if length <= up_to:
                route = self._routes[destination.version, length].get(bits >> (width - length))
                if route is not None:
                    return route
        return None


def _lead(address: Address, length: int) -> int:
    return int(address) >> (address.max_prefixlen - length)


def host_of(address: Address, length: int | None = None) -> Network:
    """The prefix of `length` bits (all of them unless told) that holds `address`."""
    return ip_network((str(address), address.max_prefixlen if length is None else length), strict=False)


def contains(outer: Network, inner: Network) -> bool:
    """`inner` is a part of `outer` or the same; False across families."""
    return outer.version == inner.version and inner.subnet_of(outer)  # type: ignore[arg-type]


def overlaps(one: Network, other: Network) -> bool:
    return contains(one, other) or contains(other, one)
