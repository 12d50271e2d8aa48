"""The part of network.json that is about ports: bonds, VLANs, ports of the machine, and what those were before us."""

from dataclasses import dataclass, replace
from typing import Any, Self

from dmvpn.linux.netstate_rows import Row, device_name, one_of

BOND_MODES = {"active-backup": 1, "802.3ad": 4, "balance-tlb": 5}  # linux/if_bonding.h
LACP_RATES = {"slow": 0, "fast": 1}
MEMBERS_LIMIT = 8
MTU_OCTETS = (68, 65535)
INDEX_LIMIT = (1 << 31) - 1  # an int in the kernel


@dataclass(frozen=True, slots=True)
class Bond:
    """`members` in order of preference. `mtu_octets` None: as the kernel makes it."""

    name: str
    members: tuple[str, ...]
    mode: str
    miimon_ms: int
    updelay_ms: int
    lacp_rate: str
    mtu_octets: int | None


@dataclass(frozen=True, slots=True)
class Vlan:
    """`mtu_octets` None: that of its port."""

    name: str
    port: str
    vlan_id: int
    mtu_octets: int | None


@dataclass(frozen=True, slots=True)
class Port:
    """A port of the machine. `mtu_octets` None: as it is."""

    name: str
    mtu_octets: int | None


@dataclass(frozen=True, slots=True)
class Former:
    """A port of the machine as it was before the first of us touched it; only in our own record."""

    name: str
    mtu_octets: int
    up: bool


@dataclass(frozen=True, slots=True)
class Brought:
    """A device that we brought up, by its number in this boot; only in our own record. `index` 0: it is being changed,
    for which we take it down ourselves.
    """

    name: str
    index: int


@dataclass(frozen=True, slots=True)
class Links:
    """`leased` are devices to which a client of ours (DHCP, PPP) brings addresses and routes of its own; `uplinks` are
    those that an ISP is on.
    """

    bonds: tuple[Bond, ...] = ()
    vlans: tuple[Vlan, ...] = ()
    ports: tuple[Port, ...] = ()
    former: tuple[Former, ...] = ()
    leased: tuple[str, ...] = ()
    uplinks: tuple[str, ...] = ()
    brought: tuple[Brought, ...] = ()

    @property
    def stacked(self) -> tuple[Bond | Vlan, ...]:
        return (*self.bonds, *self.vlans)

    @property
    def made(self) -> frozenset[str]:
        return frozenset(link.name for link in self.stacked)

    def together(self, other: Self) -> Self:
        """Both; of one name the other's counts, and of what a port was the first memory."""

        def both(one: tuple[Any, ...], two: tuple[Any, ...]) -> tuple[Any, ...]:
            return tuple({row.name: row for row in (*one, *two)}.values())

        return replace(
            other,
            bonds=both(self.bonds, other.bonds),
            vlans=both(self.vlans, other.vlans),
            ports=both(self.ports, other.ports),
            former=both(other.former, self.former),
            leased=tuple(dict.fromkeys((*self.leased, *other.leased))),
            brought=tuple(dict.fromkeys((*self.brought, *other.brought))),
        )

    def without(self, other: Self) -> Self:
        """What the other has nothing of by the same name."""

        def less(one: tuple[Any, ...], two: tuple[Any, ...]) -> tuple[Any, ...]:
            kept = {row.name for row in two}
            return tuple(row for row in one if row.name not in kept)

        return replace(
            self,
            bonds=less(self.bonds, other.bonds),
            vlans=less(self.vlans, other.vlans),
            ports=less(self.ports, other.ports),
            former=less(self.former, other.former),
            leased=tuple(name for name in self.leased if name not in other.leased),
            brought=less(self.brought, other.brought),
        )


NO_LINKS = Links()


def decode(top: Row) -> Links:
    """Takes its keys out of the document. Raises WrongInput."""
    return Links(
        bonds=tuple(_bond(row) for row in top.rows("bonds")),
        vlans=tuple(_vlan(row) for row in top.rows("vlans")),
        ports=tuple(_port(row) for row in top.rows("ports")),
        former=tuple(_former(row) for row in top.rows("former")),
        leased=tuple(_name(row) for row in top.rows("leased")),
        uplinks=tuple(_name(row) for row in top.rows("uplinks")),
        brought=tuple(_brought(row) for row in top.rows("brought")),
    )


def encode(links: Links) -> dict[str, Any]:
    return {
        "bonds": [
            {
                "name": bond.name,
                "members": [{"name": member} for member in bond.members],
                "mode": bond.mode,
                "miimon_ms": bond.miimon_ms,
                "updelay_ms": bond.updelay_ms,
                "lacp_rate": bond.lacp_rate,
                "mtu": bond.mtu_octets,
            }
            for bond in links.bonds
        ],
        "vlans": [
            {"name": vlan.name, "port": vlan.port, "id": vlan.vlan_id, "mtu": vlan.mtu_octets} for vlan in links.vlans
        ],
        "ports": [{"name": port.name, "mtu": port.mtu_octets} for port in links.ports],
        "former": [{"name": port.name, "mtu": port.mtu_octets, "up": port.up} for port in links.former],
        "leased": [{"name": name} for name in links.leased],
        "uplinks": [{"name": name} for name in links.uplinks],
        "brought": [{"name": device.name, "index": device.index} for device in links.brought],
    }


def _bond(row: Row) -> Bond:
    bond = Bond(
        name=row.parse("name", device_name),
        members=tuple(_name(member) for member in row.rows("members")),
        mode=row.parse("mode", one_of(tuple(BOND_MODES))),
        miimon_ms=row.number("miimon_ms", 1, 60_000),
        updelay_ms=row.number("updelay_ms", 0, 60_000),
        lacp_rate=row.parse("lacp_rate", one_of(tuple(LACP_RATES))),
        mtu_octets=row.maybe_number("mtu", *MTU_OCTETS),
    )
    if not 1 <= len(bond.members) <= MEMBERS_LIMIT:
        raise row.fault("members", f"a bond has 1 to {MEMBERS_LIMIT} members")
    row.end()
    return bond


def _vlan(row: Row) -> Vlan:
    vlan = Vlan(
        name=row.parse("name", device_name),
        port=row.parse("port", device_name),
        vlan_id=row.number("id", 1, 4094),
        mtu_octets=row.maybe_number("mtu", *MTU_OCTETS),
    )
    row.end()
    return vlan


def _port(row: Row) -> Port:
    port = Port(row.parse("name", device_name), row.maybe_number("mtu", *MTU_OCTETS))
    row.end()
    return port


def _former(row: Row) -> Former:
    port = Former(row.parse("name", device_name), row.number("mtu", *MTU_OCTETS), row.take("up", bool))
    row.end()
    return port


def _brought(row: Row) -> Brought:
    device = Brought(row.parse("name", device_name), row.number("index", 0, INDEX_LIMIT))
    row.end()
    return device


def _name(row: Row) -> str:
    name = row.parse("name", device_name)
    row.end()
    return name
