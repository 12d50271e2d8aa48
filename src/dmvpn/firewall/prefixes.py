"""Lists of prefixes: of one family, and what two lists have in common."""

from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    collapse_addresses,
    summarize_address_range,
)

from dmvpn.firewall.policy import Address, Network

FAMILIES = (4, 6)


def of_family(prefixes: tuple[Network, ...], family: int) -> tuple[Network, ...]:
    """Those of one family, in order, without what another one covers."""
    if family == 4:
        return tuple(collapse_addresses(prefix for prefix in prefixes if isinstance(prefix, IPv4Network)))
    return tuple(collapse_addresses(prefix for prefix in prefixes if isinstance(prefix, IPv6Network)))


def within(inner: Network, outer: Network) -> bool:
    """Whether a prefix lies in another; never across families."""
    if isinstance(inner, IPv4Network) and isinstance(outer, IPv4Network):
        return inner.subnet_of(outer)
    if isinstance(inner, IPv6Network) and isinstance(outer, IPv6Network):
        return inner.subnet_of(outer)
    return False


def common(one: tuple[Network, ...] | None, other: tuple[Network, ...] | None) -> tuple[Network, ...] | None:
    """The addresses that are in both; None is any address."""
    if one is None:
        return other
    if other is None:
        return one
    shared = [a if within(a, b) else b for a in one for b in other if within(a, b) or within(b, a)]
    return tuple(dict.fromkeys(shared))


def contains(prefixes: tuple[Network, ...], address: Address) -> bool:
    return any(address.version == prefix.version and address in prefix for prefix in prefixes)


def between(first: Address, last: Address) -> tuple[Network, ...]:
    """The addresses of a range, the last one included; empty across families."""
    if isinstance(first, IPv4Address) and isinstance(last, IPv4Address):
        return tuple(summarize_address_range(first, last))
    if isinstance(first, IPv6Address) and isinstance(last, IPv6Address):
        return tuple(summarize_address_range(first, last))
    return ()
