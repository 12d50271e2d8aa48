"""Whether what dmvpnd knows, what the kernel has and what charon has agree: cache, neighbours, shortcuts, SAs.

Things change while they are looked at, so a disagreement counts when it is still there a second later.
"""

import time
from collections.abc import Callable, Iterator
from ipaddress import ip_address, ip_network

from dmvpn.daemon.control import NodeStatus, State, WhyNot
from dmvpn.doctor.ike import carrying, standing
from dmvpn.doctor.patient import Patient
from dmvpn.doctor.report import At, Finding, Layer
from dmvpn.errors import Fault
from dmvpn.linux.link_local import link_local_of
from dmvpn.linux.neighbours import Neighbours
from dmvpn.linux.netlink import Address, Requests
from dmvpn.linux.route_lookup import lookup
from dmvpn.linux.routes import Network, Shortcuts, is_shortcut
from dmvpn.linux.transport_routes import TransportRoutes
from dmvpn.network.plan import Cloud, Plane

HERE = At(Layer.STATE)
AGAIN_S = 1.0
TOLD = 5
WITHOUT_A_NEIGHBOUR = "X"  # in Cisco's letters: somebody who asked, and with whom there is no path
PHASE_2 = 2

Looked = dict[str, str]  # a disagreement in words, and what to do


def consistency(patient: Patient) -> Iterator[Finding]:
    if patient.status is None:
        yield HERE.not_looked_at("agreement", f"dmvpnd: {patient.silent}", "see NHRP above")
        return
    looks: tuple[tuple[str, Callable[[Patient, NodeStatus], Looked]], ...] = (
        ("neighbour entries", neighbours),
        ("shortcut routes", shortcuts),
        ("SAs", security),
    )
    for check, look in looks:
        yield from _agreed(patient, check, look)


def _agreed(patient: Patient, check: str, look: Callable[[Patient, NodeStatus], Looked]) -> Iterator[Finding]:
    assert patient.status is not None
    try:
        found = look(patient, patient.status)
        if found:
            time.sleep(AGAIN_S)
            again = patient.look_again()
            still = look(patient, again) if again is not None else found
            found = {what: fix for what, fix in still.items() if what in found}
    except Fault as fault:
        yield HERE.not_looked_at(check, fault.what, fault.fix or "run as root")
        return
    for what, fix in list(found.items())[:TOLD]:
        yield HERE.failed(check, what, fix)
    if len(found) > TOLD:
        yield HERE.failed(check, f"and {len(found) - TOLD} more", "mend the first ones and look again")
    if not found:
        yield HERE.ok(check, "agree with the NHRP cache")


def neighbours(patient: Patient, status: NodeStatus) -> Looked:
    """Each peer of the cache has its entry, by the NBMA address that the cache has; and no entry is nobody's."""
    found: Looked = {}
    for cloud in patient.plan.clouds:
        wanted = _next_hops(status, cloud)
        wanted |= _link_local(wanted, cloud)
        with Neighbours(patient.plan.registry.route_protocol) as kernel:
            there = {row.protocol: row.nbma for row in kernel.ours(cloud.device)}
        purge = "dmvpn nhrp purge has it learned anew"
        for protocol, nbma in wanted.items():
            if protocol not in there:
                found[f"{protocol} at {nbma} is in the cache, and {cloud.device} has no neighbour entry for it"] = purge
            elif there[protocol] != nbma:
                found[f"{protocol} is at {nbma} in the cache, and at {there[protocol]} on {cloud.device}"] = purge
        for protocol in there.keys() - wanted.keys():
            what = f"{cloud.device} has a neighbour entry for {protocol}, of which the cache knows nothing"
            found[what] = f"ip neigh del {protocol} dev {cloud.device}"
    return found


def _next_hops(status: NodeStatus, cloud: Cloud) -> dict[Address, Address]:
    """By the cache: hubs and clients, and the gateways of shortcuts that are up."""
    found: dict[Address, Address] = {}
    for row in status.cache:
        if row.cloud == cloud.name and row.state == "UP" and "T1" not in row.attributes:
            nbma = _address(row.nbma)
            protocol = _address(row.protocol)
            if nbma is not None and protocol is not None and WITHOUT_A_NEIGHBOUR not in row.attributes:
                found[protocol] = nbma
    for peer in status.peers:
        if peer.cloud == cloud.name and peer.kind == "shortcut" and peer.state is State.DIRECT:
            nbma = _address(peer.nbma)
            if nbma is not None:
                found |= dict.fromkeys(map(ip_address, peer.overlay.split()), nbma)
    return found


def _link_local(next_hops: dict[Address, Address], cloud: Cloud) -> dict[Address, Address]:
    """What OSPFv3 calls them: BGP alone names overlay addresses."""
    if cloud.bgp is not None:
        return {}
    return {known: nbma for one, nbma in next_hops.items() if (known := link_local_of(one)) is not None}


def shortcuts(patient: Patient, status: NodeStatus) -> Looked:
    """Each shortcut that is up has its route, and each route its shortcut."""
    found: Looked = {}
    wanted: dict[Network, Address] = {}
    phases = {cloud.name: cloud.nhrp.phase for cloud in patient.plan.clouds}
    for peer in status.peers:
        if peer.kind == "shortcut" and peer.state is State.DIRECT and phases.get(peer.cloud) != PHASE_2:
            gateways = {gateway.version: gateway for gateway in map(ip_address, peer.overlay.split())}
            wanted |= {net: gateways[net.version] for net in map(ip_network, peer.prefixes) if net.version in gateways}
    with Shortcuts(cloud.device for cloud in patient.plan.clouds) as kernel:
        there = {row.prefix: row.gateway for row in kernel.ours()}
    for prefix, gateway in wanted.items():
        if prefix not in there and prefix == ip_network(gateway):
            continue  # a next hop that routing named: it needs a neighbour entry alone
        if prefix not in there:
            what = f"{prefix} by {gateway} is up for dmvpnd, and the routing table has no such shortcut"
            found[what] = f"dmvpn nhrp purge {prefix}; the next packet has it made anew"
        elif there[prefix] != gateway:
            found[f"{prefix} goes by {there[prefix]}, and by {gateway} for dmvpnd"] = f"dmvpn nhrp purge {prefix}"
        else:
            found |= _overruled(prefix)
    for peer in status.peers:
        if peer.kind == "shortcut" and peer.why == WhyNot.KERNEL_REFUSED:
            whose = next(iter(peer.prefixes), peer.overlay)
            what = f"the kernel refused the route or neighbour entry for {whose}"
            found[what] = f"dmvpnd's log says why; then dmvpn nhrp purge {whose}"
    for prefix in there.keys() - wanted.keys():
        what = f"there is a shortcut {prefix} by {there[prefix]}, of which dmvpnd knows nothing"
        found[what] = f"ip route del {prefix} proto redirect"
    return found


def _overruled(prefix: Network) -> Looked:
    """What the kernel takes for the prefix itself, were it not the shortcut; longer ones may be as they like."""
    with Requests() as requests:
        row = lookup(requests, ip_address(int(prefix.network_address) | (prefix.num_addresses > 1)))
    if row is None or row.prefix != prefix or is_shortcut(row):
        return {}
    other = f"the route via {row.gateway or row.device} with metric {row.metric}"
    what = f"{prefix} has a shortcut, and {other} goes before it"
    return {what: "take that route away, or give it a metric above 10"}


def security(patient: Patient, status: NodeStatus) -> Looked:
    """Who is up for dmvpnd has an SA, and on the kernel plane there is a way into it."""
    encrypted = {cloud.name for cloud in patient.plan.clouds if cloud.encrypted}
    up = {
        nbma: row.name or row.overlay
        for row in status.peers
        if row.cloud in encrypted and row.state is State.DIRECT and (nbma := _address(row.nbma)) is not None
    }
    found: Looked = {}
    there = carrying(standing(patient))
    for nbma, name in up.items():
        if nbma not in there:
            found[f"{name} is up for dmvpnd, and charon has no SA with {nbma}"] = "it is noticed by DPD; or: dmvpn run"
    return found | _ways_in(patient, {nbma: up[nbma] for nbma in up.keys() & there.keys()})


def _ways_in(patient: Patient, up: dict[Address, str]) -> Looked:
    plan = patient.plan
    devices = tuple(cloud.device for cloud in plan.clouds if cloud.plane is Plane.KERNEL and cloud.encrypted)
    if not devices:
        return {}
    reach = plan.transport_range
    with TransportRoutes(reach, plan.registry.route_protocol, plan.transport, devices) as kernel:
        missing = kernel.missing()
        astray = {nbma: name for nbma, name in up.items() if nbma in reach and not kernel.leads(nbma)}
    what = "{0} has no route of the transport range {1}, so no policy of its peers is looked up"
    found = {what.format(device, reach): "restart dmvpnd" for device in missing}
    for nbma, name in astray.items():
        found[f"GRE to {name} ({nbma}) does not go into a tunnel of ours"] = f"ip rule; ip route get {nbma}"
    return found


def _address(text: str) -> Address | None:
    try:
        return ip_address(text)
    except ValueError:
        return None
