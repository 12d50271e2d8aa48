"""OSPF over a cloud: ospfd.conf for IPv4, ospf6d.conf for IPv6. FRR manual, "OSPFv2" and "OSPFv3"; RFC 2328, RFC 5340.

Point-to-multipoint: no designated router, so no spoke can become one; a spoke's neighbours are its hubs, and every
router is told as a host route. Every spoke knows every network, with its hub as the next hop: a hub cannot summarise
inside an area. Shortcuts have a better metric in the kernel, so they win over what OSPF says.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from dmvpn.network.plan import Cloud, Ospf, Plan
from dmvpn.render import bfd, frr_choice, frr_lists
from dmvpn.render.frr_neighbor import has_bgp
from dmvpn.render.words import header, word

HELLO_S, DEAD_S = 10, 40  # RFC 2328 C.3's; of point-to-multipoint FRR keeps them, IOS has 30 and 120: set them there
STATIC, TAKEN = "dmvpn-behind", "dmvpn-to-ospf"


@dataclass(frozen=True, slots=True)
class Daemon:
    """The OSPF of one family, and FRR's words for it."""

    version: int
    name: str
    ip: str
    ospf: str
    router_id: str
    longest: int

    @property
    def file(self) -> str:
        return f"{self.name}.conf"

    @property
    def route_map(self) -> str:
        return f"dmvpn-{self.ospf}"

    def clouds(self, plan: Plan) -> list[tuple[Cloud, Ospf]]:
        """The clouds in which this router speaks it."""
        return [(one, one.ospf) for one in plan.clouds if one.ospf is not None and frr_lists.speaks(one, self.version)]


OSPFV2 = Daemon(4, "ospfd", "ip", "ospf", "ospf router-id", 32)
OSPFV3 = Daemon(6, "ospf6d", "ipv6", "ospf6", "ospf6 router-id", 128)
FAMILIES = (OSPFV2, OSPFV3)


def spoken(plan: Plan) -> tuple[Daemon, ...]:
    """Those that a router needs."""
    return tuple(daemon for daemon in FAMILIES if daemon.clouds(plan))


def conf(plan: Plan, daemon: Daemon = OSPFV2) -> str:
    """The daemon's file, of a router that needs it."""
    speaking, at = daemon.clouds(plan), f" {daemon.ip} {daemon.ospf}"
    lines = [header(plan.network, plan.router, "!"), f"hostname {word(plan.router, 'router')}"]
    for cloud, ospf in speaking:
        lines += _interface(cloud, ospf, at)
    for device in frr_lists.served_devices(plan, daemon.version):
        # The site's networks are told and nobody is met there: a host that speaks OSPF is no router of ours.
        lines += [f"interface {word(device, 'device')}", f"{at} area {speaking[0][1].area}"]
        lines += [f"{at} passive", "exit"]
    lines += [*_taken_lines(plan, daemon), "!", f"router {daemon.ospf}"]
    lines += [f" {daemon.router_id} {word(plan.transport, 'transport')}", " log-adjacency-changes"]
    lines += [*_distance(plan, daemon), *_redistributed(plan, daemon), "exit", ""]
    return "\n".join(lines)


def _distance(plan: Plan, daemon: Daemon) -> Iterator[str]:
    """One daemon has one distance for all its clouds; between those the cost decides. What was redistributed into it is
    the last choice.
    """
    speaking = (cloud for cloud, _ in daemon.clouds(plan))
    found = [distance for cloud in speaking if (distance := frr_choice.distance(cloud)) is not None]
    if found:
        own = min(found)
        yield f" distance {daemon.ospf} intra-area {own} inter-area {own} external {frr_choice.TAKEN_DISTANCE}"


def _takes_bgp(plan: Plan, daemon: Daemon) -> bool:
    """A hub that announces a cloud of BGP's in one of OSPF's: its own, or the one that its site's partner is in."""
    return has_bgp(plan) and any(cloud.redistributes for cloud, _ in daemon.clouds(plan))


def _taken_lines(plan: Plan, daemon: Daemon) -> Iterator[str]:
    """What is announced beyond interfaces, by route-maps: networks behind the site's, other clouds."""
    version, longest = daemon.version, daemon.longest
    yield from frr_lists.behind(plan, STATIC, version)
    if _takes_bgp(plan, daemon):
        overlays = [overlay for cloud in plan.clouds for overlay in cloud.overlay]
        never = [prefix for prefix in (plan.transport_range, *overlays, *plan.serves) if prefix.version == version]
        internal = [prefix for prefix in plan.prefixes if prefix.version == version]
        entries = [f"deny {prefix} le {longest}" for prefix in never] + [f"deny {prefix}" for prefix in internal]
        entries += [f"permit {prefix} le {longest}" for prefix in internal]
        yield from frr_lists.matched(TAKEN, entries, version)


def _redistributed(plan: Plan, daemon: Daemon) -> Iterator[str]:
    if any(route.prefix.version == daemon.version for route in plan.routes):
        yield f" redistribute kernel route-map {STATIC}"
    if _takes_bgp(plan, daemon):
        yield f" redistribute bgp route-map {TAKEN}"


def zebra_lines(plan: Plan) -> Iterator[str]:
    """What of OSPF reaches the kernel. A link-state area cannot be filtered between its members, so each router decides
    for itself: nothing but internal networks, and never a way to a transport address.
    """
    overlays = [overlay for cloud in plan.clouds for overlay in cloud.overlay]
    for daemon in spoken(plan):
        allowed = [prefix for prefix in (*plan.prefixes, *overlays) if prefix.version == daemon.version]
        never = [plan.transport_range] if plan.transport_range.version == daemon.version else []
        entries = [f"deny {word(prefix, 'transport')} le {daemon.longest}" for prefix in never]
        entries += [f"permit {word(prefix, 'prefixes')} le {daemon.longest}" for prefix in dict.fromkeys(allowed)]
        yield from frr_lists.matched(daemon.route_map, entries, daemon.version)
        yield f"{daemon.ip} protocol {daemon.ospf} route-map {daemon.route_map}"


def _interface(cloud: Cloud, ospf: Ospf, at: str) -> Iterator[str]:
    yield f"interface {word(cloud.device, 'device')}"
    yield f"{at} network point-to-multipoint"
    yield f"{at} area {ospf.area}"
    yield f"{at} cost {ospf.cost}"
    yield f"{at} hello-interval {HELLO_S}"
    yield f"{at} dead-interval {DEAD_S}"
    # Two planes, and two vendors, need not agree about the device's MTU; what is sent fits the smaller one anyway.
    yield f"{at} mtu-ignore"
    if cloud.bfd is not None:
        yield f"{at} bfd"
        yield f"{at} bfd profile {bfd.profile(cloud)}"
    yield "exit"
