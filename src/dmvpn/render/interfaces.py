"""network.json: links, devices, addresses, routes, rules, policies and sysctls as dmvpn.linux.netstate keeps them.

What a client brings (DHCP, PPP) is not in it; the devices that it comes to are.
"""

from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address, ip_network
from typing import Any

from dmvpn.errors import Fault
from dmvpn.network.plan import Address, Bond, Cloud, Interface, Network, Plan, Plane, Role, Uplink
from dmvpn.render.layout import Layout
from dmvpn.render.result import TUN, Change, File, Needs, Rendered, Unit, ours
from dmvpn.render.words import as_json, word

NAME = "interfaces"
FILE = "network.json"

MAIN_TABLE = 254
NEXT_HOPS_RESOLVED_IN_PHASE = 2
HOST_LENGTH = 32

# zebra reads the metric's high octet as the administrative distance (FRR manual, "Kernel routes"): 255 is never best,
# so BGP's route of the same prefix wins in zebra as it does in the kernel.
LAST_METRIC = 4278198272

# A tunnel's link-local address: the device makes none by itself, and routing daemons want one before they speak IPv6
# there. BGP's names no next hop and is unique whatever the overlay, RFC 5214 6.1. OSPF's has the overlay address's last
# 64 bits, so that others know whose it is without asking: dmvpn.linux.link_local.
LINK_LOCAL, ISATAP = 0xFE80 << 112, 0x5EFE << 32
INTERFACE_ID = (1 << 64) - 1  # RFC 4291 2.5.1

TAP_MAC_PREFIX = (0x02, 0x00)  # locally administered; the NBMA address is the rest


def tap_mac(nbma: Address) -> str:
    """The MAC that spells an NBMA address on the userspace plane. Raises Fault for IPv6: it does not fit."""
    if not isinstance(nbma, IPv4Address):
        raise Fault("transport", f"{nbma}: the userspace plane has IPv4 transport addresses only", "use an IPv4 range")
    return ":".join(f"{octet:02x}" for octet in (*TAP_MAC_PREFIX, *nbma.packed))


def render(plan: Plan, layout: Layout) -> Rendered:
    """Everything the kernel must know before the daemons start."""
    _refuse_equal_keys(plan.clouds)
    document: dict[str, Any] = {
        "version": 1,
        "network": plan.network,
        "state": str(layout.run / "network.state.json"),
        **_links(plan),
        "devices": [_device(plan, cloud) for cloud in plan.clouds],
        "addresses": [{"device": device, "address": str(address)} for device, address in _addresses(plan)],
        "routes": [*_unreachable(plan), *_on_link(plan), *_defaults(plan), *_to_underlay(plan), *_behind(plan)],
        "rules": [*_rules(plan)],
        "policies": list(_policies(plan)),
        "sysctls": dict(_sysctls(plan)),
    }
    file = File((layout.current / FILE).relative_to(layout.current), as_json(document))
    keep = ("python3", "-m", "dmvpn.linux.netstate")
    path = str(layout.current / FILE)
    return Rendered(
        engine=NAME,
        files=(file,),
        checks=(ours("dmvpn.linux.netstate_file", file),),
        units=(
            Unit(
                name=f"dmvpn-{plan.network}-network",
                argv=(*keep, "apply", path),
                package="opendmvpn",
                daemon=False,
                reload=(*keep, "restore", path),
                stop=(*keep, "remove", path),
                reads=(file.path,),
                on_change=Change.RELOAD,
                needs=Needs(
                    capabilities=("NET_ADMIN",),
                    families=("UNIX", "NETLINK", "INET", "INET6"),
                    devices=(TUN,),
                    tunes=True,
                ),
            ),
        ),
    )


def _links(plan: Plan) -> dict[str, list[dict[str, Any]]]:
    """Without the empty lists."""
    found: dict[str, list[dict[str, Any]]] = {
        "bonds": [_bond(bond) for bond in plan.bonds],
        "vlans": [
            {"name": word(vlan.name, "device"), "port": vlan.port, "id": vlan.vlan_id, "mtu": vlan.mtu_octets}
            for vlan in plan.vlans
        ],
        "ports": [{"name": word(port.name, "device"), "mtu": port.mtu_octets} for port in plan.ports],
        "leased": [{"name": word(uplink.device, "device")} for uplink in plan.uplinks if uplink.leased],
        "uplinks": [{"name": word(uplink.carrier, "device")} for uplink in plan.uplinks if len(plan.uplinks) > 1],
    }
    return {key: rows for key, rows in found.items() if rows}


def below(plan: Plan) -> list[str]:
    """Ports of the machine that the file makes something of, members of bonds, and the bonds and VLANs themselves."""
    names = {member for bond in plan.bonds for member in bond.members}
    names |= (
        {bond.name for bond in plan.bonds} | {vlan.name for vlan in plan.vlans} | {port.name for port in plan.ports}
    )
    return sorted(names)


def _bond(bond: Bond) -> dict[str, Any]:
    return {
        "name": word(bond.name, "device"),
        "members": [{"name": word(member, "device")} for member in bond.members],
        "mode": bond.mode.value,
        "miimon_ms": bond.miimon_ms,
        "updelay_ms": bond.updelay_ms,
        "lacp_rate": bond.lacp_rate.value,
        "mtu": bond.mtu_octets,
    }


def _rules(plan: Plan) -> Iterator[dict[str, Any]]:
    registry = plan.registry
    # A policy's marks are for rules of the machine's own, which nothing internal may follow. With several uplinks such
    # a rule stands before marks of ours anyway: it is dmvpn.linux.uplink_tables'.
    if plan.policy is not None and plan.policy.marks and len(plan.uplinks) < 2:
        internal = {prefix.version for prefix in plan.prefixes}
        for version in sorted(internal | ({6} if _has_ipv6(plan) else set())):
            rule = {"priority": registry.uplink_priority - 1, "table": MAIN_TABLE, "family": version}
            yield rule | {"specific": True}


def _has_ipv6(plan: Plan) -> bool:
    return any(address.version == 6 for cloud in plan.clouds for address in cloud.addresses)


def _device(plan: Plan, cloud: Cloud) -> dict[str, Any]:
    match cloud.plane:
        case Plane.USERSPACE:
            return {
                "name": word(cloud.device, "device"),
                "kind": "tap",
                "mac": tap_mac(plan.transport),
                "mtu": cloud.mtu_octets,
                "neighbour_upcalls": True,
            }
        case Plane.KERNEL:
            return {
                "name": word(cloud.device, "device"),
                "kind": "gre",
                "key": cloud.gre_key,
                "ttl": cloud.ttl,
                "mtu": cloud.mtu_octets,
                "neighbour_upcalls": True,
            }


def _refuse_equal_keys(clouds: tuple[Cloud, ...]) -> None:
    """All clouds share one transport address: the key alone says whose packet it is. RFC 2890 2.1."""
    seen: dict[int | None, str] = {}
    for cloud in clouds:
        if cloud.gre_key in seen:
            raise Fault(
                f"clouds.{cloud.name}.gre-key",
                f"the same as of {seen[cloud.gre_key]}, on one router",
                "give each cloud its own key",
            )
        seen[cloud.gre_key] = cloud.name


def _policies(plan: Plan) -> Iterator[dict[str, Any]]:
    """XFRM policies under charon's: when charon's are gone these are what is left, and they block. ip-xfrm(8).

    What is forwarded is held against those for "out" as well; "fwd" would only have each packet looked up once more. By
    address for GRE between transport addresses; by the cloud's key for all its GRE, whatever the addresses: a packet
    in clear for the mGRE device, which has no address of its own, and a foreign peer's without its SA.
    """
    closed = [cloud for cloud in plan.clouds if cloud.plane is Plane.KERNEL and cloud.encrypted]
    if not closed:
        return
    ours = str(plan.transport_range)
    yield from ({"direction": direction, "destination": ours} for direction in ("out", "in"))
    yield from ({"direction": direction, "source": ours} for direction in ("out", "in"))
    for cloud in closed:
        yield from ({"direction": direction, "gre_key": cloud.gre_key or 0} for direction in ("out", "in"))


def _addresses(plan: Plan) -> Iterator[tuple[str, Interface | str]]:
    yield "lo", str(ip_network(plan.transport))
    for uplink in plan.uplinks:
        if not uplink.dhcp:
            yield from ((word(uplink.device, "device"), address) for address in uplink.addresses)
    for lan in plan.lans:
        yield word(lan.device, "device"), lan.address
    for cloud in plan.clouds:
        for address in cloud.addresses:
            yield word(cloud.device, "device"), _overlay_address(cloud, address)
        for address in cloud.addresses:
            if address.version == 6:
                end = int(address) & INTERFACE_ID if cloud.bgp is None else ISATAP | int(plan.transport) & 0xFFFFFFFF
                yield word(cloud.device, "device"), f"{IPv6Address(LINK_LOCAL | end)}/64"


def _overlay_address(cloud: Cloud, address: Address) -> str:
    """A hub has the whole overlay on link and asks NHRP for each; a spoke reaches the others by BGP and shortcuts."""
    met = cloud.ospf or cloud.rip
    if met is not None and address.version == 4:
        return f"{address}/{met.length}"
    if met is None and cloud.role is Role.SPOKE:
        return str(ip_network(address))
    for overlay in cloud.overlay:
        if address in overlay:
            return f"{address}/{overlay.prefixlen}"
    raise Fault(f"clouds.{cloud.name}.overlay", f"{address} is in no overlay of the cloud")


def _unreachable(plan: Plan) -> Iterator[dict[str, Any]]:
    """Internal destinations end here when nothing better is known: they must never follow the default route to an ISP.

    For the transport range it is one of the three guards against GRE in clear; on the kernel plane it stands behind the
    route into the tunnel, in case the device is down.
    """
    for prefix in dict.fromkeys((plan.transport_range, *plan.prefixes)):
        yield {
            "prefix": str(prefix),
            "kind": "unreachable",
            "table": MAIN_TABLE,
            "metric": LAST_METRIC,
            "protocol": plan.registry.route_protocol,
        }


def _on_link(plan: Plan) -> Iterator[dict[str, Any]]:
    """A spoke's own address is a host address, so its next hops are not on link without these: its hubs, and in
    phase 2, where BGP names them, all of the overlay. With OSPF both have the same length, which says whether.
    """
    for cloud in plan.clouds:
        met = cloud.ospf or cloud.rip
        on_link = cloud.role is Role.HUB if met is None else met.length < HOST_LENGTH
        if on_link:
            continue
        near: list[Network] = [ip_network(overlay) for hub in cloud.hubs for overlay in hub.overlay]
        near += cloud.overlay if cloud.role is Role.HUB else ()
        near += cloud.overlay if cloud.nhrp.phase == NEXT_HOPS_RESOLVED_IN_PHASE else ()
        for prefix in near:
            source = next((own for own in cloud.addresses if own.version == prefix.version), None)
            if source is None:
                continue
            yield {
                "prefix": str(prefix),
                "kind": "unicast",
                "device": word(cloud.device, "device"),
                "scope": "link",
                "source": str(source),
                "table": MAIN_TABLE,
                "protocol": plan.registry.route_protocol,
            }


def _defaults(plan: Plan) -> Iterator[dict[str, Any]]:
    everything: dict[int, Network] = {4: ip_network("0.0.0.0/0"), 6: ip_network("::/0")}
    for uplink in plan.uplinks:
        for gateway in uplink.gateways:
            if uplink.is_beside(gateway):
                yield {
                    "prefix": str(ip_network(gateway)),
                    "kind": "unicast",
                    "device": word(uplink.device, "device"),
                    "metric": uplink.metric,
                    "table": MAIN_TABLE,
                    "protocol": plan.registry.route_protocol,
                }
            yield {
                "prefix": str(everything[gateway.version]),
                "kind": "unicast",
                "device": word(uplink.device, "device"),
                "gateway": str(gateway),
                "metric": uplink.metric,
                "table": MAIN_TABLE,
                "protocol": plan.registry.route_protocol,
            }


def _to_underlay(plan: Plan) -> Iterator[dict[str, Any]]:
    """A peer without a transport address knows us by the address of one uplink, so GRE to it leaves by that one."""
    if len(plan.uplinks) == 1:
        return
    seen: set[Address] = set()
    for cloud in plan.clouds:
        uplink = _uplink_of(plan, cloud)
        if uplink is None:
            continue
        for peer in cloud.foreign:
            gateway = next((one for one in uplink.gateways if peer.nbma and one.version == peer.nbma.version), None)
            on_link = any(peer.nbma in address.network for address in uplink.addresses)
            if peer.nbma is None or gateway is None or on_link or peer.nbma in seen:
                continue
            seen.add(peer.nbma)
            yield {
                "prefix": str(ip_network(peer.nbma)),
                "kind": "unicast",
                "device": word(uplink.device, "device"),
                "gateway": str(gateway),
                "source": str(cloud.underlay_address),
                "table": MAIN_TABLE,
                "protocol": plan.registry.route_protocol,
            }


def _behind(plan: Plan) -> Iterator[dict[str, Any]]:
    """Networks behind other routers of the site."""
    for route in plan.routes:
        yield {
            "prefix": str(route.prefix),
            "kind": "unicast",
            "device": word(route.device, "device"),
            "gateway": str(route.via),
            "table": MAIN_TABLE,
            "protocol": plan.registry.route_protocol,
        }


def _uplink_of(plan: Plan, cloud: Cloud) -> Uplink | None:
    """The uplink that has the cloud's underlay address."""
    own = cloud.underlay_address
    return next((one for one in plan.uplinks if own in [address.ip for address in one.addresses]), None)


def _sysctls(plan: Plan) -> Iterator[tuple[str, str]]:
    yield "net.ipv4.ip_forward", "1"
    # Without it a router sends full-size packets into a tunnel whose path it already knows to be narrower.
    yield "net.ipv4.ip_forward_use_pmtu", "1"
    # Shortcuts make paths asymmetric: a packet may come straight from a peer whose prefix is still routed by the hub.
    yield "net.ipv4.conf.all.rp_filter", "2"
    yield "net.ipv4.conf.all.accept_redirects", "0"
    # A hub sends most packets out where they came in. ICMP redirects would name an overlay next hop to LAN hosts; the
    # indication is NHRP's. The kernel sends if either of all and the device says so.
    yield "net.ipv4.conf.all.send_redirects", "0"
    if sum(uplink.weight > 0 for uplink in plan.uplinks) > 1:
        # Connections are shared, not destinations: by addresses alone one busy pair of hosts would be one share.
        yield "net.ipv4.fib_multipath_hash_policy", "1"
    for cloud in plan.clouds:
        yield f"net.ipv4.conf.{word(cloud.device, 'device')}.send_redirects", "0"
    in_overlay, at_lan = _has_ipv6(plan), any(lan.address.version == 6 for lan in plan.lans)
    if in_overlay or at_lan or any(own.version == 6 for uplink in plan.uplinks for own in uplink.addresses):
        # A device that is switched off and on again has its IPv4 addresses still; IPv6 ones the kernel would take away.
        yield "net.ipv6.conf.all.keep_addr_on_down", "1"
    if in_overlay or at_lan:  # hosts may have IPv6 for the Internet alone
        yield "net.ipv6.conf.all.forwarding", "1"
        yield "net.ipv6.conf.all.accept_redirects", "0"
        if sum(uplink.weight > 0 for uplink in plan.uplinks) > 1:
            yield "net.ipv6.fib_multipath_hash_policy", "1"
    for cloud in plan.clouds if in_overlay else ():
        # All routers derive their link-local address from a MAC that is unique in the network; asking nobody costs 1 s.
        yield f"net.ipv6.conf.{word(cloud.device, 'device')}.accept_dad", "0"
