"""The ISPs: link, address, gateway, and whether the hubs' ports of IKE answer."""

import socket
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv4Address, ip_address
from threading import Thread

from dmvpn.doctor.patient import Patient
from dmvpn.doctor.report import At, Finding, Layer
from dmvpn.doctor.report import Outcome as Result
from dmvpn.errors import Fault
from dmvpn.linux import arp, hook, link_facts
from dmvpn.linux.link_facts import LinkFacts
from dmvpn.linux.netlink import Address, Requests
from dmvpn.linux.path_probe import EchoProber, IkeProber, Outcome, Probe
from dmvpn.network.plan import Hub, Lan, Uplink

HERE = At(Layer.UNDERLAY)
PATIENCE_S = 1.0
RESOLVE_S = 3.0
TRIES = 2
HUBS_LIMIT = 16
ENDPOINTS_LIMIT = 4


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where IKE reaches a router. `device`: by which uplink, None where there is one only."""

    router: str
    address: Address
    port: int
    marked: bool  # the port of NAT traversal
    device: str | None

    def prober(self) -> IkeProber:
        return IkeProber(self.address, self.port, marked=self.marked, device=self.device)


def underlay(patient: Patient) -> Iterator[Finding]:
    with Requests() as requests:
        links, addresses = link_facts.links(requests), link_facts.addresses(requests)
    for uplink in patient.plan.uplinks:
        finding = _link(uplink, links.get(uplink.device))
        yield finding
        yield _addresses(uplink, {address for device, address in addresses if device == uplink.device})
        if finding.fix == "":
            own = [address.ip for device, address in addresses if device == uplink.device]
            yield from (_gateway(uplink, gateway, own) for gateway in uplink.gateways)
        if uplink.hook is not None:
            yield hook_of(uplink.name, uplink.hook)
    for lan in {lan.name: lan for lan in patient.plan.lans}.values():  # a network of both families has one port
        yield network_port(lan, links.get(lan.device))
    yield from hubs_answer(patient)


def network_port(lan: Lan, link: LinkFacts | None) -> Finding:
    """Of a network of the site: whoever is in it may be cut off while every tunnel is well."""
    return _port(f"network {lan.name}", lan.device, link, "the switch", "")


def _port(check: str, device: str, link: LinkFacts | None, far_end: str, good: str) -> Finding:
    """Whether something can pass it."""
    if link is None:
        return HERE.failed(check, f"there is no device {device}", "look at: ip link")
    if not link.up:
        return HERE.failed(check, f"{device} is down", f"ip link set {device} up")
    if not link.carrier:
        what = f"{device} has no carrier: the cable, or what it is plugged into, is off"
        return HERE.failed(check, what, f"look at the cable and {far_end}")
    return HERE.ok(check, f"{device} is up{good}")


def _link(uplink: Uplink, link: LinkFacts | None) -> Finding:
    check = f"uplink {uplink.name}"
    octets = 0 if link is None else link.mtu_octets
    found = _port(check, uplink.device, link, "the ISP's box", f", MTU {octets}")
    if found.outcome is not Result.OK or octets >= uplink.mtu_octets:
        return found
    what = f"{uplink.device} carries {octets} octets, and the file reckons with {uplink.mtu_octets}"
    return HERE.failed(check, what, f"write mtu: {octets} at the uplink, or set that of the device")


def _addresses(uplink: Uplink, there: set[object]) -> Finding:
    check = f"address of {uplink.name}"
    if uplink.dhcp or not uplink.addresses:
        if there:
            return HERE.ok(check, " ".join(sorted(map(str, there))))
        return HERE.failed(check, f"{uplink.device} was given no address", "look at what the ISP's DHCP or PPP says")
    missing = [str(address) for address in uplink.addresses if address not in there]
    if missing:
        return HERE.failed(check, f"{uplink.device} lacks {' '.join(missing)}", "dmvpn apply puts it there")
    return HERE.ok(check, " ".join(map(str, uplink.addresses)))


def hook_of(uplink: str, program: str) -> Finding:
    """It runs when the uplink dies: too late to find out that it cannot."""
    check = f"hook of {uplink}"
    try:
        hook.check(program)
    except Fault as fault:
        return HERE.warning(check, f"{program}: {fault.what}", fault.fix)
    return HERE.ok(check, f"{program} can be run")


def _gateway(uplink: Uplink, gateway: Address, own: list[Address]) -> Finding:
    """A gateway may keep quiet about pings; for ARP it must answer."""
    check = f"gateway {gateway}"
    fix = f"the ISP's box on {uplink.device} is off, or another address is its gateway"
    try:
        probe = Probe(64)
        for _ in range(TRIES):
            sent = EchoProber(gateway, device=uplink.device).send([probe], timeout_s=PATIENCE_S / TRIES)
            if sent[probe].outcome is Outcome.REACHED:
                return HERE.ok(check, "answers")
        source = next((one for one in own if isinstance(one, IPv4Address)), None)
        if isinstance(gateway, IPv4Address) and source is not None:
            if arp.answers(uplink.device, source, gateway, timeout_s=PATIENCE_S):
                return HERE.ok(check, "answers ARP; pings it does not answer")
            return HERE.failed(check, f"nobody answers for it on {uplink.device}", fix)
    except Fault as fault:
        return HERE.not_looked_at(check, fault.what, fault.fix)
    return HERE.warning(check, f"answers no ping on {uplink.device}", fix)


# ---------------------------------------------------------------- hubs


def hubs_answer(patient: Patient) -> Iterator[Finding]:
    by_router: dict[str, list[Endpoint]] = {}
    for endpoint in endpoints(patient):
        by_router.setdefault(endpoint.router, []).append(endpoint)
    standing = {row.router for row in patient.status.hubs if row.state == "up"} if patient.status else set()
    for router in list(dict.fromkeys(hub.router for hub in hubs(patient)))[:HUBS_LIMIT]:
        yield _hub(patient, router, by_router.get(router, []), stands=router in standing)


def hubs(patient: Patient) -> Iterator[Hub]:
    """Without those of clouds in clear: nobody there needs IKE."""
    return (hub for cloud in patient.plan.clouds for hub in cloud.hubs if cloud.encrypted)


def _hub(patient: Patient, router: str, found: list[Endpoint], *, stands: bool) -> Finding:
    check = f"hub {router}"
    names = [name for hub in hubs(patient) if hub.router == router for name in hub.endpoints]
    if not found:
        what = f"the name {' '.join(map(str, names))} leads to no address"
        return HERE.failed(check, what, "look at the resolver: getent hosts NAME; or write the hub's address")
    said = []
    for endpoint in found:
        port = f"UDP {endpoint.port} of {endpoint.address}"
        by = f" by {endpoint.device}" if endpoint.device else ""
        for _ in range(TRIES):
            prober = endpoint.prober()
            probe = Probe(prober.least_octets)
            answer = prober.send([probe], timeout_s=PATIENCE_S)[probe]
            if answer.outcome is Outcome.REACHED:
                return HERE.ok(check, f"{port} answers{by}")
            if answer.outcome is not Outcome.SILENCE:
                break
        who = f"{answer.router} says: " if answer.router else ""
        said.append(f"{port}{by}: {who}{answer.reason or 'no answer'}")
    if stands:
        return HERE.ok(check, f"{'; '.join(said)}, but packets of its SA come through")
    filters = "a filter, NAT or route on the way, or no charon there: let UDP through, and ask the hub's operator"
    return HERE.failed(check, "; ".join(said), filters)


def endpoints(patient: Patient) -> tuple[Endpoint, ...]:
    """Of every hub, by each uplink that its cloud may use; names are looked up, for a bounded time."""
    uplinks = {uplink.name: uplink for uplink in patient.plan.uplinks}
    several = len(uplinks) > 1
    found: dict[Endpoint, None] = {}
    for cloud in patient.plan.clouds:
        for hub in cloud.hubs if cloud.encrypted else ():
            port = patient.plan.ike.nat_port if hub.ours else patient.plan.ike.port
            ways = [uplinks[name].device if several else None for name in cloud.uplinks if name in uplinks]
            for address in _addresses_of(hub)[:ENDPOINTS_LIMIT]:
                for device in ways or [None]:
                    found.setdefault(Endpoint(hub.router, address, port, hub.ours, device))
    return tuple(found)


def _addresses_of(hub: Hub) -> list[Address]:
    found = [endpoint for endpoint in hub.endpoints if not isinstance(endpoint, str)]
    for name in (endpoint for endpoint in hub.endpoints if isinstance(endpoint, str)):
        found += [address for address in _looked_up(name) if address not in found]
    return found


def _looked_up(name: str) -> list[Address]:
    """A resolver that does not answer would hold us for a minute: the thread that asks it is left behind."""
    found: list[Address] = []

    def ask() -> None:
        with suppress(OSError):
            rows = socket.getaddrinfo(name, None, type=socket.SOCK_DGRAM)
            found.extend(ip_address(row[4][0]) for row in rows)

    asking = Thread(target=ask, daemon=True)
    asking.start()
    asking.join(RESOLVE_S)
    return list(dict.fromkeys(found))
