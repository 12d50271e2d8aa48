"""Devices that are not there, or that somebody switched off.

Uplinks of several that are not there: the dead card of one ISP must not cost the router the other one. Without any of
them the file is refused as with any missing device: then it is the file that is wrong, or all is lost.

What we brought up and is down was switched off by somebody, who wants it so until the next start.
"""

from collections.abc import Collection, Mapping
from dataclasses import replace

from dmvpn.linux.netstate_facts import LinkFacts
from dmvpn.linux.netstate_file import NetState
from dmvpn.linux.netstate_links import Brought

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


def switched_off(wanted: NetState, brought: Collection[Brought], facts: Facts) -> frozenset[str]:
    """Those of `brought` that are still the same devices, and what is on them: the kernel switches VLANs along.

    What one of us was taking down when it failed is not among them.
    """
    failed = {device.name for device in brought if not device.index}
    down = {name: link.index for name, link in facts.items() if not link.up and name not in failed}
    off = {device.name for device in brought if down.get(device.name) == device.index}
    above = {vlan.name for vlan in wanted.links.vlans if vlan.port in off}
    # What stands for a VLAN by the same name does not depend on the port.
    return frozenset(
        off | (above - facts.keys()) | {name for name in above & down.keys() if facts[name].kind == "vlan"}
    )


def without_off(wanted: NetState, off: Collection[str]) -> NetState:
    """The kernel takes the routes of a device that is switched off, and refuses new ones."""
    return replace(wanted, routes=tuple(route for route in wanted.routes if route.device not in off))


def brought_by(wanted: NetState, facts: Facts) -> tuple[Brought, ...]:
    """What of the machine's devices the state brings up, as they are numbered now; lo and our own are always up."""
    links = wanted.links
    names = {row.device for row in wanted.addresses} | {port.name for port in links.ports} | set(links.leased)
    names |= links.made | {vlan.port for vlan in links.vlans}
    names -= {"lo", *(device.name for device in wanted.devices)}
    # pppd switches what it makes.
    return tuple(Brought(name, facts[name].index) for name in sorted(names & facts.keys()) if facts[name].kind != "ppp")


def _can_be(name: str, wanted: NetState, facts: Facts) -> bool:
    """There, or to be made of what is there."""
    if name in facts:
        return True
    ports = [vlan.port for vlan in wanted.links.vlans if vlan.name == name]
    members = [member for bond in wanted.links.bonds if bond.name == name for member in bond.members]
    return any(_can_be(port, wanted, facts) for port in ports) or any(member in facts for member in members)
