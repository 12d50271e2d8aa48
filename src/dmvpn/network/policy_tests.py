"""The packets of `policy.tests`, as one router sees them: devices and addresses of the zones they name."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv6Address, ip_address
from itertools import product

from dmvpn.firewall.policy import FIREWALL, Address, Policy, Traffic, Zone
from dmvpn.firewall.prefixes import FAMILIES
from dmvpn.firewall.ruleset import State
from dmvpn.firewall.verdicts import Packet
from dmvpn.network.model import Network
from dmvpn.network.plan import Network as Prefix
from dmvpn.network.plan import Plan, Plane
from dmvpn.network.policy import services
from dmvpn.network.policy_model import PolicyTest

# Hosts of nobody, RFC 5737 and RFC 3849: what is asked about is beyond an uplink, not a place.
FAR = {4: ip_address("203.0.113.77"), 6: ip_address("2001:db8:ffff::77")}
SOURCE_PORT = 49152  # RFC 6335 6: the first dynamic one
HOST_NUMBER = 77
TCP = 6


@dataclass(frozen=True, slots=True)
class Question:
    """One test on one router: a packet of each kind for each pair of devices that its zones have there."""

    index: int
    test: PolicyTest
    packets: tuple[Packet, ...]


def questions(network: Network, plan: Plan) -> Iterator[Question]:
    """The tests that this router can answer: those whose zones it has both."""
    if network.policy is None or plan.policy is None:
        return
    known = services(network.policy.services)
    for index, test in enumerate(network.policy.tests):
        if test.router not in (None, plan.router):
            continue
        packets = tuple(_Asking(plan, plan.policy, test, known[test.service].traffic).packets())
        if packets:
            yield Question(index, test, packets)


def way(plan: Plan, address: Address) -> str | None:
    """The device that leads to an address; None: it is the router's own. Of clouds and uplinks the first."""
    if address in own_addresses(plan):
        return None
    for lan in plan.lans:
        if address in lan.prefix:
            return lan.device
    for route in plan.routes:
        if address in route.prefix:
            return route.device
    inside = any(address in prefix for prefix in plan.prefixes)
    devices = [cloud.device for cloud in plan.clouds] if inside else [uplink.device for uplink in plan.uplinks]
    return next(iter(devices), None)


def own_addresses(plan: Plan) -> tuple[Address, ...]:
    return (
        *(lan.address.ip for lan in plan.lans),
        *(address for cloud in plan.clouds for address in cloud.addresses),
        *(address.ip for uplink in plan.uplinks for address in uplink.addresses),
    )


@dataclass(frozen=True, slots=True)
class _Asking:
    plan: Plan
    policy: Policy
    test: PolicyTest
    traffic: tuple[Traffic, ...]

    def packets(self) -> Iterator[Packet]:
        come, go = self.zone(self.test.in_), self.zone(self.test.out)
        if come is None or go is None:
            return
        pairs = list(product(self.devices(come), self.devices(go)))
        # What goes back by the device it came in by is mostly between hosts of one link, and passes by the router.
        apart = [pair for pair in pairs if pair[0] != pair[1] or (pair[0] is not None and go.route_back)]
        for device_in, device_out in apart or [pair for pair in pairs if pair != (None, None)]:
            basic = self.packet(come, device_in, go, device_out)
            yield from (
                replace(basic, protocol=protocol, port=port, type=kind) for protocol, port, kind in self.kinds()
            )

    def kinds(self) -> Iterator[tuple[int, int | None, int | None]]:
        """Protocol, port, ICMP type: all that the service is in this family; of a range of ports its ends."""
        family = self.family()
        for one in self.traffic:
            if one.family not in (None, family):
                continue
            protocol = TCP if one.protocol is None else one.protocol
            ports = tuple(dict.fromkeys(port for some in one.ports for port in (some.first, some.last)))
            yield from product((protocol,), ports or (None,), one.types or (None,))

    def zone(self, name: str) -> Zone | None:
        """The router itself is a zone of no device."""
        if name == FIREWALL:
            return Zone(FIREWALL, ())
        return next((zone for zone in self.policy.zones if zone.name == name), None)

    def devices(self, zone: Zone) -> tuple[str | None, ...]:
        """Those of a zone; for one of addresses alone, whatever device these are behind."""
        if zone.name == FIREWALL:
            return (None,)
        if zone.devices is not None:
            return zone.devices
        inside = (lan.device for lan in self.plan.lans for prefix in zone.prefixes or () if lan.prefix.overlaps(prefix))
        found = tuple(dict.fromkeys(inside))
        return found or tuple(cloud.device for cloud in self.plan.clouds)

    def packet(self, come: Zone, device_in: str | None, go: Zone, device_out: str | None) -> Packet:
        family = self.family()
        beside_in, beside_out = device_in or device_out or "", device_out or device_in or ""
        source = self.test.source or self.address(come, beside_in, family, HOST_NUMBER)
        destination = self.test.destination or self.address(go, beside_out, family, HOST_NUMBER + 1)
        if source == destination and self.test.destination is None:
            destination -= 1
        charon = device_in is None or device_out is None
        # On the userspace plane ESP is charon's alone: the kernel sees its device, and of no packet that it was in ESP.
        in_kernel = any(cloud.plane is Plane.KERNEL for cloud in self.plan.clouds)
        return Packet(
            device_in=device_in,
            device_out=device_out,
            source=source,
            destination=destination,
            protocol=0,
            source_port=SOURCE_PORT,
            state=State(self.test.state.value),
            protected_in=self.test.protected and in_kernel,
            protected_out=self.test.protected and in_kernel,
            group_in=self.plan.registry.ipsec_group if charon and self.test.protected else 0,
            group_out=self.plan.registry.ipsec_group if charon and self.test.protected else 0,
            own_address=device_out is None or destination in own_addresses(self.plan),
        )

    def family(self) -> int:
        """As the test's addresses say, else IPv4, unless the service has none of it."""
        for address in (self.test.source, self.test.destination):
            if address is not None:
                return address.version
        return next(family for family in FAMILIES if any(one.family in (None, family) for one in self.traffic))

    def address(self, zone: Zone, device: str, family: int, host: int) -> Address:
        """One that the zone has there: the router's own, a host of a network, of a cloud's far side, of the world."""
        if zone.name == FIREWALL:
            return self.own_on(device, family)
        for prefix in zone.prefixes or ():
            if prefix.version == family:
                return _host(prefix, host)
        for lan in self.plan.lans:
            if lan.device == device and lan.prefix.version == family:
                return _host(lan.prefix, host)
        if any(cloud.device == device for cloud in self.plan.clouds):
            internal = (prefix for prefix in self.plan.prefixes if prefix.version == family)
            return next((prefix[-2] for prefix in internal), FAR[family])
        return FAR[family]

    def own_on(self, device: str, family: int) -> Address:
        beside: list[IPv4Address | IPv6Address] = [lan.address.ip for lan in self.plan.lans if lan.device == device]
        beside += [address for cloud in self.plan.clouds if cloud.device == device for address in cloud.addresses]
        beside += [one.ip for uplink in self.plan.uplinks if uplink.device == device for one in uplink.addresses]
        return next(
            (address for address in (*beside, *own_addresses(self.plan)) if address.version == family), FAR[family]
        )


def _host(prefix: Prefix, host: int) -> Address:
    return prefix[host] if prefix.num_addresses > host + 1 else prefix[-1]
