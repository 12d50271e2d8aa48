"""Several of our networks on one machine: what two of them cannot both have, said before anything is touched."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from dmvpn.errors import Fault
from dmvpn.network.plan import Address, Network, Plan, Plane, Protocol, Role, Uplink
from dmvpn.operations import keeping, reading
from dmvpn.operations.here import Here, networks
from dmvpn.render.layout import Layout


def kept_by(network: str) -> frozenset[int]:
    """Processes of one of our own networks."""
    rows = keeping.of(Here(network, Layout(network))).status()
    return frozenset(row.pid for row in rows if row.pid is not None)


def refuse_conflicts(plan: Plan, here: Here, file: str) -> None:
    """Raises Fault naming the first thing in `file` that another network in force here has too."""
    for other in _in_force_beside(here):
        for where, what, fix in conflicts(plan, other):
            raise Fault(f"{file}: {where}", what, fix)


def refuse_start(here: Here) -> None:
    """As `refuse_conflicts`, for the file in force: the other network may have come while this one was stopped."""
    if len(networks()) > 1:
        refuse_conflicts(_plan_in_force(here), here, str(here.network_file))


def _plan_in_force(here: Here) -> Plan:
    file = reading.in_force(here)
    return reading.plan_without_secrets(file, here.router() or "", reading.planes_here())


def _in_force_beside(here: Here) -> Iterator[Plan]:
    """The Plans of the other networks that run here, or left something of theirs in the kernel."""
    for network in networks():
        other = Here(network, Layout(network))
        left = (Path(other.layout.run) / "network.state.json").exists()
        if network == here.network or not (left or kept_by(network)):
            continue
        # A file that is good no more says nothing; whose port is taken is seen at the port.
        with suppress(Fault):
            yield _plan_in_force(other)


def conflicts(plan: Plan, other: Plan) -> Iterator[tuple[str, str, str]]:
    """Key of the file, what is so, what to write."""
    yield from _ports(plan, other)
    theirs = f"network {other.network} on this machine"
    if plan.transport_range.overlaps(other.transport_range):
        what = f"{plan.transport_range} is of {theirs} too" if plan.transport_range == other.transport_range else ""
        what = what or f"{plan.transport_range} overlaps {other.transport_range} of {theirs}"
        yield "transport", what, "write another range in one of the two files, for all its routers"
    yield from _planes(plan, other, theirs)
    yield from _uplinks(plan, other, theirs)
    yield from _gateways(plan, other, theirs)
    for cloud in plan.clouds:
        overlay = next((one for one in cloud.overlay if _meets(one, _overlays(other))), None)
        if overlay is not None:
            yield f"clouds.{cloud.name}.overlay", f"{overlay} meets an overlay of {theirs}", "use another prefix"
        if cloud.bfd is not None and any(one.bfd is not None for one in other.clouds):
            what = f"{theirs} has BFD, whose UDP ports one process has"
            yield f"clouds.{cloud.name}.bfd", what, "write bfd: true in one of the two files at most"
    both = [prefix for prefix in plan.prefixes if prefix in other.prefixes and prefix not in plan.serves]
    if both:
        what = f"{both[0]} is all of {theirs} too: a route can lead into one of them only"
        yield "prefixes", what, "write in each file what that network has"
    if _numbers(plan) & _numbers(other):
        what = f"{plan.network} and {other.network} have a table, group or log number in common, by chance"
        yield "network", what, "give one of the two another name"


def _ports(plan: Plan, other: Plan) -> Iterator[tuple[str, str, str]]:
    taken = {other.ike.port, other.ike.nat_port}
    fix = f"write other ports in one of the two files, for all its routers: ports: {_free_ports(plan, other)}"
    for key, number in (("ike", plan.ike.port), ("ike-nat", plan.ike.nat_port)):
        if number in taken:
            yield f"ports.{key}", f"UDP port {number} is of network {other.network} on this machine too", fix
    called = bgp_port(plan)
    if called is not None and called == bgp_port(other):
        what = f"TCP port {called} is of network {other.network} on this machine too: it is a hub in both"
        yield "ports.bgp", what, fix


def _free_ports(plan: Plan, other: Plan) -> str:
    step = 1 + max(abs(plan.ike.port - other.ike.port), abs(plan.ike.nat_port - other.ike.nat_port))
    bgp = bgp_port(plan)
    called = f", bgp: {bgp + 1000}" if bgp is not None and bgp == bgp_port(other) else ""
    return f"{{ike: {plan.ike.port + step}, ike-nat: {plan.ike.nat_port + step}{called}}}"


def bgp_port(plan: Plan) -> int | None:
    """Where this router is called by BGP; None where it is not."""
    hubs = (cloud for cloud in plan.clouds if cloud.role is Role.HUB and cloud.routing is Protocol.BGP)
    return next((cloud.bgp.port for cloud in hubs if cloud.bgp is not None), None)


def _planes(plan: Plan, other: Plan, theirs: str) -> Iterator[tuple[str, str, str]]:
    if not any(cloud.plane is Plane.KERNEL for cloud in (*plan.clouds, *other.clouds)):
        return
    keys = {cloud.gre_key for cloud in other.clouds}
    for cloud in plan.clouds:
        if cloud.gre_key in keys:
            what = f"GRE key {cloud.gre_key} is of {theirs} too, and the kernel's device takes what has its key"
            yield f"clouds.{cloud.name}.gre-key", what, "write another key in one of the two files"
    if all(any(cloud.plane is Plane.KERNEL and cloud.encrypted for cloud in one.clouds) for one in (plan, other)):
        what = f"{theirs} is on the kernel plane: two charons number their SAs alike, and XFRM would mix them up"
        yield f"sites.{plan.site}.routers.{plan.router}.plane", what, "write plane: userspace at it in one of the files"


def _uplinks(plan: Plan, other: Plan, theirs: str) -> Iterator[tuple[str, str, str]]:
    """The main table is everybody's. Two networks know their default routes in it by the same protocol."""
    key = f"sites.{plan.site}.routers.{plan.router}.uplinks"
    if len(plan.uplinks) > 1 and len(other.uplinks) > 1:
        what = f"{theirs} has several too, and each would undo the other's default routes"
        yield key, what, "leave the first alone in one of the two files"
        return
    for mine, its in ((mine, its) for mine in plan.uplinks for its in other.uplinks if mine.metric == its.metric):
        ways, taken = _default_ways(mine), _default_ways(its)
        if any(version in taken and taken[version] != way for version, way in ways.items()):
            what = f"its default route has metric {mine.metric}, as that of {its.name} of {theirs}"
            yield f"{key}.{mine.name}", what, "write the same first uplink in both files, with the same gateway"


def _default_ways(uplink: Uplink) -> dict[int, tuple[str, Address | None]]:
    """By family. What a client brings may be of both."""
    found: dict[int, tuple[str, Address | None]] = {one.version: (uplink.device, one) for one in uplink.gateways}
    return found or ({4: (uplink.device, None), 6: (uplink.device, None)} if uplink.leased or uplink.pppoe else {})


def _gateways(plan: Plan, other: Plan, theirs: str) -> Iterator[tuple[str, str, str]]:
    if plan.vrrp is None or other.vrrp is None:
        return
    here = {(one.device, one.address.version): one for one in plan.vrrp.gateways}
    both = [(mine, its) for its in other.vrrp.gateways if (mine := here.get((its.device, its.address.version)))]
    if both and plan.vrrp.group == other.vrrp.group:
        what = f"group {plan.vrrp.group} on {both[0][0].device} is of {theirs} too"
        yield "system.vrrp.group", what, "write another group in one of the two files, for all its routers"
    for mine, its in both:
        if mine.address.ip == its.address.ip:
            what = f"{mine.address.ip} is shared by {theirs} too, and each would take it from the other"
            fix = "write another one in one of the two files"
            yield f"sites.{plan.site}.networks.{mine.network}.gateway", what, fix


def _overlays(plan: Plan) -> tuple[Network, ...]:
    return tuple(overlay for cloud in plan.clouds for overlay in cloud.overlay)


def _meets(one: Network, others: tuple[Network, ...]) -> bool:
    return any(one.version == other.version and one.overlaps(other) for other in others)


def _numbers(plan: Plan) -> set[tuple[str, int]]:
    registry = plan.registry
    found = {("group", registry.ipsec_group)}
    if any(cloud.plane is Plane.USERSPACE for cloud in plan.clouds):
        found.add(("table", registry.ike_table))
    for cloud in plan.clouds:
        found |= {("log", number) for number in (cloud.nflog_group, cloud.multicast_group) if number}
    return found
