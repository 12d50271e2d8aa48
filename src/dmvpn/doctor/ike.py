"""Certificates, revocation lists, charon, and the SAs with the hubs."""

from collections.abc import Iterator
from ipaddress import ip_network

from dmvpn.daemon.control import NodeStatus
from dmvpn.doctor.patient import Papers, Patient
from dmvpn.doctor.report import At, Finding, Layer
from dmvpn.doctor.underlay import hubs
from dmvpn.errors import Fault
from dmvpn.linux import kernel_facts
from dmvpn.linux.netlink import Address
from dmvpn.linux.vici_client import IkeSa, ViciSession
from dmvpn.network.plan import Hub

HERE = At(Layer.IKE)
SOON_DAYS = 7
CLAIMS_NAMED = 3
CARRIES = "INSTALLED"
GRE = "[gre]"


def ike(patient: Patient) -> Iterator[Finding]:
    if not any(cloud.encrypted for cloud in patient.plan.clouds):
        yield HERE.ok("IKE", "no cloud of this router is encrypted: crypto is none")
        return
    yield papers(patient)
    yield lists(patient.papers)
    port = patient.plan.ike.nat_port
    holders = kernel_facts.udp_holders(port)
    if not holders:
        yield HERE.failed("charon", f"nobody listens on UDP {port}", "see the services above; dmvpn run")
    try:
        sas = standing(patient)
    except Fault as fault:
        silent = HERE.not_looked_at("charon", fault.what, "run as root")
        yield HERE.failed("charon", fault.what, "see the services above; dmvpn run") if not holders else silent
        yield from by_dmvpnd(patient.status) if patient.status is not None else ()
        return
    if holders:
        yield HERE.ok("charon", f"listens on UDP {port}; IKE_SAs: {len(sas)}")
    seen = set()
    for hub in hubs(patient):
        if hub.nbma not in seen:
            seen.add(hub.nbma)
            yield _hub(patient.status, hub, sas)


def papers(patient: Patient) -> Finding:
    """By this machine's clock, so a wrong clock shows here too."""
    own, now, check = patient.papers, patient.now, "certificate"
    clock = f"this machine's clock says {now:%Y-%m-%d %H:%M} UTC"
    renew = f"dmvpn pki renew {patient.plan.router} (at the authority), and set the clock if it is wrong"
    if own.trouble:
        return HERE.failed(check, own.trouble, "dmvpn pki install DIRECTORY")
    if own.not_before is None or own.not_after is None:
        return HERE.not_looked_at(check, "cannot be read", "run as root")
    if now < own.not_before:
        return HERE.failed(
            check, f"is not valid before {own.not_before:%Y-%m-%d %H:%M} UTC, and {clock}", "date -u; set the clock"
        )
    if now >= own.not_after:
        return HERE.failed(check, f"expired on {own.not_after:%Y-%m-%d %H:%M} UTC, and {clock}", renew)
    if own.revoked:
        return HERE.failed(check, f"was {own.revoked}: other routers refuse it", renew)
    left = own.not_after - now
    until = f"good until {own.not_after:%Y-%m-%d}"
    if left.days < SOON_DAYS and left < (own.not_after - own.not_before) / 3:
        return HERE.warning(check, f"{until}, and was not renewed", renew)
    if own.unclaimed:
        what = f"{until}, but does not claim {', '.join(own.unclaimed[:CLAIMS_NAMED])}: other routers drop that"
        fix = f"dmvpn pki renew {patient.plan.router} (at the authority), then dmvpn pki install here"
        return HERE.failed(check, what, fix)
    return HERE.ok(check, until)


def lists(own: Papers) -> Finding:
    if own.overdue:
        what = f"{'; '.join(own.overdue)}: what was revoked since is not known here"
        return HERE.warning(
            "revocation lists", what, "dmvpn pki publish (at the authority), then pki install-list here"
        )
    return HERE.ok("revocation lists", "none is overdue")


def standing(patient: Patient) -> tuple[IkeSa, ...]:
    """What charon has, by its own word. Raises Fault."""
    with ViciSession(patient.places.vici) as session:
        return session.list_sas()


def carrying(sas: tuple[IkeSa, ...]) -> dict[Address, IkeSa]:
    """By the peer's NBMA address, as far as the selectors of an installed child tell it."""
    found: dict[Address, IkeSa] = {}
    for sa in sas:
        for child in sa.children:
            if child.state == CARRIES:
                found |= {address: sa for text in child.remote_ts if (address := _host(text)) is not None}
    return found


def _host(selector: str) -> Address | None:
    """100.64.0.1/32[gre]: one host."""
    try:
        network = ip_network(selector.removesuffix(GRE))
    except ValueError:
        return None
    return network.network_address if network.num_addresses == 1 else None


def _hub(status: NodeStatus | None, hub: Hub, sas: tuple[IkeSa, ...]) -> Finding:
    check = f"SA with {hub.router}"
    sa = carrying(sas).get(hub.nbma)
    if sa is not None:
        natted = ", in UDP" if sa.remote_port not in (0, 500) else ""
        return HERE.ok(check, f"stands with {sa.remote_host}{natted}, {sa.remote_id}")
    why = _why(status, hub.router)
    trying = [one for one in sas if one.remote_host in map(str, hub.endpoints) and one.state != "ESTABLISHED"]
    if trying:
        said = "it has answered" if trying[0].answered else "nobody has answered yet"
        return HERE.failed(check, f"IKE is being tried with {trying[0].remote_host}, {said}{why}", _fix(hub))
    return HERE.failed(check, f"there is none{why}", _fix(hub))


def _why(status: NodeStatus | None, router: str) -> str:
    reasons = {row.why for row in status.hubs if row.router == router and row.why} if status else set()
    return f" ({'; '.join(sorted(reasons))})" if reasons else ""


def _fix(hub: Hub) -> str:
    return f"read charon's log here and at {hub.router}: both say who refused and why"


def by_dmvpnd(status: NodeStatus) -> Iterator[Finding]:
    """The SAs with hubs as dmvpnd sees them."""
    for row in status.hubs:
        check = f"SA with {row.router}"
        if row.state == "up":
            yield HERE.ok(check, "stands, by dmvpnd's word")
        else:
            yield HERE.failed(check, f"{row.state}: {row.why}", "run as root to see more")
