"""OSPF over a cloud: ospfd.conf. FRR manual, "OSPFv2"; RFC 2328 with point-to-multipoint over the mesh.

Point-to-multipoint: no designated router, so no spoke can become one; a spoke's neighbours are its hubs, and every
router is told as a host route. Every spoke knows every network, with its hub as the next hop: a hub cannot summarise
inside an area. Shortcuts have a better metric in the kernel, so they win over what OSPF says.
"""

from collections.abc import Iterator

from dmvpn.network.plan import Cloud, Ospf, Plan
from dmvpn.render import bfd, frr_choice, frr_lists
from dmvpn.render.frr_neighbor import has_bgp
from dmvpn.render.words import header, word

FILE = "ospfd.conf"
HELLO_S, DEAD_S = 10, 40  # RFC 2328 C.3's; of point-to-multipoint FRR keeps them, IOS has 30 and 120: set them there
ROUTE_MAP = "dmvpn-ospf"
STATIC, TAKEN = "dmvpn-behind", "dmvpn-to-ospf"


def spoken(plan: Plan) -> bool:
    return any(cloud.ospf is not None for cloud in plan.clouds)


def conf(plan: Plan) -> str:
    """ospfd's file, of a router that has OSPF."""
    speaking = [(cloud, cloud.ospf) for cloud in plan.clouds if cloud.ospf is not None]
    lines = [header(plan.network, plan.router, "!"), f"hostname {word(plan.router, 'router')}"]
    for cloud, ospf in speaking:
        lines += _interface(cloud, ospf)
    for device in frr_lists.served_devices(plan):
        # The site's networks are told and nobody is met there: a host that speaks OSPF is no router of ours.
        lines += [f"interface {word(device, 'device')}", f" ip ospf area {speaking[0][1].area}"]
        lines += [" ip ospf passive", "exit"]
    lines += [*_taken_lines(plan), "!", "router ospf", f" ospf router-id {word(plan.transport, 'transport')}"]
    lines += [" log-adjacency-changes", *_distance(plan), *_redistributed(plan), "exit", ""]
    return "\n".join(lines)


def _distance(plan: Plan) -> Iterator[str]:
    """One ospfd has one distance for all its clouds; between those the cost decides. What was redistributed into it is
    the last choice.
    """
    found = [distance for cloud in plan.clouds if cloud.ospf and (distance := frr_choice.distance(cloud)) is not None]
    if found:
        own = min(found)
        yield f" distance ospf intra-area {own} inter-area {own} external {frr_choice.TAKEN_DISTANCE}"


def _takes_bgp(plan: Plan) -> bool:
    """A hub that announces a cloud of BGP's in one of OSPF's: its own, or the one that its site's partner is in."""
    return has_bgp(plan) and any(cloud.ospf is not None and cloud.redistributes for cloud in plan.clouds)


def _taken_lines(plan: Plan) -> Iterator[str]:
    """What is announced beyond interfaces, by route-maps: networks behind the site's, other clouds."""
    yield from frr_lists.behind(plan, STATIC)
    if _takes_bgp(plan):
        overlays = [overlay for cloud in plan.clouds for overlay in cloud.overlay]
        never = [prefix for prefix in (plan.transport_range, *overlays, *plan.serves) if prefix.version == 4]
        internal = [prefix for prefix in plan.prefixes if prefix.version == 4]
        entries = [f"deny {prefix} le 32" for prefix in never] + [f"deny {prefix}" for prefix in internal]
        entries += [f"permit {prefix} le 32" for prefix in internal]
        yield from frr_lists.matched(TAKEN, entries)


def _redistributed(plan: Plan) -> Iterator[str]:
    if any(route.prefix.version == 4 for route in plan.routes):
        yield f" redistribute kernel route-map {STATIC}"
    if _takes_bgp(plan):
        yield f" redistribute bgp route-map {TAKEN}"


def zebra_lines(plan: Plan) -> Iterator[str]:
    """What of OSPF reaches the kernel. A link-state area cannot be filtered between its members, so each router decides
    for itself: nothing but internal networks, and never a way to a transport address.
    """
    if not spoken(plan):
        return
    overlays = [overlay for cloud in plan.clouds for overlay in cloud.overlay]
    allowed = [prefix for prefix in (*plan.prefixes, *overlays) if prefix.version == 4]
    entries = [f"deny {word(plan.transport_range, 'transport')} le 32"]
    entries += [f"permit {word(prefix, 'prefixes')} le 32" for prefix in dict.fromkeys(allowed)]
    yield from frr_lists.matched(ROUTE_MAP, entries)
    yield f"ip protocol ospf route-map {ROUTE_MAP}"


def _interface(cloud: Cloud, ospf: Ospf) -> Iterator[str]:
    yield f"interface {word(cloud.device, 'device')}"
    yield " ip ospf network point-to-multipoint"
    yield f" ip ospf area {ospf.area}"
    yield f" ip ospf cost {ospf.cost}"
    yield f" ip ospf hello-interval {HELLO_S}"
    yield f" ip ospf dead-interval {DEAD_S}"
    # Two planes, and two vendors, need not agree about the device's MTU; what is sent fits the smaller one anyway.
    yield " ip ospf mtu-ignore"
    if cloud.bfd is not None:
        yield " ip ospf bfd"
        yield f" ip ospf bfd profile {bfd.profile(cloud)}"
    yield "exit"
