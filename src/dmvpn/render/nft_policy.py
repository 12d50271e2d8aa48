"""The zone policy in the network's nftables table, and what the router itself needs whatever the policy says.

Needed are: what the Plan opens (IKE, ESP, GRE out of ESP, routing), what its uplinks and networks take to work (DHCP),
pings that dmvpnd tries its paths with, and connections by which it sees whether an uplink works. Never allowed are
internal addresses on an uplink: coming from there they are forged, going there they have lost their tunnel.
"""

from collections.abc import Iterator
from ipaddress import ip_network

from dmvpn.firewall import nft
from dmvpn.firewall.assembly import DERIVED, Needs, assemble
from dmvpn.firewall.catalogue import PROTOCOLS
from dmvpn.firewall.policy import Network, PortRange, Traffic
from dmvpn.firewall.prefixes import of_family
from dmvpn.firewall.ruleset import Entry, Hook, Packets, Ports, Ruleset, State, Verdict
from dmvpn.network.plan import Opening, Plan, Plane
from dmvpn.render.words import word

TCP, UDP = 6, 17
ECHO = {4: Traffic(1, types=(8,), family=4), 6: Traffic(58, types=(128,), family=6)}
DHCP_CLIENT, DHCP_SERVER = {4: 68, 6: 546}, {4: 67, 6: 547}  # RFC 2131 4.1, RFC 8415 7.2
DNS = tuple(Traffic(protocol, (PortRange(53, 53),)) for protocol in (TCP, UDP))
IGMP = Traffic(PROTOCOLS["igmp"], family=4)


def lines(plan: Plan) -> list[str]:
    """Chains, sets and counters of the policy; none without one."""
    rules = ruleset(plan)
    return [] if rules is None else nft.lines(rules)


def ruleset(plan: Plan) -> Ruleset | None:
    """The policy with the router's needs, as chains; None without a policy."""
    return None if plan.policy is None else assemble(plan.policy, needs(plan))


def needs(plan: Plan) -> Needs:
    then: dict[Hook, tuple[Entry, ...]] = {}
    for hook, entry in (*_openings(plan), *_addresses(plan), *_pings(plan), *_probes(plan), *_questions(plan)):
        then[hook] = (*then.get(hook, ()), entry)
    first: dict[Hook, tuple[Entry, ...]] = {}
    for hook, entry in _never(plan):
        first[hook] = (*first.get(hook, ()), entry)
    return Needs(first, then)


def _outside(plan: Plan) -> tuple[str, ...]:
    return tuple(dict.fromkeys(word(uplink.device, "device") for uplink in plan.uplinks))


def _families(prefixes: tuple[Network, ...]) -> Iterator[tuple[int, tuple[Network, ...]]]:
    for family in (4, 6):
        found = of_family(prefixes, family)
        if found:
            yield family, found


Placed = Iterator[tuple[Hook, Entry]]


def _never(plan: Plan) -> Placed:
    """Internal addresses on an uplink; and what source NAT must not touch."""
    outside = _outside(plan)
    for family, internal in _families(plan.prefixes):
        forged = Packets(device_in=outside, family=family, source=internal)
        lost = Packets(device_out=outside, family=family, destination=internal)
        for hook in (Hook.FILTER_IN, Hook.FILTER_THROUGH):
            yield hook, Entry(forged, Verdict.DROP, f"{DERIVED}internal addresses come from inside", "dropped.forged")
        for hook in (Hook.FILTER_THROUGH, Hook.FILTER_OUT):
            yield hook, Entry(lost, Verdict.REJECT, f"{DERIVED}internal addresses stay inside", "dropped.lost")
        yield Hook.NAT_AFTER, Entry(lost, Verdict.ACCEPT, f"{DERIVED}internal addresses stay as they are")
        hidden = internal if family == 4 else _translated(plan, internal)
        if hidden:
            # Connection tracking has lost it, so NAT would let it out as it is.
            invalid = Packets(device_out=outside, family=family, source=hidden, states=(State.INVALID,))
            why = f"{DERIVED}nothing leaves with an internal address"
            yield Hook.FILTER_THROUGH, Entry(invalid, Verdict.DROP, why, "dropped.untranslated")
    if any(cloud.plane is Plane.KERNEL for cloud in plan.clouds):
        yield Hook.NAT_AFTER, Entry(Packets(ipsec_out=True), Verdict.ACCEPT, f"{DERIVED}what ESP carries")
    own = Packets(family=plan.transport_range.version, source=(plan.transport_range,))
    yield Hook.NAT_AFTER, Entry(own, Verdict.ACCEPT, f"{DERIVED}transport addresses")


def _translated(plan: Plan, internal: tuple[Network, ...]) -> tuple[Network, ...]:
    """Internal IPv6 networks that source NAT hides: others are their hosts' addresses out there as well."""
    hidden: list[Network] = []
    for nat in plan.policy.source_nat if plan.policy is not None else ():
        if nat.to is not None and 6 in nat.match.families:
            of = internal if nat.match.source is None else [net for net in nat.match.source if net.version == 6]
            hidden += [_narrower(net, own) for net in of for own in internal if net.overlaps(own)]
    return tuple(dict.fromkeys(hidden))


def _narrower(one: Network, other: Network) -> Network:
    return max(one, other, key=lambda net: net.prefixlen)


def _openings(plan: Plan) -> Placed:
    for opening in plan.openings:
        if opening.protocol == "icmp":
            continue  # errors pass by themselves, pings by the policy
        come, go = _devices(plan, opening)
        origin = f"{DERIVED}{opening.why}"
        ports = tuple(PortRange(port, port) for port in opening.ports)
        traffic = Traffic(PROTOCOLS[opening.protocol], ports)
        for packets, hook in ((come, Hook.FILTER_IN), (go, Hook.FILTER_OUT)):
            yield hook, Entry(_with(packets, traffic), Verdict.ACCEPT, origin)
        if ports and traffic.protocol == UDP:
            # Peers behind NAT have other ports than ours, and a rule set may be younger than what goes on.
            back = Packets(device_out=go.device_out, source_ports=Ports(UDP, ports))
            yield Hook.FILTER_OUT, Entry(back, Verdict.ACCEPT, origin)
    yield Hook.FILTER_OUT, Entry(Packets(family=4, traffic=(IGMP,)), Verdict.ACCEPT, f"{DERIVED}multicast groups")


def _with(packets: Packets, traffic: Traffic) -> Packets:
    return Packets(
        device_in=packets.device_in,
        device_out=packets.device_out,
        group_in=packets.group_in,
        group_out=packets.group_out,
        ipsec_in=packets.ipsec_in,
        ipsec_out=packets.ipsec_out,
        traffic=(traffic,),
    )


def _devices(plan: Plan, opening: Opening) -> tuple[Packets, Packets]:
    """Where an opening is, coming and going. GRE out of ESP is known by where it came from: charon's device on the
    userspace plane, an SA on the kernel's, if no cloud of the router is in clear."""
    if opening.protocol == "gre":
        if all(cloud.plane is Plane.USERSPACE for cloud in plan.clouds):
            return Packets(group_in=plan.registry.ipsec_group), Packets(group_out=plan.registry.ipsec_group)
        if all(cloud.encrypted for cloud in plan.clouds):
            return Packets(ipsec_in=True), Packets(ipsec_out=True)
    devices = tuple(word(device, "device") for device in opening.devices) or None
    return Packets(device_in=devices), Packets(device_out=devices)


def _addresses(plan: Plan) -> Placed:
    """DHCP: as a client on uplinks that have their address by it, as a server in the site's networks.

    IPv6's also where advertisements say the address: they may send a router to DHCP.
    """
    clients = tuple(word(uplink.device, "device") for uplink in plan.uplinks if uplink.dhcp)
    clients6 = tuple(word(uplink.device, "device") for uplink in plan.uplinks if uplink.dhcp or uplink.autoconf)
    servers = tuple(dict.fromkeys(word(lan.device, "device") for lan in plan.lans if lan.dhcp))
    for families, own, theirs, why in (
        (((4, clients), (6, clients6)), DHCP_CLIENT, DHCP_SERVER, "addresses of uplinks"),
        (((4, servers), (6, servers)), DHCP_SERVER, DHCP_CLIENT, "addresses for hosts"),
    ):
        for family, devices in families:
            if not devices:
                continue
            come = Traffic(UDP, (PortRange(own[family], own[family]),), family=family)
            go = Traffic(UDP, (PortRange(theirs[family], theirs[family]),), family=family)
            into = Packets(device_in=devices, family=family, traffic=(come,))
            out = Packets(device_out=devices, family=family, traffic=(go,))
            yield Hook.FILTER_IN, Entry(into, Verdict.ACCEPT, f"{DERIVED}{why}")
            yield Hook.FILTER_OUT, Entry(out, Verdict.ACCEPT, f"{DERIVED}{why}")


def _pings(plan: Plan) -> Placed:
    """dmvpnd tries paths with them; uplinks are watched by them."""
    clouds = tuple(word(cloud.device, "device") for cloud in plan.clouds)
    for family, echo in ECHO.items():
        into = Packets(device_in=clouds, family=family, traffic=(echo,))
        yield Hook.FILTER_IN, Entry(into, Verdict.ACCEPT, f"{DERIVED}pings that try a path")
        out = Packets(device_out=(*clouds, *_outside(plan)), family=family, traffic=(echo,))
        yield Hook.FILTER_OUT, Entry(out, Verdict.ACCEPT, f"{DERIVED}pings that try a path")


def _probes(plan: Plan) -> Placed:
    """Uplinks that are watched by TCP: without an answer one is offline for good."""
    for uplink in plan.uplinks:
        for target in uplink.watch.targets:
            if target.port is not None:
                family, asked = target.address.version, Traffic(TCP, (PortRange(target.port, target.port),))
                device = (word(uplink.device, "device"),)
                out = Packets(
                    device_out=device, family=family, destination=(ip_network(target.address),), traffic=(asked,)
                )
                yield Hook.FILTER_OUT, Entry(out, Verdict.ACCEPT, f"{DERIVED}probes of uplinks")


def _questions(plan: Plan) -> Placed:
    """Hubs that are known by name need an answer of the DNS before there is a tunnel."""
    named = any(isinstance(endpoint, str) for cloud in plan.clouds for hub in cloud.hubs for endpoint in hub.endpoints)
    if named:
        out = Packets(device_out=_outside(plan), traffic=DNS)
        yield Hook.FILTER_OUT, Entry(out, Verdict.ACCEPT, f"{DERIVED}names of hubs")
