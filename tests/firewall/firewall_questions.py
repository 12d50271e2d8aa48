"""Packets to ask about: between every two devices of a router, of many kinds, in both families and three states."""

from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

from firewall_wires import ICMP, ICMPV6, TCP, UDP, Port

from dmvpn.firewall.policy import Address
from dmvpn.firewall.ruleset import State
from dmvpn.firewall.verdicts import Packet
from dmvpn.network.compile import compile_plan
from dmvpn.network.loading import load
from dmvpn.network.plan import Plan, Plane
from dmvpn.render import nftables
from dmvpn.render.layout import Layout

SITE = (Path(__file__).with_name("site.yaml")).read_text()
CHARON = "ipsec0"
FAR = 15  # more than there are devices
KINDS = (
    (TCP, 22),
    (TCP, 80),
    (TCP, 443),
    (TCP, 179),
    (TCP, 2332),
    (TCP, 8080),
    (UDP, 53),
    (UDP, 123),
    (UDP, 67),
    (UDP, 4500),
    (UDP, 3784),
    (47, None),
    (50, None),
    (89, None),
)
# An error that belongs to no connection, and ICMPv6 that asks nothing, are invalid to connection tracking.
ICMP_TYPES = (
    (ICMP, 8, State.NEW),
    (ICMP, 3, State.INVALID),
    (ICMP, 13, State.NEW),
    (ICMPV6, 128, State.NEW),
    (ICMPV6, 2, State.INVALID),
    (ICMPV6, 144, State.INVALID),
)


def site_plan(policy: str, planes: tuple[Plane, ...] = (Plane.USERSPACE,)) -> Plan:
    """par1's Plan with this policy: YAML in flow style, or indented below `policy:`."""
    return compile_plan(load(f"{SITE}policy:{policy}\n", "site.yaml"), "par1", planes=planes)


def ports(plan: Plan) -> list[Port]:
    """A device for each of the Plan's, and charon's. Hosts end in 77."""
    found = {}
    for lan in plan.lans:
        own, host = lan.address.ip, lan.prefix[77]
        pair = found.setdefault(lan.device, ([], []))
        pair[0].append(own)
        pair[1].append(host)
    made = [Port(device, tuple(own), tuple(host)) for device, (own, host) in found.items()]
    for cloud in plan.clouds:
        own4, own6 = IPv4Address("10.255.1.11"), IPv6Address("fd00:255:1::11")
        made.append(Port(cloud.device, (own4, own6), (IPv4Address("10.9.9.77"), IPv6Address("fd00:9:9::77"))))
    for index, uplink in enumerate(plan.uplinks):
        outer = (IPv4Address(f"198.51.100.{2 + 4 * index}"), IPv6Address(f"2001:db8:{index + 1}::2"))
        far = (IPv4Address(f"203.0.113.{77 + 40 * index}"), IPv6Address(f"2001:db8:{index + 1}::77"))
        made.append(Port(uplink.device, outer, far))
    transport = (IPv4Address(str(plan.transport)), IPv6Address("2001:db8:9::1"))
    peer = (IPv4Address("100.64.1.1"), IPv6Address("2001:db8:9::77"))
    made.append(Port(CHARON, transport, peer, plan.registry.ipsec_group))
    return made


def questions(wired: list[Port]) -> Iterator[Packet]:
    """Every kind of packet between every two devices, and from and to the router."""
    for come in (None, *wired):
        for go in (None, *wired):
            # What has no ports is one connection between two addresses, so each way has a pair of its own.
            number = 0 if come is None or go is None else wired.index(come) + FAR
            other = 0 if come is None or go is None else wired.index(go) + 1
            for family in (0, 1):
                if come is not None:
                    source = come.host[family] + other
                    yield from _between(come, go, source, come.own[family] if go is None else go.host[family] + number)
                elif go is not None:
                    yield from _between(come, go, go.own[family], go.host[family] + FAR - 1)


def _between(come: Port | None, go: Port | None, source: Address, destination: Address) -> Iterator[Packet]:
    family = 0 if source.version == 4 else 1
    basic = Packet(
        device_in=None if come is None else come.device,
        device_out=None if go is None else go.device,
        source=source,
        destination=destination,
        protocol=0,
        group_in=0 if come is None else come.group,
        group_out=0 if go is None else go.group,
        own_address=go is None,
    )
    for protocol, port in KINDS:
        yield replace(basic, protocol=protocol, port=port)
    for protocol, kind, state in ICMP_TYPES:
        if (protocol == ICMPV6) == (family == 1):
            yield replace(basic, protocol=protocol, type=kind, state=state)
    for protocol, port in ((TCP, 22), (UDP, 53)):
        yield replace(basic, protocol=protocol, port=port, state=State.ESTABLISHED)
    yield replace(basic, protocol=TCP, port=443, state=State.INVALID)


def numbered(packets: Iterator[Packet]) -> list[tuple[int, Packet]]:
    """Each with a number and a source port of its own, so that no two are one connection."""
    return [(number, _own_port(number, packet)) for number, packet in enumerate(packets, 1)]


def _own_port(number: int, packet: Packet) -> Packet:
    return replace(packet, source_port=10000 + number) if packet.protocol in (TCP, UDP) else packet


def rules_of(plan: Plan) -> str:
    """The file that nft gets."""
    return nftables.render(plan, Layout(plan.network)).files[0].text
