"""Examining this router: what the doctor needs to know beforehand, and its findings as they come."""

import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from dmvpn.daemon import papers as kept
from dmvpn.daemon.control import NodeStatus
from dmvpn.doctor.examination import examine, examine_by_word
from dmvpn.doctor.patient import Papers, Passage, Patient, Places, Target
from dmvpn.doctor.report import Finding, Outcome, verdict
from dmvpn.errors import Fault
from dmvpn.firewall.ruleset import Verdict
from dmvpn.firewall.verdicts import Packet, judge
from dmvpn.identity.chain import Chain, key_identifier, to_der
from dmvpn.identity.revocation import Revocations
from dmvpn.linux import netstate_file
from dmvpn.linux.services import ServiceStatus
from dmvpn.network.model import Underlay
from dmvpn.network.mtu import GRE_KEY_OCTETS, GRE_OCTETS, cipher_of, underlay_octets
from dmvpn.network.plan import Cloud, Plan, Plane
from dmvpn.operations import keeping, observing, pki, reading
from dmvpn.operations.here import Here
from dmvpn.operations.reading import NetworkFile
from dmvpn.render import frr, nft_policy
from dmvpn.render.interfaces import FILE as STATE_FILE
from dmvpn.render.nftables import FILE as RULES_FILE
from dmvpn.render.nftables import table

PING = {4: (1, 8), 6: (58, 128)}  # protocol and type of an echo request

__all__ = ["Finding", "Outcome", "findings", "verdict"]


def findings(here: Here, destination: str | None, announce: Callable[[str], None]) -> Iterator[Finding]:
    """One after the other, as they are made; `announce` hears what takes a while. Nothing is changed.

    Raises Fault where nothing is in force, WrongInput for a destination that nobody knows.
    """
    if not here.in_force:
        raise Fault(here.network, "nothing of it is in force on this machine", "run `dmvpn apply FILE` first")
    if not os.access(here.network_file, os.R_OK):
        yield from examine_by_word(*_asked(here), "the network file is for root's eyes only")
        return
    yield from examine(_patient(here, destination, announce))


def _patient(here: Here, destination: str | None, announce: Callable[[str], None]) -> Patient:
    file = reading.in_force(here)
    plan = reading.plan_without_secrets(file, here.router() or "", _planes(here))
    status, silent = _asked(here)
    services, services_trouble = _services(here)
    target = None if destination is None else _target(here, destination)
    current = Path(here.layout.current)
    return Patient(
        plan=plan,
        places=Places(
            vici=Path(here.layout.vici_socket),
            frr=Path(here.layout.frr_run),
            rules=current / RULES_FILE,
            state=current / STATE_FILE,
            table=table(here.network),
        ),
        status=status,
        silent=silent,
        services=services,
        services_trouble=services_trouble,
        papers=_papers(plan, Path(here.layout.pki)),
        needs_octets={cloud.name: _needs_octets(file, plan, cloud) for cloud in plan.clouds},
        look_again=lambda: _asked(here)[0],
        announce=announce,
        now=datetime.now(UTC),
        applied=_written(current / STATE_FILE),
        target=target,
        asked_of_frr=frr.asked(plan),
        passages=() if target is None else tuple(passages(plan, target)),
    )


def _planes(here: Here) -> tuple[Plane, ...]:
    """Those that the revision in force is made for: what this machine could do meanwhile is another matter."""
    state = netstate_file.load(Path(here.layout.current) / STATE_FILE)
    kernel = any(device.kind == "gre" for device in state.devices)
    return (Plane.KERNEL, Plane.USERSPACE) if kernel else (Plane.USERSPACE,)


def _asked(here: Here) -> tuple[NodeStatus | None, str]:
    try:
        return observing.status(here), ""
    except Fault as fault:
        return None, f"{fault.what}" if fault.where == "dmvpnd" else str(fault)


def _services(here: Here) -> tuple[tuple[ServiceStatus, ...], str]:
    if os.geteuid() != 0:
        return (), "who keeps them tells root only"
    try:
        return keeping.of(here).status(), ""
    except Fault as fault:
        return (), str(fault)


def _written(path: Path) -> datetime | None:
    try:
        return datetime.fromtimestamp(path.stat().st_mtime, UTC)
    except OSError:
        return None


def _target(here: Here, destination: str) -> Target:
    place = observing.place(here, destination)
    return Target(place.name, place.router, place.target)


def passages(plan: Plan, target: Target) -> Iterator[Passage]:
    """From each network of this router that has the target's family."""
    rules = nft_policy.ruleset(plan)
    version = target.address.version
    ways = [cloud for cloud in plan.clouds if any(one.version == version for one in cloud.addresses)]
    if rules is None or not ways or target.router == plan.router:
        return
    for lan in plan.lans:
        if lan.prefix.version == version:
            ping = Packet(
                device_in=lan.device,
                device_out=ways[0].device,
                source=lan.prefix[-2],
                destination=target.address,
                protocol=PING[version][0],
                type=PING[version][1],
                protected_out=ways[0].encrypted and ways[0].plane is Plane.KERNEL,  # its ESP alone is seen by rules
            )
            outcome = judge(rules, ping)
            yield Passage(lan.name, target.name, outcome.verdict is Verdict.ACCEPT, outcome.origin)


def _needs_octets(file: NetworkFile, plan: Plan, cloud: Cloud) -> int:
    model = file.network.clouds[cloud.name]
    outer = 40 if model.underlay is Underlay.IPV6 else 20
    if not cloud.encrypted:
        return cloud.mtu_octets + outer + GRE_OCTETS + (GRE_KEY_OCTETS if cloud.gre_key is not None else 0)
    return underlay_octets(
        cloud.mtu_octets,
        cipher_of(plan.ike.esp_proposal),
        cloud.plane,
        outer_octets=outer,
        gre_key=cloud.gre_key is not None,
        nat_traversal=model.nat_traversal,
    )


# ---------------------------------------------------------------- papers


def _papers(plan: Plan, directory: Path) -> Papers:
    here = kept.Papers(directory)
    if not os.access(directory, os.R_OK | os.X_OK) and directory.parent.is_dir() and os.geteuid() != 0:
        return Papers()
    try:
        chain = here.chain()
        certificate = here.read(kept.ROUTER_CERTIFICATE)
        vouched = chain.vouch(to_der(certificate))
        lists = _lists(here, chain)
        entry = lists.entry(vouched, [key_identifier(root) for root in chain.roots])
    except Fault as fault:
        return Papers(trouble=str(fault))
    overdue = lists.overdue(datetime.now(UTC))
    return Papers(
        not_before=vouched.not_before,
        not_after=vouched.not_after,
        revoked="" if entry is None else str(entry),
        overdue=tuple(
            f"list {one.number} should have had a successor on {one.next_update:%Y-%m-%d}" for one in overdue
        ),
        unclaimed=pki.unclaimed(plan, certificate),
    )


def _lists(here: kept.Papers, chain: Chain) -> Revocations:
    known = Revocations()
    for one in here.lists(here.signers(chain))[0]:
        known.take(one)
    return known
