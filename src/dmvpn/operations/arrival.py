"""Whether a router has reached its hubs: seconds, or the layer that failed and why, in the words of `peers`."""

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from dmvpn.daemon.control import HubRow, NodeStatus, PeerRow, State
from dmvpn.errors import Fault
from dmvpn.linux import vtysh
from dmvpn.linux.echo import Pinger
from dmvpn.linux.link_local import overlay_of
from dmvpn.linux.pace import patience
from dmvpn.network.plan import Address, Plan, Protocol
from dmvpn.operations import observing
from dmvpn.operations.here import Here

LOOK_S = 0.1
PING_S = 1.0
UNDERLAY, IKE, NHRP, ROUTE, UP = "UNDERLAY", "IKE", "NHRP", "ROUTE", "UP"


@dataclass(frozen=True, slots=True)
class Arrival:
    """`hub` is the first that was reached, with its routes; or nobody was, and `layer` is the first that failed."""

    hub: str
    seconds: float
    layer: str = UP
    why: str = ""

    @property
    def good(self) -> bool:
        return self.layer == UP


def await_hub(
    here: Here, plan: Plan, *, since: float, within_s: float, report: Callable[[str], None] = lambda _: None
) -> Arrival:
    """Wait until one hub is up and its routes are here. `since` is the monotonic time from which seconds count."""
    deadline = time.monotonic() + patience(within_s)
    found = Arrival("", 0.0, UNDERLAY, "dmvpnd does not answer yet")
    while True:
        with suppress(Fault):  # it is about to start
            found = _look(here, plan, observing.status(here))
        if found.good or time.monotonic() >= deadline:
            break
        report(f"{found.layer}: {found.why}")
        time.sleep(LOOK_S)
    if found.layer in (UNDERLAY, IKE):
        found = _underlay(plan, found)
    return Arrival(found.hub, time.monotonic() - since, found.layer, found.why)


def _look(here: Here, plan: Plan, status: NodeStatus) -> Arrival:
    """The best of the hubs now. A hub without other hubs has arrived by itself."""
    wanted = [cloud for cloud in plan.clouds if cloud.hubs]
    if not wanted:
        return Arrival(plan.router, 0.0)
    order = (UNDERLAY, IKE, NHRP, ROUTE, UP)
    seen = [_one(here, plan, status, row) for row in status.hubs]
    none = Arrival("", 0.0, UNDERLAY, "dmvpnd knows no hub yet")
    return max(seen, key=lambda arrival: order.index(arrival.layer), default=none)


def _one(here: Here, plan: Plan, status: NodeStatus, row: HubRow) -> Arrival:
    peer = next((peer for peer in status.peers if peer.kind == "hub" and peer.nbma == row.nbma), None)
    name = row.router or row.overlay
    if peer is None or (peer.state is not State.DIRECT and peer.layer == UNDERLAY):
        return Arrival(name, 0.0, IKE, f"{name} has no SA with us yet" + (f" ({row.why})" if row.why else ""))
    if peer.state is not State.DIRECT:
        return Arrival(name, 0.0, NHRP, f"{name} has not answered our registration ({row.why or peer.why})")
    missing = _routes(here, plan, status, peer)
    return Arrival(name, 0.0, ROUTE, missing) if missing else Arrival(name, 0.0)


def _routes(here: Here, plan: Plan, status: NodeStatus, peer: PeerRow) -> str:
    """Empty once the hub has told its routes; else what is missing."""
    cloud = next(cloud for cloud in plan.clouds if cloud.name == peer.cloud)
    overlay = peer.overlay.split()
    match cloud.routing:
        case Protocol.BGP:
            session = next((one for one in status.bgp if str(one["address"]) in overlay), None)
            state = "has not begun" if session is None else f"is in state {session['state']}"
            if session is None or session["state"] != "Established":
                return f"the BGP session with {peer.name} {state}"
            return "" if session["prefixes"] else f"{peer.name} has told no route yet"
        case Protocol.OSPF:
            known = vtysh.ospf_neighbours(Path(here.layout.frr_run))
            full = {one.address.version for one in known if one.full and one.device == cloud.device}
            common = {own.version for own in cloud.addresses} & {ip_address(one).version for one in overlay}
            lacking = next(iter(sorted(common - full)), None)
            return "" if lacking is None else f"OSPF has no full neighbour of IPv{lacking} in {cloud.name} yet"
        case Protocol.RIP:
            heard = vtysh.rip_sources(Path(here.layout.frr_run))
            met = {str(overlay_of(one.address, cloud.overlay)) for one in heard}
            versions = {own.version for own in cloud.addresses}
            silent = [one for one in overlay if ip_address(one).version in versions and one not in met]
            return f"RIP has heard of no route by {peer.name} ({silent[0]}) yet" if silent else ""


def _underlay(plan: Plan, found: Arrival) -> Arrival:
    """Whether the Internet reaches the hub at all: a ping tells, where it is answered."""
    hub = next((hub for cloud in plan.clouds for hub in cloud.hubs if hub.router == found.hub), None)
    addresses = [end for end in hub.endpoints if not isinstance(end, str)] if hub is not None else []
    if not addresses:
        return found
    answer = _pinged(addresses[0])
    if answer == "":
        why = f"{found.hub} answers a ping at {addresses[0]}, but no IKE (UDP 4500): {found.why}"
        return Arrival(found.hub, 0.0, IKE, why)
    return Arrival(found.hub, 0.0, UNDERLAY, f"{found.hub} answers neither IKE nor ping at {addresses[0]}{answer}")


def _pinged(address: Address) -> str:
    try:
        pinger = Pinger(ip_address(str(address)), None)
        try:
            pinger.send(1)
            return "" if any(True for _ in pinger.answers(patience(PING_S))) else " "
        finally:
            pinger.close()
    except Fault as fault:
        return f" ({fault.what})"
