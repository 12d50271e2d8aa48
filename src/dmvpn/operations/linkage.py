"""The links of this router as they are now: bonds, uplinks, networks, and where each address is from."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

from dmvpn.errors import Fault
from dmvpn.linux import netstate_file, networkd
from dmvpn.linux.netstate_facts import LinkFacts
from dmvpn.linux.netstate_file import DeviceAddress
from dmvpn.linux.netstate_kernel import Kernel
from dmvpn.network.plan import Address, Bond, Interface, Plan, Uplink
from dmvpn.operations import reading
from dmvpn.operations.here import Here

STATE_FILE = "network.state.json"
PPP = Path("/dev/ppp")


class Origin(StrEnum):
    STATIC = "static"
    DHCP = "dhcp"
    AUTOCONF = "autoconf"
    PPP = "ppp"
    SHARED = "shared gateway"
    OTHER = "not of this network"


class Condition(StrEnum):
    UP = "up"
    NO_CARRIER = "no carrier"
    DOWN = "down"
    MISSING = "missing"


@dataclass(frozen=True, slots=True)
class AddressRow:
    address: str
    origin: Origin


@dataclass(frozen=True, slots=True)
class MemberRow:
    """A member of a bond. `active`: it carries what the bond sends; in a mode that uses all, each does."""

    device: str
    condition: Condition
    active: bool


@dataclass(frozen=True, slots=True)
class LinkRow:
    """A bond, an uplink or a network. `ours`: we made its device; else the machine had it."""

    what: str  # bond bond0, uplink isp1, network lan
    device: str
    condition: Condition
    mtu_octets: int
    ours: bool
    addresses: tuple[AddressRow, ...] = ()
    members: tuple[MemberRow, ...] = ()
    trouble: str = ""


def rows(here: Here) -> tuple[LinkRow, ...]:
    """Empty to those who may not read what is in force."""
    try:
        loaded = reading.read(here.network_file)
        router = here.router()
        if router is None:
            return ()
        plan = reading.plan_without_secrets(loaded, router)
        made = _made(Path(here.layout.run) / STATE_FILE)
        with Kernel() as kernel:
            links, addresses = kernel.links(), kernel.addresses()
        return tuple(_with_reason(row, plan, links) for row in rows_of(plan, made, links, addresses))
    except (Fault, OSError):
        return ()


def _with_reason(row: LinkRow, plan: Plan, links: Mapping[str, LinkFacts]) -> LinkRow:
    """What of this machine explains a trouble, or is one."""
    uplink = next((one for one in plan.uplinks if row.what == f"uplink {one.name}"), None)
    if uplink is None:
        return row
    if uplink.pppoe is not None and row.condition is Condition.MISSING and not PPP.exists():
        what = f"{row.what}: this kernel has no PPP; load ppp_generic and pppoe on the host (modprobe pppoe)"
        return replace(row, trouble=what)
    link = links.get(uplink.device)
    if uplink.dhcp and link is not None and networkd.leases(link.index):
        what = f"{row.what}: systemd-networkd leases an address on {uplink.device} too; keep one of the two"
        return replace(row, trouble=what)
    return row


def rows_of(
    plan: Plan, made: frozenset[str], links: Mapping[str, LinkFacts], addresses: set[DeviceAddress]
) -> tuple[LinkRow, ...]:
    found = [_bond(bond, made, links) for bond in plan.bonds]
    found += [_uplink(uplink, made, links, addresses) for uplink in plan.uplinks]
    own = {lan.name: {one.address for one in plan.lans if one.name == lan.name} for lan in plan.lans}
    devices = {lan.name: lan.device for lan in plan.lans}
    shared = {gateway.address.ip for gateway in (plan.vrrp.gateways if plan.vrrp is not None else ())}
    for name, static in own.items():
        device = devices[name]
        seen = tuple(
            AddressRow(str(row.address), _whose(row.address, static, shared)) for row in _on(device, addresses)
        )
        found.append(_row(f"network {name}", device, made, links, seen))
    return tuple(found)


def _made(record: Path) -> frozenset[str]:
    return netstate_file.load(record).links.made


def _on(device: str, addresses: set[DeviceAddress]) -> Iterator[DeviceAddress]:
    rows = (row for row in addresses if row.device == device and not row.address.is_link_local)
    return iter(sorted(rows, key=lambda row: (row.address.version, str(row.address))))


def _condition(link: LinkFacts | None) -> Condition:
    if link is None:
        return Condition.MISSING
    if not link.up:
        return Condition.DOWN
    return Condition.UP if link.carrier else Condition.NO_CARRIER


def _is(condition: Condition) -> str:
    return "has no carrier" if condition is Condition.NO_CARRIER else f"is {condition}"


def _row(
    what: str,
    device: str,
    made: frozenset[str],
    links: Mapping[str, LinkFacts],
    addresses: tuple[AddressRow, ...],
    members: tuple[MemberRow, ...] = (),
) -> LinkRow:
    link = links.get(device)
    condition = _condition(link)
    return LinkRow(
        what=what,
        device=device,
        condition=condition,
        mtu_octets=link.mtu_octets if link is not None else 0,
        ours=device in made,
        addresses=addresses,
        members=members,
        trouble="" if condition is Condition.UP else f"{what}: {device} {_is(condition)}",
    )


def _bond(bond: Bond, made: frozenset[str], links: Mapping[str, LinkFacts]) -> LinkRow:
    link = links.get(bond.name)
    if bond.name not in made and (link is None or link.bond is None):
        # Plain links of its VLANs' names stand for it: there is nothing to look at.
        return LinkRow(f"bond {bond.name}", bond.name, Condition.MISSING, 0, ours=False)
    active = link.bond.active if link is not None and link.bond is not None else 0
    members = tuple(_member(name, active, links) for name in bond.members)
    row = _row(f"bond {bond.name}", bond.name, made, links, (), members)
    lacking = [f"{member.device} {_is(member.condition)}" for member in members if member.condition is not Condition.UP]
    if row.trouble or not lacking:
        return row
    return LinkRow(
        row.what, row.device, row.condition, row.mtu_octets, row.ours, (), members, f"{row.what}: {', '.join(lacking)}"
    )


def _member(name: str, active: int, links: Mapping[str, LinkFacts]) -> MemberRow:
    link = links.get(name)
    condition = _condition(link)
    works = condition is Condition.UP and link is not None and active in (0, link.index)
    return MemberRow(name, condition, works)


def _uplink(
    uplink: Uplink, made: frozenset[str], links: Mapping[str, LinkFacts], addresses: set[DeviceAddress]
) -> LinkRow:
    what = f"uplink {uplink.name}"
    seen = tuple(AddressRow(str(row.address), _origin(uplink, row)) for row in _on(uplink.device, addresses))
    row = _row(what, uplink.device, made, links, seen)
    waits = "the ISP's DHCP server" if uplink.dhcp else "the ISP's PPPoE server" if uplink.pppoe is not None else ""
    leased = any(address.origin in (Origin.DHCP, Origin.PPP) for address in seen)
    if row.trouble or not waits or leased:
        return row
    return LinkRow(
        what, row.device, row.condition, row.mtu_octets, row.ours, seen, (), f"{what}: no address from {waits} yet"
    )


def _whose(address: Interface, static: Collection[Interface], shared: Collection[Address]) -> Origin:
    if address in static:
        return Origin.STATIC
    return Origin.SHARED if address.ip in shared else Origin.OTHER


def _origin(uplink: Uplink, row: DeviceAddress) -> Origin:
    if row.address in uplink.addresses:
        return Origin.STATIC
    if uplink.pppoe is not None:
        return Origin.PPP
    if row.address.version == 4:
        return Origin.DHCP if uplink.dhcp else Origin.OTHER
    return Origin.AUTOCONF if uplink.autoconf else Origin.OTHER
