"""Bonds and VLANs made, changed in place and taken away; ports of the machine used, and given back as they were.

What the machine has under the same name already is used as it is: in a lab or a container, and where the kernel has
neither bonds nor VLANs, a plain link stands for each VLAN.
"""

from collections.abc import Collection, Iterator, Mapping

from dmvpn.errors import Fault
from dmvpn.linux import networkd
from dmvpn.linux.netstate_facts import BondFacts, LinkFacts
from dmvpn.linux.netstate_file import DeviceAddress
from dmvpn.linux.netstate_kernel import Kernel
from dmvpn.linux.netstate_links import BOND_MODES, LACP_RATES, Bond, Former, Links, Vlan

BOND_MTU_OCTETS = 1500
_DOWN_FOR = frozenset({"bond_mode", "bond_ad_lacp_rate"})  # the kernel changes these of a bond that is down
_ONE_AT_A_TIME = ("active-backup", "balance-tlb")  # modes that know a primary

Facts = Mapping[str, LinkFacts]


def ours(wanted: Links, known: Links, facts: Facts, addressed: Collection[str]) -> Links:
    """What of `wanted` we make or made: without what the machine has by these names, and bonds it stands in for.

    `known` is what we and our neighbours have on record, `addressed` the devices that get addresses.
    """
    vlans = tuple(vlan for vlan in wanted.vlans if not _given(vlan.name, "vlan", known, facts))
    below = {vlan.port for vlan in vlans} | set(addressed) | set(wanted.leased)
    bonds = tuple(
        bond
        for bond in wanted.bonds
        if not _given(bond.name, "bond", known, facts)
        and (bond.name in below or any(member in facts for member in bond.members))
    )
    touched = [member for bond in bonds for member in bond.members] + [port.name for port in wanted.ports]
    before = {port.name: port for port in known.former}
    former = tuple(
        before.get(name) or Former(name, facts[name].mtu_octets, facts[name].up) for name in touched if name in facts
    )
    return Links(bonds, vlans, wanted.ports, former, wanted.leased)


def _given(name: str, kind: str, known: Links, facts: Facts) -> bool:
    link = facts.get(name)
    if link is None:
        return False
    if link.kind != kind:
        return True
    return name not in known.made and not (kind == "bond" and _is_empty(link, facts))


def _is_empty(bond: LinkFacts, facts: Facts) -> bool:
    """As the module makes one when it is loaded (its max_bonds): nobody's."""
    return not bond.up and not any(other.master == bond.index for other in facts.values())


def stand_ins(wanted: Links, made: Links, facts: Facts) -> Iterator[str]:
    """In words: which links the machine had already, and bonds that are not there at all."""
    for link in wanted.stacked:
        kind = "bond" if isinstance(link, Bond) else "VLAN"
        if link.name in made.made:
            continue
        if link.name in facts:
            what = facts[link.name].kind or "a port of its own"
            yield f"{kind} {link.name}: the machine has it already ({what}); it is used as it is"
        else:
            yield f"{kind} {link.name}: not made, since the machine has what is on it already"


def check(made: Links, known: Links, facts: Facts, foreign: Collection[DeviceAddress]) -> None:
    """Raises Fault, before anything is touched, for what cannot work or would take a port from somebody else.

    `foreign` are addresses that are not ours.
    """
    for bond in made.bonds:
        there = [member for member in bond.members if member in facts]
        if not there:
            listed = ", ".join(bond.members)
            raise Fault(f"bond {bond.name}", f"this machine has none of its members {listed}", "see `ip link`")
        for member in there:
            _check_member(bond, facts[member], known, facts, foreign)
    for vlan in made.vlans:
        if vlan.port not in facts and vlan.port not in made.made:
            what = f"there is no such device for VLAN {vlan.vlan_id}"
            raise Fault(f"device {vlan.port}", what, "see `ip link`")


def _check_member(bond: Bond, link: LinkFacts, known: Links, facts: Facts, foreign: Collection[DeviceAddress]) -> None:
    masters = {other.index: other.name for other in facts.values()}
    master = masters.get(link.master)
    if master is not None and master != bond.name and master not in known.made:
        fix = f"take it out there: ip link set {link.name} nomaster"
        raise Fault(f"port {link.name}", f"is in {master}, and is to be a member of {bond.name}", fix)
    for row in foreign:
        if row.device == link.name and not row.address.is_link_local:
            what = f"has the address {row.address}, and is to be a member of {bond.name}"
            fix = f"give {bond.name} or a VLAN on it the address in the file, and take it away here"
            raise Fault(f"port {link.name}", what, f"{fix}: ip address del {row.address} dev {link.name}")


def take_away(kernel: Kernel, gone: Links, off: Collection[str]) -> None:
    """VLANs before bonds, and then the ports as they were, but for what is `off`. Only what is still as we made it."""
    facts = kernel.links()
    for vlan in gone.vlans:
        if vlan.name in facts and facts[vlan.name].kind == "vlan":
            kernel.delete_link(facts[vlan.name])
    for bond in gone.bonds:
        if bond.name in facts and facts[bond.name].kind == "bond":
            kernel.delete_link(facts[bond.name])
    for name in gone.leased:
        if name in facts:
            kernel.forget_leases(facts[name])
    now = kernel.links()
    for former in gone.former:
        if former.name in now:
            _give_back(kernel, former, now[former.name], now, off)


def _give_back(kernel: Kernel, former: Former, link: LinkFacts, facts: Facts, off: Collection[str]) -> None:
    master = next((other for other in facts.values() if other.index == link.master), None)
    if master is not None and master.kind == "bond":
        kernel.ask(f"port {link.name}: out of {master.name}", "link", "set", index=link.index, master=0)
    if link.mtu_octets != former.mtu_octets:
        kernel.set_mtu(link, former.mtu_octets)
    if former.up:
        _up(kernel, link, off)
    elif not any(row.device == link.name and not row.address.is_link_local for row in kernel.addresses()):
        kernel.ask(f"port {link.name}: down", "link", "set", index=link.index, state="down")


def taken_down(made: Links, facts: Facts) -> frozenset[str]:
    """What bring() is going to switch off and on: bonds with another mode, and the VLANs on them, whosever they are."""
    bonds = {bond.name for bond in made.bonds if (link := facts.get(bond.name)) and _changes_down(bond, link)}
    below = {facts[name].index for name in bonds}
    return frozenset(bonds | {link.name for link in facts.values() if link.kind == "vlan" and link.parent in below})


def _changes_down(bond: Bond, link: LinkFacts) -> bool:
    return bool(_DOWN_FOR & _settings(bond, link.bond).keys())


def bring(kernel: Kernel, made: Links, off: Collection[str]) -> tuple[str, ...]:
    """Everything there and up but what is `off`, from the ports upwards. Warnings for the log.

    What is as wanted is not touched.
    """
    warnings: list[str] = []
    before = kernel.links()
    for port in made.ports:
        link = before.get(port.name)
        if link is not None:
            _fit(kernel, link, port.mtu_octets, off)
    for bond in made.bonds:
        absent = [member for member in bond.members if member not in before]
        warnings += [f"bond {bond.name}: this machine has no {member}" for member in absent]
        _bond(kernel, bond, kernel.links(), off)
    for vlan in made.vlans:
        _vlan(kernel, vlan, kernel.links(), off)
    _down_again(kernel, before, off)
    facts = kernel.links()
    for former in made.former:
        if former.name in facts and networkd.sets(facts[former.name].index):
            warnings.append(
                f"port {former.name}: systemd-networkd sets it too, and takes away what it did not make; "
                "keep it off: dmvpn render ROUTER --links hands-off"
            )
    for name in made.leased:
        if name not in facts:
            warnings.append(f"device {name}: is not there (yet); what is leased on it waits")
        else:
            _up(kernel, facts[name], off)
    return tuple(warnings)


def _down_again(kernel: Kernel, before: Facts, off: Collection[str]) -> None:
    """The kernel switches a bond's VLANs on with it, another network's too, and a port that becomes a member."""
    for link in kernel.links().values():
        was = before.get(link.name)
        # One that was up by then was switched on again meanwhile.
        if link.name in off and link.up and was is not None and was.index == link.index and not was.up:
            kernel.ask(f"device {link.name}: down", "link", "set", index=link.index, state="down")


def _fit(kernel: Kernel, link: LinkFacts, mtu_octets: int | None, off: Collection[str]) -> None:
    if mtu_octets is not None and link.mtu_octets != mtu_octets:
        kernel.set_mtu(link, mtu_octets)
    _up(kernel, link, off)


def _up(kernel: Kernel, link: LinkFacts, off: Collection[str]) -> None:
    if not link.up and link.name not in off:
        kernel.set_up(link)


def _bond(kernel: Kernel, bond: Bond, facts: Facts, off: Collection[str]) -> None:
    where = f"bond {bond.name}"
    if bond.name not in facts:
        kernel.make_link(where, "bonding", kind="bond", ifname=bond.name, **_settings(bond, None))
        facts = kernel.links()
    link = facts[bond.name]
    changes = _settings(bond, link.bond)
    members = [facts[member] for member in bond.members if member in facts]
    if "bond_mode" in changes:
        # The kernel changes the mode of an empty bond only. VLANs stay on it, and come up again with it.
        for member in members:
            if member.master == link.index:
                kernel.ask(f"{where}: {member.name}", "link", "set", index=member.index, master=0)
        members = [member for name, member in kernel.links().items() if name in bond.members]
    if link.up and _DOWN_FOR & changes.keys():
        kernel.ask(f"{where}: down", "link", "set", index=link.index, state="down")
    if changes:
        kernel.ask(where, "link", "set", index=link.index, kind="bond", **changes)
    by_name = {member.name: member for member in members}
    for name in bond.members:
        if name in by_name and by_name[name].master != link.index:
            _add_member(kernel, bond, by_name[name], link)
    primary = by_name[next(name for name in bond.members if name in by_name)].index
    if bond.mode in _ONE_AT_A_TIME and (link.bond is None or link.bond.primary != primary or "bond_mode" in changes):
        kernel.ask(f"{where}: primary", "link", "set", index=link.index, kind="bond", bond_primary=primary)
    _fit(kernel, kernel.links()[bond.name], bond.mtu_octets or BOND_MTU_OCTETS, off)


def _add_member(kernel: Kernel, bond: Bond, member: LinkFacts, link: LinkFacts) -> None:
    where = f"bond {bond.name}: member {member.name}"
    if member.master:
        kernel.ask(where, "link", "set", index=member.index, master=0)
    kernel.ask(where, "link", "set", index=member.index, state="down")  # or the kernel refuses it
    kernel.ask(where, "link", "set", index=member.index, master=link.index)


def _settings(bond: Bond, now: BondFacts | None) -> dict[str, int]:
    """What differs, as the kernel's attributes, in the order in which it takes them."""
    lacp = bond.mode == "802.3ad"
    wanted = {
        "bond_mode": (BOND_MODES[bond.mode], now and now.mode),
        "bond_miimon": (bond.miimon_ms, now and now.miimon_ms),
        "bond_updelay": (bond.updelay_ms, now and now.updelay_ms),
        **({"bond_ad_lacp_rate": (LACP_RATES[bond.lacp_rate], now and now.lacp_rate)} if lacp else {}),
    }
    return {name: value for name, (value, there) in wanted.items() if value != there}


def _vlan(kernel: Kernel, vlan: Vlan, facts: Facts, off: Collection[str]) -> None:
    where = f"VLAN {vlan.name}"
    port = facts[vlan.port]
    link = facts.get(vlan.name)
    if link is not None and (link.parent, link.vlan_id) != (port.index, vlan.vlan_id):
        kernel.delete_link(link)  # on another port now, or its port was made anew
        link = None
    if link is None:
        off = off if vlan.port in off else ()
        kernel.make_link(where, "8021q", kind="vlan", ifname=vlan.name, link=port.index, vlan_id=vlan.vlan_id)
        link = kernel.links()[vlan.name]
    _up(kernel, port, off)
    if vlan.mtu_octets is not None and vlan.mtu_octets > port.mtu_octets:
        fix = f"give {vlan.port} a larger MTU, or the VLAN a smaller one"
        raise Fault(where, f"MTU {vlan.mtu_octets} is more than {vlan.port} has ({port.mtu_octets})", fix)
    _fit(kernel, link, vlan.mtu_octets or port.mtu_octets, off)
