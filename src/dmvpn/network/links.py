"""What lies below uplinks and networks: physical ports, bonds of them, and VLANs on either."""

from collections.abc import Iterator
from dataclasses import dataclass

from dmvpn.network.model import Bond
from dmvpn.network.places import Place
from dmvpn.network.plan import Bond as PlannedBond
from dmvpn.network.plan import Port, Vlan
from dmvpn.network.ports import ETHERNET_MTU_OCTETS, PPPOE_MTU_OCTETS, lan_port
from dmvpn.network.source import Key


@dataclass(frozen=True, slots=True)
class Use:
    """One uplink or network on a port. `vlan` None: untagged. `mtu_octets` None: the file does not say."""

    what: str
    key: Key
    port: str
    vlan: int | None
    mtu_octets: int | None
    lan: bool

    @property
    def device(self) -> str:
        return self.port if self.vlan is None else f"{self.port}.{self.vlan}"


def uses(place: Place) -> Iterator[Use]:
    """Of a router of ours, in the file's order: uplinks, then networks. Several networks may share a device."""
    for name, uplink in place.router.uplinks.items():
        if uplink.port is not None:
            mtu = uplink.mtu
            if uplink.pppoe is not None and mtu is not None:
                mtu = max(mtu + ETHERNET_MTU_OCTETS - PPPOE_MTU_OCTETS, ETHERNET_MTU_OCTETS)
            key = (*place.key, "uplinks", name)
            yield Use(f"uplink {name}", key, uplink.port, uplink.vlan, mtu, lan=False)
    for name, net in place.site.networks.items():
        port = lan_port(place, net)
        if port is not None:
            key = ("sites", place.site_name, "networks", name)
            yield Use(f"network {name}", key, port, net.vlan, net.mtu, lan=True)


def widest_mtu_octets(place: Place, port: str) -> int | None:
    """What the port must carry for all that is on it; None where it may stay as it is.

    Who does not say counts on Ethernet's: a network with less is not to take that from the others on the port.
    """
    said = [use.mtu_octets for use in uses(place) if use.port == port]
    widest = max((mtu for mtu in said if mtu is not None), default=None)
    return None if widest is not None and None in said and widest <= ETHERNET_MTU_OCTETS else widest


def bond_mtu_octets(place: Place, name: str, bond: Bond) -> int | None:
    return bond.mtu or widest_mtu_octets(place, name)


def planned_bonds(place: Place) -> tuple[PlannedBond, ...]:
    return tuple(
        PlannedBond(
            name=name,
            members=bond.members,
            mode=bond.mode,
            miimon_ms=round(bond.miimon * 1000),
            updelay_ms=round(bond.updelay * 1000),
            lacp_rate=bond.lacp_rate,
            mtu_octets=bond_mtu_octets(place, name, bond),
        )
        for name, bond in place.router.ports.items()
    )


def planned_vlans(place: Place) -> tuple[Vlan, ...]:
    """Each once, however many networks are on it."""
    found = {
        use.device: Vlan(use.device, use.port, use.vlan, _vlan_mtu_octets(place, use))
        for use in uses(place)
        if use.vlan is not None
    }
    return tuple(found.values())


def _vlan_mtu_octets(place: Place, use: Use) -> int | None:
    """A VLAN takes its port's, which is not meant for it where the port is wide for another's sake."""
    bond = place.router.ports.get(use.port)
    if use.mtu_octets is None and not (bond and bond.mtu):
        widest = widest_mtu_octets(place, use.port)
        return ETHERNET_MTU_OCTETS if widest is not None and widest > ETHERNET_MTU_OCTETS else None
    return use.mtu_octets


def planned_ports(place: Place) -> tuple[Port, ...]:
    """The machine's own that the file uses, without the members of bonds."""
    names = dict.fromkeys(use.port for use in uses(place) if use.port not in place.router.ports)
    return tuple(Port(name, widest_mtu_octets(place, name)) for name in names)
