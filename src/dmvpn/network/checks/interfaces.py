"""Bonds, VLANs and MTUs: what no kernel, switch or ISP would take, and what the one at the other end may not."""

from collections.abc import Iterator

from dmvpn.errors import Problem
from dmvpn.network.links import Use, bond_mtu_octets, uses, widest_mtu_octets
from dmvpn.network.model import Bond, Network
from dmvpn.network.places import Place, overlapping, places
from dmvpn.network.plan import BondMode, Interface
from dmvpn.network.ports import ETHERNET_MTU_OCTETS
from dmvpn.network.source import Key

MIIMON_LEAST_MS = 10  # more often the kernel would look at nothing else
NATIVE_VLAN = 1


def bond_settings(network: Network) -> Iterator[Problem]:
    for place, name, bond, key in _bonds(network):
        miimon_ms, updelay_ms = bond.miimon * 1000, bond.updelay * 1000
        if miimon_ms != round(miimon_ms) or not MIIMON_LEAST_MS <= miimon_ms <= 10_000:
            what = f"the members of {name} are to be looked at every {bond.miimon:g} s"
            yield Problem((*key, "miimon"), what, "write whole milliseconds from 10ms to 10s, such as 100ms")
        elif round(updelay_ms) % round(miimon_ms) or updelay_ms != round(updelay_ms):
            what = f"updelay {updelay_ms:g} ms is not a multiple of miimon {miimon_ms:g} ms"
            yield Problem((*key, "updelay"), what, f"write one, such as {2 * round(miimon_ms)}ms")
        if "lacp_rate" in bond.model_fields_set and bond.mode is not BondMode.LACP:
            what = f"{name} is {bond.mode}, which does not speak LACP"
            yield Problem((*key, "lacp-rate"), what, "remove the line, or write mode: 802.3ad and set the switch so")
        if len(bond.members) == 1:
            what = f"{name} has one member: when {bond.members[0]} fails nothing takes over"
            fix = f"add a second port, or write {bond.members[0]} for {name} where it is used"
            yield Problem((*key, "members"), what, fix, warning=True)
        if not any(use.port == name for use in uses(place)):
            what = f"no uplink and no network is on {name}"
            yield Problem(key, what, f"write port: {name} where it is meant, or remove it", warning=True)


def bond_of_bonds(network: Network) -> Iterator[Problem]:
    for place, name, bond, key in _bonds(network):
        for index, member in enumerate(bond.members):
            if member in place.router.ports:
                what = f"{member} is a bond, and a member of {name}"
                yield Problem((*key, "members", index), what, "name the physical ports")


def link_mtus(network: Network) -> Iterator[Problem]:
    """A VLAN is no wider than its port; a bond is as wide as the file says, a port as its untagged use says."""
    for place in _ours(network):
        for use in uses(place):
            most = _port_mtu_octets(place, use)
            if use.mtu_octets is not None and most is not None and use.mtu_octets > most:
                key: Key = (*use.key, "mtu")
                what = f"{use.what} needs MTU {use.mtu_octets} on {use.device}, and {use.port} has {most}"
                yield Problem(key, what, f"write at most {most}, or give {use.port} more")


def _port_mtu_octets(place: Place, use: Use) -> int | None:
    bond = place.router.ports.get(use.port)
    if bond is not None:
        return bond_mtu_octets(place, use.port, bond) or ETHERNET_MTU_OCTETS
    if use.vlan is None:
        return None
    untagged = (other.mtu_octets for other in uses(place) if other.port == use.port and other.vlan is None)
    return next((mtu for mtu in untagged if mtu is not None), widest_mtu_octets(place, use.port))


def tagged_and_untagged(network: Network) -> Iterator[Problem]:
    """A switch sends VLAN 1 untagged unless told otherwise; an ISP's untagged frames beside a LAN's VLANs meet them."""
    for place in _ours(network):
        by_port = tuple(uses(place))
        for use in by_port:
            if use.vlan == NATIVE_VLAN:
                what = f"{use.what} is in VLAN 1, which most switches send untagged"
                yield Problem((*use.key, "vlan"), what, "use another id, or see to the switch", warning=True)
            beside = next((lan for lan in by_port if lan.lan and lan.vlan is not None and lan.port == use.port), None)
            if not use.lan and use.vlan is None and beside is not None:
                what = f"{use.what} is untagged on {use.port}, which {beside.what} shares as VLAN {beside.vlan}"
                fix = "give the uplink a VLAN of its own, so that no frame of the ISP's meets the LAN"
                yield Problem((*use.key, "port"), what, fix, warning=True)


def leased_uplinks(network: Network) -> Iterator[Problem]:
    """What the ISP gives is not in the file too."""
    for place in places(network):
        for name, uplink in place.router.uplinks.items():
            key: Key = (*place.key, "uplinks", name)
            given = "dhcp" if uplink.dhcp else "pppoe" if uplink.pppoe is not None else ""
            if given and uplink.gateway and not uplink.address:
                what = f"uplink {name} has a gateway, and {given} gives one with a metric of its own"
                yield Problem((*key, "gateway"), what, "remove the line")
            if uplink.autoconf and uplink.pppoe is not None:
                what = f"uplink {name} has autoconf over PPPoE, which is not done"
                yield Problem((*key, "autoconf"), what, "remove the line: the session carries IPv4")
            if uplink.autoconf and any(address.version == 6 for address in uplink.address):
                what = f"uplink {name} has an IPv6 address and autoconf"
                yield Problem((*key, "autoconf"), what, "keep one of the two")


def uplink_subnets(network: Network) -> Iterator[Problem]:
    """Two ISPs on one subnet: the kernel asks for either gateway on whichever device it likes."""
    for place in _ours(network):
        seen: list[tuple[str, Interface]] = []
        for name, uplink in place.router.uplinks.items():
            for index, own in enumerate(uplink.address):
                for other, theirs in seen:
                    if other != name and overlapping(own.network, theirs.network):
                        what = f"{own.network} of uplink {name} overlaps {theirs.network} of uplink {other}"
                        fix = "have one of the two ISPs' routers moved to another prefix"
                        yield Problem((*place.key, "uplinks", name, "address", index), what, fix)
                        break
                seen.append((name, own))


def _bonds(network: Network) -> Iterator[tuple[Place, str, Bond, Key]]:
    for place in _ours(network):
        for name, bond in place.router.ports.items():
            yield place, name, bond, (*place.key, "ports", name)


def _ours(network: Network) -> Iterator[Place]:
    return (place for place in places(network) if place.ours)


CHECKS = (
    bond_settings,
    bond_of_bonds,
    link_mtus,
    tagged_and_untagged,
    leased_uplinks,
    uplink_subnets,
)
