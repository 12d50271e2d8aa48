"""The links of a router as a file for ifupdown-ng: interfaces(5), interfaces-bond(5), interfaces-vlan(5)."""

from collections.abc import Iterator
from pathlib import PurePosixPath

from dmvpn.network.plan import Bond, BondMode, Plan, Uplink
from dmvpn.render.result import File
from dmvpn.render.words import word

PLACE = PurePosixPath("etc/network/interfaces.d")


def files(plan: Plan) -> tuple[File, ...]:
    """One file; /etc/network/interfaces must have `source-directory /etc/network/interfaces.d`."""
    stanzas = "\n".join("\n".join(stanza) + "\n" for stanza in _stanzas(plan))
    return (File(PLACE / f"dmvpn-{word(plan.network, 'network')}", f"# Written by dmvpn render.\n{stanzas}"),)


def _stanzas(plan: Plan) -> Iterator[list[str]]:
    mtus = {port.name: port.mtu_octets for port in plan.ports}
    mtus |= {bond.name: bond.mtu_octets for bond in plan.bonds}
    mtus |= {vlan.name: vlan.mtu_octets for vlan in plan.vlans}
    bonds = {bond.name: bond for bond in plan.bonds}
    vlans = {vlan.name: vlan for vlan in plan.vlans}
    uplinks = {uplink.device: uplink for uplink in plan.uplinks if uplink.pppoe is None}
    for name, mtu_octets in mtus.items():
        lines = [f"auto {word(name, 'device')}", f"iface {name}"]
        if name in bonds:
            lines += _bond(bonds[name])
        if name in vlans:
            lines += [f"\tvlan-raw-device {word(vlans[name].port, 'device')}", f"\tvlan-id {vlans[name].vlan_id}"]
        lines += [f"\tmtu {mtu_octets}"] if mtu_octets is not None else []
        lines += [f"\taddress {lan.address}" for lan in plan.lans if lan.device == name]
        if name in uplinks:
            lines += _uplink(uplinks[name])
        yield lines


def _bond(bond: Bond) -> list[str]:
    lines = [f"\tbond-members {' '.join(word(member, 'device') for member in bond.members)}"]
    lines += [f"\tbond-mode {bond.mode.value}", f"\tbond-miimon {bond.miimon_ms}", f"\tbond-updelay {bond.updelay_ms}"]
    if bond.mode is BondMode.LACP:
        return [*lines, f"\tbond-lacp-rate {bond.lacp_rate.value}"]
    return [*lines, f"\tbond-primary {word(bond.members[0], 'device')}"]


def _uplink(uplink: Uplink) -> list[str]:
    lines = [f"\taddress {address}" for address in uplink.addresses]
    lines += [f"\tgateway {gateway}" for gateway in uplink.gateways if not uplink.is_beside(gateway)]
    lines += [
        f"\tup ip route replace default via {gateway} dev {word(uplink.device, 'device')} metric {uplink.metric} onlink"
        for gateway in uplink.gateways
        if uplink.is_beside(gateway)
    ]
    lines += ["\tuse dhcp"] if uplink.dhcp else []
    # Its own ipv6-ra writes 1, which a kernel that forwards takes for no.
    accept_ra = f"/proc/sys/net/ipv6/conf/{word(uplink.device, 'device')}/accept_ra"
    lines += [f"\tup echo 2 >{accept_ra}"] if uplink.autoconf else []
    return [*lines, f"\tmetric {uplink.metric}"]
