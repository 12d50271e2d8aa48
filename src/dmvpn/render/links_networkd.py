"""The links of a router as files for systemd-networkd: systemd.netdev(5), systemd.network(5), networkd.conf(5).

For whoever wants them there before anything of ours, or without it. What dmvpn.linux.netstate finds made is used as it
is, so both can stand side by side.
"""

from collections.abc import Iterator
from pathlib import PurePosixPath

from dmvpn.network.plan import Bond, BondMode, Plan, Uplink
from dmvpn.render.result import File
from dmvpn.render.words import word

PLACE = PurePosixPath("etc/systemd/network")
# Or it takes away each route and rule of ours when it starts anew.
HANDS_OFF = PurePosixPath("etc/systemd/networkd.conf.d")
_FOREIGN = ("[Network]", "ManageForeignRoutes=no", "ManageForeignRoutingPolicyRules=no")


def files(plan: Plan) -> tuple[File, ...]:
    """What makes the links."""
    found = [*_bonds(plan), *_vlans(plan), *_networks(plan), _foreign(plan)]
    return tuple(found)


def hands_off(plan: Plan) -> tuple[File, ...]:
    """What keeps networkd from links that we make and set."""
    names = dict.fromkeys(
        (
            *(member for bond in plan.bonds for member in bond.members),
            *(bond.name for bond in plan.bonds),
            *(port.name for port in plan.ports),
            *(vlan.name for vlan in plan.vlans),
            *(cloud.device for cloud in plan.clouds),
        )
    )
    lines = ("[Match]", f"Name={' '.join(word(name, 'device') for name in names)}", "", "[Link]", "Unmanaged=yes")
    return (_file(PLACE / f"05-dmvpn-{plan.network}.network", lines), _foreign(plan))


def _foreign(plan: Plan) -> File:
    return _file(HANDS_OFF / f"50-dmvpn-{plan.network}.conf", _FOREIGN)


def _file(path: PurePosixPath, lines: tuple[str, ...]) -> File:
    return File(path, "\n".join(("# Written by dmvpn render.", *lines)) + "\n")


def _path(plan: Plan, device: str, suffix: str) -> PurePosixPath:
    return PLACE / f"10-dmvpn-{plan.network}-{word(device, 'device')}.{suffix}"


def _bonds(plan: Plan) -> Iterator[File]:
    for bond in plan.bonds:
        lines = ["[NetDev]", f"Name={word(bond.name, 'device')}", "Kind=bond"]
        lines += [f"MTUBytes={bond.mtu_octets}"] if bond.mtu_octets is not None else []
        lines += ["", "[Bond]", f"Mode={bond.mode.value}", f"MIIMonitorSec={bond.miimon_ms}ms"]
        lines += [f"UpDelaySec={bond.updelay_ms}ms"]
        lines += [f"LACPTransmitRate={bond.lacp_rate.value}"] if bond.mode is BondMode.LACP else []
        yield _file(_path(plan, bond.name, "netdev"), tuple(lines))
        for member in bond.members:
            lines = ["[Match]", f"Name={word(member, 'device')}", "", "[Network]", f"Bond={bond.name}"]
            lines += ["PrimarySlave=yes"] if _is_primary(bond, member) else []
            yield _file(_path(plan, member, "network"), tuple(lines))


def _is_primary(bond: Bond, member: str) -> bool:
    return bond.mode is not BondMode.LACP and member == bond.members[0]


def _vlans(plan: Plan) -> Iterator[File]:
    for vlan in plan.vlans:
        lines = ["[NetDev]", f"Name={word(vlan.name, 'device')}", "Kind=vlan"]
        lines += [f"MTUBytes={vlan.mtu_octets}"] if vlan.mtu_octets is not None else []
        lines += ["", "[VLAN]", f"Id={vlan.vlan_id}"]
        yield _file(_path(plan, vlan.name, "netdev"), tuple(lines))


def _networks(plan: Plan) -> Iterator[File]:
    mtus = {port.name: port.mtu_octets for port in plan.ports}
    uplinks = {uplink.device: uplink for uplink in plan.uplinks if uplink.pppoe is None}
    names = [*mtus, *(bond.name for bond in plan.bonds), *(vlan.name for vlan in plan.vlans)]
    for name in names:
        lines = ["[Match]", f"Name={word(name, 'device')}", "", "[Link]", "RequiredForOnline=no"]
        lines += [f"MTUBytes={mtus[name]}"] if mtus.get(name) is not None else []
        lines += ["", "[Network]", "ConfigureWithoutCarrier=yes"]
        lines += [f"VLAN={vlan.name}" for vlan in plan.vlans if vlan.port == name]
        lines += [f"Address={lan.address}" for lan in plan.lans if lan.device == name]
        uplink = uplinks.get(name)
        if uplink is None:
            lines += ["IPv6AcceptRA=no"]
        else:
            lines += _uplink(uplink)
        yield _file(_path(plan, name, "network"), tuple(lines))


def _uplink(uplink: Uplink) -> list[str]:
    lines = [f"Address={address}" for address in uplink.addresses]
    lines += ["DHCP=ipv4"] if uplink.dhcp else []
    lines += [f"IPv6AcceptRA={'yes' if uplink.autoconf else 'no'}"]
    for gateway in uplink.gateways:
        lines += ["", "[Route]", f"Gateway={gateway}", f"Metric={uplink.metric}"]
        lines += ["GatewayOnLink=yes"] if uplink.is_beside(gateway) else []
    if uplink.dhcp:
        lines += ["", "[DHCPv4]", f"RouteMetric={uplink.metric}", "UseDNS=no", "UseNTP=no", "UseHostname=no"]
    if uplink.autoconf:
        lines += ["", "[IPv6AcceptRA]", f"RouteMetric={uplink.metric}", "UseDNS=no"]
    return lines
