"""Addresses of one uplink: which it sends from, and what a change of them means."""

from collections.abc import Mapping
from ipaddress import IPv4Address, IPv6Address, IPv6Network

from dmvpn.daemon.settings import UplinkSettings
from dmvpn.linux.uplink_watch import DeviceFacts

Address = IPv4Address | IPv6Address

UNIQUE_LOCAL = IPv6Network("fc00::/7")  # RFC 4193: no ISP carries them


def sources_of(
    settings: UplinkSettings, facts: DeviceFacts | None, before: Mapping[int, Address]
) -> dict[int, Address]:
    """The address to send from, by family: the file's if it is there, else one that the Internet knows for long.

    Of equals the one so far, and then the kernel's first.
    """
    present = _present(facts)
    given = [one.ip for one in settings.addresses]
    found: dict[int, Address] = {}
    for address in sorted(present, key=lambda one: (_rank(one, facts), one != before.get(one.version))):
        found.setdefault(address.version, address)
    return found | {one.version: one for one in reversed(given) if one in present}


def _rank(address: Address, facts: DeviceFacts | None) -> int:
    if address in UNIQUE_LOCAL:
        return 2
    return int(facts is not None and address in facts.temporary)


def lost_of(before: Mapping[int, Address], index: int, facts: DeviceFacts | None) -> frozenset[Address]:
    """Of the sources before, on the device of that index, those that are no more. One made anew has none of them."""
    stays = _present(facts) if facts is not None and facts.index == index else ()
    return frozenset(before.values()) - set(stays)


def is_renumbered(settings: UplinkSettings, asking: Mapping[int, Address], facts: DeviceFacts) -> bool:
    """Whether nothing is left of the addresses that targets were asked from. A family more or less is no other link."""
    versions = {target.address.version for target in settings.watch.targets} or {4, 6}
    before = {address for version, address in asking.items() if version in versions}
    return bool(before) and not before & set(_present(facts))


def _present(facts: DeviceFacts | None) -> list[Address]:
    return [address.ip for address in facts.addresses] if facts is not None else []
