"""From the lab section and the Plans to the Topology. Pure; every refusal names the key of the file it is about."""

from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface, IPv6Interface
from itertools import count

from dmvpn.errors import WrongInput
from dmvpn.lab import nat
from dmvpn.lab.impairment import Impairment
from dmvpn.lab.topology import DEVICE_NAME_OCTETS, End, LeaseServer, Link, Node, NodeKind, Route, Session, Topology
from dmvpn.network.lab_model import Lab, LabLink, LabNat, LabUplink, NatKind, settled
from dmvpn.network.plan import Address, Plan, Pppoe, Uplink

WAN_ROUTERS_FROM = IPv4Address("198.18.0.0")  # RFC 2544's range: nobody's real address
WAN_MTU_OCTETS = 1500
LEASED_FROM = IPv4Address("198.19.0.0")  # the other half of it
LEASED_BLOCK = 8  # addresses for each uplink
PPPOE_OCTETS = 8  # PPPoE and PPP, RFC 2516 7
EVERYWHERE = {4: "0.0.0.0/0", 6: "::/0"}


def topology_of(lab: Lab, plans: Sequence[Plan]) -> Topology:
    """Raises WrongInput where the file leaves out what a lab needs."""
    drawing = _Drawing(lab, tuple(plans))
    drawing.draw_wan()
    numbers = count()
    for plan in drawing.plans:
        drawing.add_node(plan.router, NodeKind.ROUTER)
        for uplink in plan.uplinks:
            drawing.draw_uplink(plan, uplink, next(numbers))
    drawing.draw_sites()
    drawing.route_wan()
    return Topology(
        network=plans[0].network if plans else "",
        nodes=drawing.nodes,
        links=drawing.links,
        outside={router: tuple(addresses) for router, addresses in drawing.outside.items()},
        names=tuple(drawing.hosts_lines()),
        not_started=(),
    )


class _Drawing:
    """The topology while it grows; `behind` is which addresses each WAN router delivers itself."""

    def __init__(self, lab: Lab, plans: tuple[Plan, ...]) -> None:
        self.lab = lab
        self.plans = plans
        self.nodes: dict[str, Node] = {}
        self.links: dict[str, Link] = {}
        self.outside: dict[str, list[Address]] = {plan.router: [] for plan in plans}
        self.behind: dict[str, list[Address]] = {}
        self.cores: dict[str, dict[str, str]] = {}  # WAN router -> neighbour -> device towards it

    def add_node(self, name: str, kind: NodeKind) -> Node:
        if name in self.nodes:
            raise WrongInput("lab", f"two nodes are named {name}", "rename the host, router or WAN router")
        self.nodes[name] = node = Node(name, kind)
        return node

    def draw_wan(self) -> None:
        for number, name in enumerate(self.lab.routers, start=1):
            node = self.add_node(name, NodeKind.WAN)
            node.addresses.append(("lo", f"{WAN_ROUTERS_FROM + number}/32"))
            # The WAN answers for every address it can deliver elsewhere, so that two sites may share a subnet.
            node.sysctls |= {"net/ipv4/ip_forward": "1", "net/ipv6/conf/all/forwarding": "1"}
            node.nft = CUTS
            self.behind[name] = [WAN_ROUTERS_FROM + number]
            self.cores[name] = {}
        for name, router in self.lab.routers.items():
            for other, quality in router.links.items():
                self._join_cores(name, other, quality)

    def _join_cores(self, name: str, other: str, quality: LabLink) -> None:
        if other not in self.cores:
            raise WrongInput(f"lab.routers.{name}.links.{other}", "no such WAN router", "name one of lab.routers")
        if other in self.cores[name]:
            raise WrongInput(f"lab.routers.{name}.links.{other}", "this link is given twice", "keep one of the two")
        a, b = End(name, _device("to", other, self.cores[name])), End(other, _device("to", name, self.cores[other]))
        self.cores[name][other], self.cores[other][name] = a.device, b.device
        # The defaults of lab.wan are those of access links: a core link is clean unless it says otherwise.
        impairment = Impairment.of_link(quality)
        label = f"{name}.{other}"
        self.links[label] = Link(label, a, b, quality.mtu or WAN_MTU_OCTETS, impairment, impairment)

    def _leases(self, asked: LabUplink, number: int) -> tuple[IPv4Interface, ...]:
        given = tuple(lease for lease in asked.leases if isinstance(lease, IPv4Interface))
        if given:
            return given
        block = LEASED_FROM + LEASED_BLOCK * number
        return tuple(IPv4Interface(f"{block + host}/29") for host in (2, 3))

    def draw_uplink(self, plan: Plan, uplink: Uplink, number: int) -> None:
        label = f"{plan.router}.{uplink.name}"
        where = f"lab.uplinks.{label}"
        asked = self.lab.uplinks.get(label) or LabUplink.model_construct(at=next(iter(self.lab.routers)))
        if asked.at not in self.cores:
            raise WrongInput(f"{where}.at", f"no WAN router {asked.at}", f"use one of {', '.join(self.cores)}")
        session = uplink.pppoe
        leases = self._leases(asked, number) if uplink.dhcp or session is not None else ()
        if session is not None and asked.nat != LabNat():
            raise WrongInput(f"{where}.nat", "a PPPoE session ends at the WAN router itself", "remove the line")
        if leases and asked.nat.behind is not None:
            raise WrongInput(f"{where}.nat.behind", "a NAT router leases to one uplink", "give this one an address")
        if leases:
            way_out = leases[0].network.network_address + 1
            uplink = replace(uplink, addresses=leases, gateways=(way_out,))
        if not uplink.addresses or not uplink.gateways:
            raise WrongInput(where, "has no address in a lab", "give the uplink dhcp: true, pppoe, or an address")
        quality = settled(asked, self.lab.wan)
        impairment = Impairment.of_link(quality)
        inner = End(plan.router, uplink.device if session is None else uplink.carrier)
        shared = asked.nat.behind
        box = self.lab.uplinks.get(shared, LabUplink()).nat if shared is not None else asked.nat
        kind = box.kind
        public = box.public or uplink.public
        mine = dict.fromkeys(interface.ip for interface in uplink.addresses)
        if kind is NatKind.NONE and uplink.public is not None and uplink.public not in mine:
            kind = NatKind.ONE_TO_ONE  # the file says that the world sees another address
        mtu_octets = quality.mtu or uplink.mtu_octets + (0 if session is None else PPPOE_OCTETS)
        if kind is NatKind.NONE:
            seen = list(mine) if leases else sorted(mine, key=str)  # leases are given in their order
            outer = self._wan_end(asked.at, label, seen, uplink)
            self.outside[plan.router] += seen
        else:
            ports = (plan.ike.port, plan.ike.nat_port)
            if not isinstance(public, IPv4Address):
                raise WrongInput(f"{where}.nat.public", "a NAT needs an IPv4 address on the WAN", "give it one")
            outer = self._nat_end(shared or label, asked.at, nat.Box(kind, box.port, public, ports), uplink)
            self.outside[plan.router].append(public)
        self.links[label] = Link(label, inner, outer, mtu_octets, impairment, impairment)
        if leases:
            device = outer.device if kind is NatKind.NONE else nat.INSIDE
            gateway = IPv4Address(str(uplink.gateways[0]))
            self.nodes[outer.node].leases.append(_lease_server(label, device, gateway, leases, mtu_octets, session))

    def _wan_end(self, at: str, label: str, addresses: Sequence[Address], uplink: Uplink) -> End:
        """The WAN router's port for one uplink: the gateway's address alone, host routes to the uplink's."""
        wan = self.nodes[at]
        taken = {device for device, _ in wan.addresses} | {route.device for route in wan.routes}
        device = _device("", label, taken | {link.b.device for link in self.links.values() if link.b.node == at})
        self.behind[at] += addresses
        if uplink.pppoe is not None:  # addresses and routes are the session's
            return End(at, device)
        wan.addresses += [(device, f"{gateway}/{gateway.max_prefixlen}") for gateway in uplink.gateways]
        wan.routes += [Route(f"{address}/{address.max_prefixlen}", device) for address in addresses]
        wan.sysctls |= {f"net/ipv4/conf/{device}/proxy_arp": "1", f"net/ipv4/neigh/{device}/proxy_delay": "0"}
        return End(at, device)

    def _nat_end(self, owner: str, at: str, kind: nat.Box, uplink: Uplink) -> End:
        """A port of the NAT box that is named after the uplink `owner`; made with the first uplink behind it."""
        name = f"{owner.replace('.', '-')}-nat"
        box = self.nodes.get(name)
        if box is None:
            box = self._new_box(name, at, kind, uplink)
        ports = box.bridges[nat.INSIDE]
        port = f"port{len(ports)}"
        ports.append(port)
        return End(box.name, port)

    def _new_box(self, name: str, at: str, kind: nat.Box, uplink: Uplink) -> Node:
        box = self.add_node(name, NodeKind.NAT)
        box.detail = str(kind)
        inside = [interface.ip for interface in uplink.addresses if isinstance(interface.ip, IPv4Address)]
        box.nft = nat.rules(kind, inside)
        lengths = {interface.version: interface.network.prefixlen for interface in uplink.addresses}
        wan = self.nodes[at]
        wan_address = WAN_ROUTERS_FROM + 1 + list(self.lab.routers).index(at)
        device = _device("", name, {device for device, _ in wan.addresses} | {route.device for route in wan.routes})
        if kind.public in (address for behind in self.behind.values() for address in behind):
            raise WrongInput(name, f"{kind.public} is another uplink's", "write behind: ROUTER.UPLINK")
        wan.routes.append(Route(f"{kind.public}/32", device))
        self.behind[at].append(kind.public)
        box.sysctls["net/ipv4/ip_forward"] = "1"
        box.bridges[nat.INSIDE] = []
        box.addresses += [
            (nat.INSIDE, f"{gateway}/{lengths.get(gateway.version, gateway.max_prefixlen)}")
            for gateway in uplink.gateways
        ]
        box.addresses.append((nat.OUTSIDE, f"{kind.public}/32"))
        box.routes.append(Route(EVERYWHERE[4], nat.OUTSIDE, via=wan_address, onlink=True))
        self.links[name] = Link(name, End(name, nat.OUTSIDE), End(at, device), WAN_MTU_OCTETS)
        return box

    def of_kind(self, kind: NodeKind) -> tuple[Node, ...]:
        return tuple(node for node in self.nodes.values() if node.kind is kind)

    def draw_sites(self) -> None:
        """Every network of every site: two members share a cable, one or more than two get a switch."""
        members: dict[str, list[End]] = {}
        gateways: dict[str, list[IPv4Interface | IPv6Interface]] = {}
        for plan in self.plans:
            for gateway in plan.vrrp.gateways if plan.vrrp is not None else ():
                gateways.setdefault(f"{plan.site}.{gateway.network}", []).append(gateway.address)
        for plan in self.plans:
            for lan in plan.lans:
                label = f"{plan.site}.{lan.name}"
                end = End(plan.router, lan.device)
                if end not in members.setdefault(label, []):  # a second prefix of one network is on the same port
                    members[label].append(end)
                gateways.setdefault(label, []).append(lan.address)
        for name, host in self.lab.hosts.items():
            where = f"lab.hosts.{name}"
            if host.network not in members:
                raise WrongInput(f"{where}.network", f"no network {host.network} on a router", "write SITE.NETWORK")
            way_out = next((gateway for gateway in gateways[host.network] if host.address in gateway.network), None)
            if way_out is None:
                raise WrongInput(
                    f"{where}.address", f"{host.address} is not in {host.network}", "use an address of its prefix"
                )
            node = self.add_node(name, NodeKind.HOST)
            node.addresses.append(("eth0", f"{host.address}/{way_out.network.prefixlen}"))
            node.routes.append(Route(EVERYWHERE[way_out.version], "eth0", via=way_out.ip))
            members[host.network].append(End(name, "eth0"))
        for label, ends in members.items():
            self._cable_up(label, ends)

    def _cable_up(self, label: str, ends: list[End]) -> None:
        if len(ends) == 2:
            self.links[label] = Link(label, ends[0], ends[1], WAN_MTU_OCTETS)
            return
        switch = self.add_node(f"{label.replace('.', '-')}-switch", NodeKind.SWITCH)
        switch.bridges["bridge"] = ports = [f"port{number}" for number in range(len(ends))]
        for end, port in zip(ends, ports, strict=True):
            name = f"{label}.{end.node}"
            self.links[name] = Link(name, end, End(switch.name, port), WAN_MTU_OCTETS)

    def route_wan(self) -> None:
        """Shortest paths by hops, as static host routes; the next WAN router is reached on its loopback address."""
        for start in self.cores:
            first_hop: dict[str, str] = {}
            queue = deque([(neighbour, neighbour) for neighbour in self.cores[start]])
            while queue:
                core, via = queue.popleft()
                if core == start or core in first_hop:
                    continue
                first_hop[core] = via
                queue.extend((neighbour, via) for neighbour in self.cores[core])
            for core, via in first_hop.items():
                gateway, device = self.behind[via][0], self.cores[start][via]
                self.nodes[start].routes += [
                    Route(f"{address}/{address.max_prefixlen}", device, via=gateway, onlink=True)
                    for address in self.behind[core]
                    if address.version == gateway.version
                ]

    def hosts_lines(self) -> list[tuple[Address, str]]:
        """Names that the file uses for routers, and every router's identity, under the addresses the WAN sees."""
        lines = {(address, plan.ike.identity) for plan in self.plans for address in self.outside[plan.router][:1]}
        lines |= {
            (address, endpoint)
            for plan in self.plans
            for cloud in plan.clouds
            for hub in cloud.hubs
            for endpoint in hub.endpoints
            for address in self.outside.get(hub.router, [])[:1]
            if isinstance(endpoint, str)
        }
        return sorted(lines, key=str)


def _lease_server(
    label: str,
    device: str,
    gateway: IPv4Address,
    leases: tuple[IPv4Interface, ...],
    mtu_octets: int,
    pppoe: Pppoe | None,
) -> LeaseServer:
    if pppoe is None:
        return LeaseServer(label, device, gateway, leases, mtu_octets)
    session = Session(pppoe.user, pppoe.password.decode())
    return LeaseServer(label, device, gateway, leases, mtu_octets - PPPOE_OCTETS, session)


# What `cut` fills: pairs of addresses between which the WAN carries nothing, in either direction.
CUTS = """table inet lab {
 set cut4 { type ipv4_addr . ipv4_addr; }
 set cut6 { type ipv6_addr . ipv6_addr; }
 chain forward {
  type filter hook forward priority filter
  ip saddr . ip daddr @cut4 counter drop
  ip6 saddr . ip6 daddr @cut6 counter drop
 }
}
"""


def _device(prefix: str, label: str, taken: object) -> str:
    """A device name that reads as its link; shortened ones get a number."""
    wanted = f"{prefix}-{label}" if prefix else label
    names = set(taken.values()) if isinstance(taken, dict) else set(taken) if isinstance(taken, set) else set()
    if len(wanted) <= DEVICE_NAME_OCTETS and wanted not in names:
        return wanted
    number = next(number for number in range(1, 1000) if f"{wanted[:11]}~{number}" not in names)
    return f"{wanted[:11]}~{number}"
