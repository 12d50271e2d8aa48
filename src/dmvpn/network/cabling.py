"""Which VLANs the switch ports at a router carry, tagged and untagged: what whoever sets up the switch must know."""

from collections.abc import Iterator
from dataclasses import dataclass

from dmvpn.network.plan import Bond, BondMode, Plan

BOND_NOTES = {
    BondMode.ACTIVE_BACKUP: "may be on two switches, and on one without any setting",
    BondMode.LACP: "must be one LACP group of one switch, or of a stack of switches",
    BondMode.BALANCE_TLB: "may be on two switches that are joined; on them no LACP and no bridge of the router's",
}


@dataclass(frozen=True, slots=True)
class Carried:
    """One uplink or network. `vlan_id` None: untagged."""

    vlan_id: int | None
    what: str


@dataclass(frozen=True, slots=True)
class SwitchPort:
    """The switch port at one port of the router, which is a member of `bond` or of none ("")."""

    port: str
    bond: str
    untagged: tuple[str, ...]
    tagged: tuple[Carried, ...]


@dataclass(frozen=True, slots=True)
class AccessPort:
    """A switch port that is no router's: it carries one VLAN, untagged."""

    what: str  # the CPE of uplink isp1, or hosts of network lan
    vlan_id: int


@dataclass(frozen=True, slots=True)
class Cabling:
    """`direct` are ISPs' and hosts' cables that need no VLAN: whatever is on such a port is untagged."""

    router: str
    ports: tuple[SwitchPort, ...]
    access: tuple[AccessPort, ...]
    notes: tuple[str, ...]


def cabling(plan: Plan) -> Cabling:
    carried: dict[str, list[Carried]] = {}
    access: list[AccessPort] = []
    vlans = {vlan.name: vlan for vlan in plan.vlans}
    for device, what, far in _uses(plan):
        vlan = vlans.get(device)
        port, vlan_id = (device, None) if vlan is None else (vlan.port, vlan.vlan_id)
        row = Carried(vlan_id, what)
        if row not in carried.setdefault(port, []):
            carried[port].append(row)
            access += [] if vlan_id is None else [AccessPort(far, vlan_id)]
    return Cabling(
        router=plan.router,
        ports=tuple(_ports(plan, carried)),
        access=tuple(sorted(access, key=lambda one: one.vlan_id)),
        notes=tuple(f"{' and '.join(bond.members)}: {_note(bond)}" for bond in plan.bonds),
    )


def _note(bond: Bond) -> str:
    if len(bond.members) > 1:
        return BOND_NOTES[bond.mode]
    alone = f"the only member of {bond.name}, so that nothing takes over for it"
    return f"{alone}; must be an LACP group by itself" if bond.mode is BondMode.LACP else alone


def _uses(plan: Plan) -> Iterator[tuple[str, str, str]]:
    """Device, what is on it, and what is at the far end."""
    for lan in plan.lans:
        yield lan.device, lan.name, f"hosts of network {lan.name}"
    for uplink in plan.uplinks:
        yield uplink.carrier or uplink.device, uplink.name, f"the CPE of uplink {uplink.name}"


def _ports(plan: Plan, carried: dict[str, list[Carried]]) -> Iterator[SwitchPort]:
    members = {member: bond.name for bond in plan.bonds for member in bond.members}
    names = [*members, *(port.name for port in plan.ports)]
    for name in names:
        rows = carried.get(members.get(name, name), [])
        tagged = sorted((row for row in rows if row.vlan_id is not None), key=lambda row: row.vlan_id or 0)
        untagged = tuple(row.what for row in rows if row.vlan_id is None)
        yield SwitchPort(name, members.get(name, ""), untagged, tuple(tagged))
