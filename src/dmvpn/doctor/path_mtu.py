"""Whether full packets get through: inside the tunnel to each peer, and outside hop by hop."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_address

from dmvpn.daemon.control import PeerRow, State
from dmvpn.doctor import hops
from dmvpn.doctor.hops import Carries
from dmvpn.doctor.patient import Patient
from dmvpn.doctor.report import At, Finding, Layer
from dmvpn.doctor.underlay import Endpoint, endpoints
from dmvpn.errors import Fault
from dmvpn.linux.netlink import Address
from dmvpn.linux.path_probe import EchoProber, Outcome, Probe, Prober
from dmvpn.network.plan import Cloud

HERE = At(Layer.MTU)
FIRST_S = 1.0
PEERS_LIMIT = 8
PATHS_LIMIT = 8
LIMIT_S = 60.0
OVER = f"the {LIMIT_S:g} s for this layer are over"


@dataclass(frozen=True, slots=True)
class Far:
    """The far end of a tunnel, or what is behind it."""

    name: str
    address: Address
    cloud: Cloud


def path_mtu(patient: Patient) -> Iterator[Finding]:
    """Every way to a hub first, whether or not its tunnel stands: it explains the tunnels, which come then."""
    until = time.monotonic() + LIMIT_S
    for endpoint in _ways(patient):
        if time.monotonic() > until:
            yield HERE.not_looked_at(f"way to {endpoint.router}", OVER, "try again")
        else:
            yield _way(patient, endpoint)
    for far in _far_ends(patient):
        if time.monotonic() > until:
            yield HERE.not_looked_at(f"tunnel to {far.name}", OVER, f"look at it alone: dmvpn doctor {far.name}")
        else:
            yield _tunnel(patient, far)


def _far_ends(patient: Patient) -> list[Far]:
    """Hubs and direct peers; with a target, that alone."""
    clouds = {cloud.name: cloud for cloud in patient.plan.clouds}
    if patient.target is not None:
        row = _row_of(patient, patient.target.router)
        cloud = clouds.get(row.cloud) if row else patient.plan.clouds[0]
        return [Far(patient.target.name, patient.target.address, cloud or patient.plan.clouds[0])]
    found = {
        (hub.router, cloud.name): Far(hub.router, address, cloud)
        for cloud in patient.plan.clouds
        for hub in cloud.hubs
        for address in hub.overlay[:1]
    }
    rows = patient.status.peers if patient.status else ()
    for row in rows:
        if row.state is State.DIRECT and row.kind != "hub" and row.cloud in clouds and len(found) < PEERS_LIMIT:
            name = row.name or row.overlay
            found.setdefault((name, row.cloud), Far(name, ip_address(row.overlay.split()[0]), clouds[row.cloud]))
    return list(found.values())


def _row_of(patient: Patient, router: str) -> PeerRow | None:
    rows = patient.status.peers if patient.status else ()
    return next((row for row in rows if row.name == router), None)


def _tunnel(patient: Patient, far: Far) -> Finding:
    check, full = f"tunnel to {far.name}", far.cloud.mtu_octets
    own = next((one for one in far.cloud.addresses if one.version == far.address.version), None)
    if patient.target is not None and patient.plan.lans:
        lans = [lan.address.ip for lan in patient.plan.lans if lan.address.version == far.address.version]
        own = lans[0] if lans else own
    try:
        _, found = _measured(patient, EchoProber(far.address, source=own), full, far.name)
    except Fault as fault:
        return HERE.not_looked_at(check, fault.what, fault.fix)
    if found.octets >= full:
        return HERE.ok(check, f"{full} octets pass unfragmented")
    if found.octets == 0:
        what = f"{far.address} answers no ping of any size: {found.reason}"
        if patient.target is not None:
            return HERE.warning(check, what, "it may answer no pings; see the layers above")
        return HERE.failed(check, what, "see the layers above")
    how = f"{found.told_by} says so" if found.told_by else "larger ones vanish without a word"
    what = f"carries {found.octets} octets of the device's {full}: {how}"
    return HERE.failed(check, what, "see the way there above; until it is mended, a smaller `underlay-mtu` helps")


def _ways(patient: Patient) -> list[Endpoint]:
    if patient.target is not None:
        row = _row_of(patient, patient.target.router)
        found = _address_and_port(row.endpoint) if row is not None and row.state is State.DIRECT else None
        if row is not None and found is not None:
            address, port = found
            number = patient.plan.ike.nat_port if port is None else port
            return [Endpoint(row.name, address, number, number != patient.plan.ike.port, None)]
    return list(endpoints(patient))[:PATHS_LIMIT]


def _address_and_port(text: str) -> tuple[Address, int | None] | None:
    """192.0.2.1:4500, [2001:db8::1]:4500, or an address alone. None: a name."""
    host, port = text, ""
    if text.startswith("["):
        host, _, port = text[1:].removesuffix("]").partition("]:")
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
    try:
        return ip_address(host), int(port) if port else None
    except ValueError:
        return None


def _way(patient: Patient, endpoint: Endpoint) -> Finding:
    """With packets of the uplink's size: what the file reckons with, and what `ping -M do -s 1472` is."""
    by = f" by {endpoint.device}" if endpoint.device else ""
    check = f"way to {endpoint.router} ({endpoint.address}){by}"
    uplinks = [one for one in patient.plan.uplinks if endpoint.device in (None, one.device)]
    full = min((one.mtu_octets for one in uplinks), default=1500)
    needed = max(patient.needs_octets.values(), default=full)
    prober = endpoint.prober()
    timeout_s, found = _measured(patient, prober, full, endpoint.router)
    if found.octets >= full:
        return HERE.ok(check, f"{full} octets pass unfragmented")
    if found.octets and not found.silent:
        who = f"{found.told_by} says so" if found.told_by else found.reason or "found by trying"
        what = f"carries {found.octets} of {full} octets, {who}; a full packet of the tunnel has {needed}"
        if found.octets >= needed:
            return HERE.ok(check, what)
        return HERE.failed(check, what, _write(endpoint, found.octets))
    patient.announce(f"where large packets end on the way to {endpoint.router}")
    hole, seen = hops.black_hole(prober, full, timeout_s=timeout_s)
    if hole is None and not found.octets:
        if not seen:
            return HERE.warning(check, f"nobody on it answers: {found.reason}", "see UNDERLAY above")
        far = seen[-1]
        return HERE.ok(check, f"{full} octets pass as far as anybody answers: {far}; {endpoint.router} keeps quiet")
    return _swallowed(check, endpoint, found, hole, full, needed)


def _swallowed(
    check: str, endpoint: Endpoint, found: Carries, hole: hops.BlackHole | None, full: int, needed: int
) -> Finding:
    size = f"more than {found.octets}" if found.octets else f"{full}"
    where = (
        f"{hole.last} drops packets of {size} octets on the way to {hole.beyond}"
        if hole
        else f"packets of {size} octets are dropped"
    )
    what = f"{where} and does not say so (black hole); a full packet of the tunnel has {needed}"
    fix = "its operator must let ICMP type 3 code 4 out, or carry 1500"
    if found.octets >= needed:
        return HERE.warning(check, what, fix)
    return HERE.failed(check, what, f"{fix}; until then {_write(endpoint, found.octets)}" if found.octets else fix)


def _write(endpoint: Endpoint, octets: int) -> str:
    return f"write underlay-mtu: {octets} at the cloud, or mtu: {octets} at the uplink, and apply"


def _measured(patient: Patient, prober: Prober, full: int, name: str) -> tuple[float, Carries]:
    """How long to wait for an answer there, from the first to a small packet, and how much gets through."""
    patient.announce(f"how much the way to {name} carries")
    probe = Probe(max(prober.least_octets, hops.LEAST_OCTETS))
    for _ in range(2):
        began = time.monotonic()
        answer = prober.send([probe], timeout_s=FIRST_S)[probe]
        if answer.outcome is not Outcome.SILENCE:
            timeout_s = hops.patience_s(time.monotonic() - began)
            return timeout_s, hops.how_much(prober, full, timeout_s=timeout_s)
    return FIRST_S, Carries(0, reason="no answer to a packet of any size")
