"""Sessions of the routing protocols, internal prefixes in the kernel, the way to a destination."""

import os
from collections.abc import Iterator

from dmvpn.doctor.patient import Patient, Target
from dmvpn.doctor.report import At, Finding, Layer
from dmvpn.errors import Fault
from dmvpn.linux import routes, vtysh
from dmvpn.linux.link_local import overlay_of
from dmvpn.linux.netlink import Requests, family_of
from dmvpn.linux.route_lookup import lookup
from dmvpn.linux.routes import TABLE_MAIN, RouteKind
from dmvpn.linux.vtysh import BgpPeer, RipSource
from dmvpn.network.plan import Address, Cloud, Network, Protocol, Rip, Role, SiteSession

HERE = At(Layer.ROUTE)
ESTABLISHED = "Established"
RIP_UPDATES_MISSED = 3  # then its neighbours take its routes away


def routing(patient: Patient) -> Iterator[Finding]:
    yield from sessions(patient)
    with Requests() as requests:
        for cloud in patient.plan.clouds:
            if cloud.role is Role.SPOKE:
                yield _prefixes(patient, cloud, requests)
        if patient.target is not None:
            yield _way(patient, patient.target, requests)


def sessions(patient: Patient) -> Iterator[Finding]:
    clouds = patient.plan.clouds
    try:
        if any(cloud.bgp is not None for cloud in clouds) or patient.plan.session is not None:
            peers = vtysh.bgp_peers(patient.places.frr)
            for cloud in clouds:
                yield from _bgp(cloud, peers)
            yield from _site(patient.plan.session, peers)
        if any(cloud.routing is Protocol.OSPF for cloud in clouds):
            yield from _ospf(patient)
        if any(cloud.rip is not None for cloud in clouds):
            sources = vtysh.rip_sources(patient.places.frr)
            for cloud in clouds:
                yield from _rip(cloud, cloud.rip, sources)
    except Fault as fault:
        fix = fault.fix or ("see the services above" if os.geteuid() == 0 else "run as root; see the services above")
        yield HERE.failed("FRR", f"{fault.where}: {fault.what}", fix)


def _bgp(cloud: Cloud, peers: tuple[BgpPeer, ...]) -> Iterator[Finding]:
    if cloud.bgp is None:
        return
    by_address = {peer.address: peer for peer in peers}
    for neighbor in cloud.bgp.neighbors:
        peer = by_address.get(neighbor.address)
        check = f"BGP with {neighbor.name}" + (", IPv6" if neighbor.address.version == 6 else "")
        if peer is None:
            yield HERE.failed(check, f"bgpd does not know {neighbor.address}", "dmvpn apply")
        elif peer.state != ESTABLISHED:
            fix = f"it needs the tunnel to {neighbor.name}; then read bgpd's log, here and there"
            yield HERE.failed(check, f"{peer.state}, neighbour {neighbor.address}", fix)
        elif not peer.prefixes:
            yield HERE.warning(check, "established, but it announces nothing that is let in", "compare `prefixes`")
        else:
            yield HERE.ok(check, f"established, {peer.prefixes} prefix{'' if peer.prefixes == 1 else 'es'}")
    if cloud.role is Role.HUB:
        fixed = {neighbor.address for neighbor in cloud.bgp.neighbors}
        listened = [peer for peer in peers if any(peer.address in net for net in cloud.bgp.listen)]
        spokes = [peer for peer in listened if peer.address not in fixed]
        down = [str(peer.address) for peer in spokes if peer.state != ESTABLISHED]
        if down:
            yield HERE.warning(f"BGP in {cloud.name}", f"not established: {' '.join(down[:5])}", "look there")
        else:
            yield HERE.ok(f"BGP in {cloud.name}", f"{len(spokes)} spokes established")


def _site(session: SiteSession | None, peers: tuple[BgpPeer, ...]) -> Iterator[Finding]:
    """Routers of this site that are in other clouds."""
    states = {peer.address: peer.state for peer in peers}
    for partner in session.peers if session is not None else ():
        check, state = f"BGP with {partner.router} of this site", states.get(partner.address)
        if state is None:
            yield HERE.failed(check, f"bgpd does not know {partner.address}", "dmvpn apply")
        elif state != ESTABLISHED:
            fix = f"look at the network on {partner.device}, and whether {partner.router} runs"
            yield HERE.warning(check, f"{state}, neighbour {partner.address}: its clouds' ways are missing here", fix)
        else:
            yield HERE.ok(check, "established")


def _rip(cloud: Cloud, rip: Rip | None, sources: tuple[RipSource, ...]) -> Iterator[Finding]:
    """RIP has no sessions: a neighbour is there while it tells of its routes. Each family by itself.

    ripngd does not say on which device: whoever ends alike in two clouds of RIP is taken for both.
    """
    if rip is None:
        return
    heard: dict[Address, float] = {overlay_of(one.address, cloud.overlay): one.heard_s for one in sources}
    for overlay in cloud.overlay:
        if any(own in overlay for own in cloud.addresses):
            near = {address: age_s for address, age_s in heard.items() if address in overlay}
            yield from _rip_family(cloud, overlay, near, RIP_UPDATES_MISSED * rip.update_s)


def _rip_family(cloud: Cloud, overlay: Network, heard: dict[Address, float], limit_s: float) -> Iterator[Finding]:
    six, daemon = (", IPv6", "ripngd") if overlay.version == 6 else ("", "ripd")
    hubs = {address: hub.router for hub in cloud.hubs for address in hub.overlay if address in overlay}
    for address, router in hubs.items():
        check, age_s = f"RIP with {router}{six}", heard.get(address)
        if age_s is None or age_s > limit_s:
            what = f"{address} has told of no route" + ("" if age_s is None else f" for {age_s:.0f} s")
            fix = f"it needs the tunnel to {router}; then read {daemon}'s log, here and there"
            yield HERE.failed(check, what, fix)
        else:
            yield HERE.ok(check, f"told of its routes {age_s:.0f} s ago")
    if cloud.role is Role.HUB:
        spokes = {address: age_s for address, age_s in heard.items() if address not in hubs}
        late = [str(address) for address, age_s in spokes.items() if age_s > limit_s]
        check = f"RIP in {cloud.name}{six}"
        if late:
            yield HERE.warning(check, f"silent lately: {' '.join(late[:5])}", "look there")
        else:
            yield HERE.ok(check, f"{len(spokes)} spokes tell of their routes")


def _ospf(patient: Patient) -> Iterator[Finding]:
    found = vtysh.ospf_neighbours(patient.places.frr)
    for cloud in patient.plan.clouds:
        if cloud.routing is not Protocol.OSPF:
            continue
        for own in cloud.addresses:
            check = f"OSPF in {cloud.name}" + (", IPv6" if own.version == 6 else "")
            rows = [one for one in found if one.device == cloud.device and one.address.version == own.version]
            met = {overlay_of(one.address, cloud.overlay) for one in rows if one.full}
            away = [
                hub.router for hub in cloud.hubs for one in hub.overlay if one.version == own.version and one not in met
            ]
            yield _adjacencies(check, away, len(rows), sum(one.full for one in rows))


def _adjacencies(check: str, away: list[str], neighbours: int, full: int) -> Finding:
    """`away` are hubs that are no full neighbours."""
    if away or (neighbours and not full):
        what = f"no full neighbour: {' '.join(away)}" if away else f"{neighbours} neighbours, none of them full"
        fix = "it needs the tunnel; then compare area, mask and timers of both ends, and read its log"
        return HERE.failed(check, what, fix)
    if full < neighbours:
        return HERE.warning(check, f"{full} of {neighbours} neighbours are full", "look again in some seconds")
    return HERE.ok(check, f"{full} neighbour{'' if full == 1 else 's'}, all full")


def _prefixes(patient: Patient, cloud: Cloud, requests: Requests) -> Finding:
    """Hubs announce all that is internal; without that a spoke's packets end at the unreachable route."""
    check = f"internal prefixes by {cloud.name}"
    # Where OSPF or RIP speak all of the overlay is on link: that leads to no network of another site.
    known = {
        row.prefix
        for version in {address.version for address in cloud.addresses}
        for row in routes.dump(requests, family_of(version), TABLE_MAIN)
        if row.kind is RouteKind.UNICAST and row.device == cloud.device and not routes.is_shortcut(row)
        if not any(_holds(overlay, row.prefix) for overlay in cloud.overlay)
    }
    wanted = [net for net in patient.plan.prefixes if any(net.version == own.version for own in cloud.addresses)]
    missing = [
        net
        for net in wanted
        if not any(
            one.version == net.version and one.overlaps(net) and one.prefixlen < net.max_prefixlen for one in known
        )
    ]
    if missing:
        what = f"no route by {cloud.device} into {' '.join(map(str, missing))}"
        if cloud.bgp is None:  # a hub tells of networks, not of all that is internal: there may be none of a family
            return HERE.warning(check, what, "see the sessions above, and whether other sites have such networks")
        return HERE.failed(check, what, "see the sessions above; vtysh: show ip route, show ipv6 route")
    return HERE.ok(check, " ".join(map(str, wanted)))


def _holds(net: Network, prefix: Network) -> bool:
    return net.version == prefix.version and net.prefixlen <= prefix.prefixlen and net.overlaps(prefix)


def _way(patient: Patient, target: Target, requests: Requests) -> Finding:
    check = f"way to {target.name}"
    row = lookup(requests, target.address)
    devices = {cloud.device: cloud for cloud in patient.plan.clouds}
    if row is None:
        return HERE.failed(check, f"no route to {target.address}", "see the sessions above")
    plan = patient.plan
    near = [(lan.prefix, lan.device) for lan in plan.lans] + [(route.prefix, route.device) for route in plan.routes]
    if any(target.address in prefix and row.device == device for prefix, device in near):
        return HERE.ok(check, f"{row.prefix} on {row.device}, this site's own")
    if row.device not in devices:
        return HERE.warning(check, f"{target.address} goes by {row.device}, which is no tunnel", "ip route get it")
    kind = "a shortcut" if routes.is_shortcut(row) else "the routing table"
    via = "the link" if row.gateway is None else overlay_of(row.gateway, devices[row.device].overlay)
    return HERE.ok(check, f"{row.prefix} via {via} on {row.device}, by {kind}")
