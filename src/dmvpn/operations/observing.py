"""What runs: status, peers, cache, ping with its path, explain. Facts come from dmvpnd."""

import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from dmvpn.daemon.control import CacheRow, GatewayRow, NodeStatus, PathView, PeerRow, State, UplinkRow, WhyNot, ask
from dmvpn.errors import Fault, WrongInput
from dmvpn.linux.echo import Echo, Pinger
from dmvpn.linux.link_local import overlay_of
from dmvpn.linux.netlink import Requests
from dmvpn.linux.route_lookup import lookup
from dmvpn.linux.routes import is_shortcut
from dmvpn.network.places import NOT_ANNOUNCED
from dmvpn.network.plan import Plan
from dmvpn.operations import reading
from dmvpn.operations.here import Here

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

__all__ = [
    "CacheRow",
    "GatewayRow",
    "NodeStatus",
    "PathView",
    "State",
    "UplinkRow",
    "WhyNot",
    "explain",
    "moments",
    "ping",
    "place",
    "purge",
    "status",
]

STATUS = TypeAdapter(NodeStatus)
PATH_VIEWS = TypeAdapter(tuple[PathView, ...])
EXPLAIN_TIMEOUT_S = 60.0  # hops that do not answer take their time
SITE_PREFIXES_LIMIT = 32
TTL_START = 64  # Linux; what answers with another start is counted from the next power of two


@dataclass(frozen=True, slots=True)
class Place:
    """A router or site by name, and the addresses that stand for it."""

    name: str
    router: str
    overlay: Address  # where its dmvpnd answers
    target: Address  # what is pinged: its address in its first network, else the overlay address
    networks: tuple[Network, ...]
    behind: bool = False  # the target is a host behind the router, which is one more to forward an answer


@dataclass(frozen=True, slots=True)
class Pong:
    """One answer, or its absence (`rtt_s` None), with the way there and the way back in an operator's words."""

    sequence: int
    rtt_s: float | None
    way_out: str
    way_back: str
    ttl: int
    waited: bool = True  # False: it could not be sent

    @property
    def direct(self) -> bool:
        return self.rtt_s is not None and self.way_out == "direct" and self.way_back == "direct"

    @property
    def path(self) -> str:
        if self.rtt_s is None:
            return f"no answer ({self.way_out})" if self.waited else self.way_out
        return self.way_out if self.way_out == self.way_back else f"out {self.way_out}, back {self.way_back}"


def status(here: Here) -> NodeStatus:
    """Raises Fault where nothing is in force, and for a dmvpnd that does not answer."""
    if not here.in_force:
        raise Fault(here.network, "nothing of it is in force on this machine", "run `dmvpn apply FILE` first")
    return STATUS.validate_python(ask(Path(here.layout.reading_socket), {"ask": "status"}))


def moments(here: Here) -> list[dict[str, Any]]:
    """What the NHRP engines remember of the last minutes, oldest first."""
    return list(ask(Path(here.layout.reading_socket), {"ask": "moments"}))


def purge(here: Here, prefix: str | None) -> None:
    ask(Path(here.layout.control_socket), {"ask": "purge", "prefix": prefix})


def place(here: Here, name: str, version: int | None = None) -> Place:
    """A router, site or internal address by the name in the file in force. Raises WrongInput for an unknown one.

    `version`: of what has addresses of both families, the family that is meant.
    """
    loaded = reading.in_force(here)
    plans = reading.plans_without_secrets(loaded)
    for router, plan in plans.items():
        if name in (router, plan.site):
            return _place(name, plan, version)
    peers = _peers(here)
    met = next((peer for peer in peers if peer.name == name), None)
    if met is not None:
        return _met(met, version)
    try:
        address = ip_address(name)
    except ValueError as error:
        known = sorted({*plans, *(plan.site for plan in plans.values()), *(peer.name for peer in peers if peer.name)})
        what = "neither a router nor a site nor an address that is known here"
        raise WrongInput(name, what, f"known: {', '.join(known)}; or give an address") from error
    for plan in plans.values():
        if any(address in prefix for prefix in plan.serves if prefix.version == address.version):
            overlay = _first(plan.clouds[0].addresses, address.version)
            behind = all(address != lan.address.ip for lan in plan.lans)
            return Place(name, plan.router, overlay, address, plan.serves, behind)
        if any(address in cloud.addresses for cloud in plan.clouds):
            return Place(name, plan.router, address, address, plan.serves)
        apart = next((lan for lan in plan.lans if lan.zone == NOT_ANNOUNCED and address in lan.prefix), None)
        if apart is not None:
            raise WrongInput(name, f"is in {plan.site}.{apart.name}, zone {NOT_ANNOUNCED}: no tunnel carries it")
    return _elsewhere(name, address, loaded.network.prefixes, peers)


def _elsewhere(name: str, address: Address, internal: Sequence[Network], peers: Sequence[PeerRow]) -> Place:
    """At a site that the file in force does not have: a router that joined has only its own part of it."""
    for peer in peers:
        if any(address in ip_network(prefix) for prefix in peer.prefixes):
            return replace(_met(peer, address.version), target=address)
    if not any(address in prefix for prefix in internal):
        raise WrongInput(name, "no site of the network has this address")
    return Place(name, name, address, address, ())


def _met(peer: PeerRow, version: int | None = None) -> Place:
    """A router that is a peer now: its certificate tells its name."""
    overlay = _first([ip_address(one) for one in peer.overlay.split()], version)
    return Place(peer.name, peer.name, overlay, overlay, tuple(ip_network(prefix) for prefix in peer.prefixes))


def _peers(here: Here) -> tuple[PeerRow, ...]:
    try:
        return status(here).peers
    except Fault:  # what runs is not needed to know what the file says
        return ()


def _place(name: str, plan: Plan, version: int | None) -> Place:
    overlay = _first(plan.clouds[0].addresses, version)
    target = _first([lan.address.ip for lan in plan.lans], version) if plan.lans else overlay
    return Place(name, plan.router, overlay, target, plan.serves)


def _first(addresses: Sequence[Address], version: int | None) -> Address:
    """The first of that family, or of any where there is none."""
    return next((one for one in addresses if one.version == version), addresses[0])


def _version_in(*names: str) -> int | None:
    """The family of the first name that is an address."""
    for name in names:
        with suppress(ValueError):
            return ip_address(name).version
    return None


def explain(here: Here, source: str, destination: str) -> tuple[PathView, ...]:
    """What each router on the way from `source` to `destination` does with such packets, and on the way back."""
    version = _version_in(destination, source)
    start, end = place(here, source, version), place(here, destination, version)
    for one in (start, end):
        if version is not None and one.target.version != version:
            raise WrongInput(one.name, f"has no IPv{version} address", "name addresses of one family, or routers")
    if start.router == end.router:
        raise WrongInput(destination, f"is on the same router as {source}", "name two routers or sites")
    question = {
        "ask": "explain",
        "from": str(start.overlay),
        "to": str(end.overlay),
        "source": str(start.target),
        "destination": str(end.target),
        "source_site": [str(net) for net in start.networks[:SITE_PREFIXES_LIMIT]],
        "site": [str(net) for net in end.networks[:SITE_PREFIXES_LIMIT]],
    }
    answer = ask(Path(here.layout.reading_socket), question, timeout_s=EXPLAIN_TIMEOUT_S)
    return PATH_VIEWS.validate_python(answer)


def ping(here: Here, name: str, *, count: int, interval_s: float, timeout_s: float) -> Iterator[Pong]:
    """Echo requests to a site's router; each answer with the way it went, as far as this end can know it.

    The way out is the kernel's decision at the moment of sending; the way back is counted from the TTL.
    """
    target = place(here, name)
    own = _own_plan(here)
    # From the site's network where there is one: that is the traffic whose path matters.
    source = next((lan.address.ip for lan in own.lans if lan.address.version == target.target.version), None)
    pinger = Pinger(target.target, source)
    requests = Requests()
    try:
        for sequence in range(1, count + 1):
            way_out = _way_out(requests, target, own)
            try:
                pinger.send(sequence)
            except Fault as fault:
                # No route at this moment is a lost packet, as on the wire; the next one may find a way.
                time.sleep(interval_s)
                yield Pong(sequence, None, fault.what.lower(), "", 0, waited=False)
                continue
            pong = _await(pinger, sequence, way_out, timeout_s=timeout_s, interval_s=interval_s)
            yield replace(pong, way_back=way_back(pong.ttl + 1)) if target.behind and pong.rtt_s is not None else pong
    finally:
        pinger.close()
        requests.close()


def _await(pinger: Pinger, sequence: int, way_out: str, *, timeout_s: float, interval_s: float) -> Pong:
    answer: Echo | None = None
    for echo in pinger.answers(timeout_s):
        if echo.sequence == sequence:
            answer = echo
            break
    if answer is None:
        return Pong(sequence, None, way_out, "", 0)
    for _late in pinger.answers(max(0.0, interval_s - answer.rtt_s)):
        pass
    return Pong(sequence, answer.rtt_s, way_out, way_back(answer.ttl), answer.ttl)


def way_back(ttl: int) -> str:
    """A router that answers itself sends with 64: as many as are missing have forwarded the answer."""
    hops = TTL_START - ttl
    if hops <= 0:
        return "direct"
    return "via hub" if hops == 1 else f"via {hops} routers"


def _way_out(requests: Requests, place: Place, own: Plan) -> str:
    """By a hub, or by nobody in between: a hub is the only one who relays."""
    row = lookup(requests, place.target)
    if row is None:
        return "no route"
    cloud = next((one for one in own.clouds if one.device == row.device), None)
    if cloud is None or is_shortcut(row) or row.gateway is None:
        return "direct"
    gateway = overlay_of(row.gateway, cloud.overlay)  # OSPFv3 and RIPng call a router by its link-local address
    hubs = {address for hub in cloud.hubs for address in hub.overlay}
    return "via hub" if gateway in hubs and gateway != place.overlay else "direct"


def _own_plan(here: Here) -> Plan:
    loaded = reading.in_force(here)
    router = here.router()
    if router is None:
        raise Fault(str(here.router_file), "missing", "run `dmvpn apply` on this router")
    return reading.plan_without_secrets(loaded, router)  # what is read of it is the same on both planes
