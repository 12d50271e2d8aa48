"""Uplinks of several whose devices are not there: the dead card of one ISP must not cost the router the other one.

Without any of them the file is refused as with any missing device: then it is the file that is wrong, or all is lost.
"""

from collections.abc import Mapping
from dataclasses import replace

from dmvpn.linux.netstate_facts import LinkFacts
from dmvpn.linux.netstate_file import NetState

Facts = Mapping[str, LinkFacts]


def without_absent(wanted: NetState, facts: Facts) -> tuple[NetState, tuple[str, ...]]:
    """The state without what is on them, and warnings for the log. dmvpnd has all of it applied when they come."""
    links = wanted.links
    absent = frozenset(name for name in links.uplinks if not _can_be(name, wanted, facts))
    if absent == set(links.uplinks):
        return wanted, ()
    left = replace(
        wanted,
        addresses=tuple(row for row in wanted.addresses if row.device not in absent),
        routes=tuple(route for route in wanted.routes if route.device not in absent),
        links=replace(links, vlans=tuple(vlan for vlan in links.vlans if vlan.name not in absent)),
    )
    return left, tuple(
        f"device {name}: is not there; the uplink on it waits" for name in sorted(absent - set(links.leased))
    )


def _can_be(name: str, wanted: NetState, facts: Facts) -> bool:
    """There, or to be made of what is there."""
    if name in facts:
        return True
    ports = [vlan.port for vlan in wanted.links.vlans if vlan.name == name]
    members = [member for bond in wanted.links.bonds if bond.name == name for member in bond.members]
    return any(_can_be(port, wanted, facts) for port in ports) or any(member in facts for member in members)
