"""Gateways that the routers of this site share: one of them must have each, and no two the same."""

from collections.abc import Iterator
from ipaddress import IPv4Address

from dmvpn.doctor.patient import Patient
from dmvpn.doctor.report import At, Finding, Layer
from dmvpn.errors import Fault
from dmvpn.linux import arp, link_facts
from dmvpn.linux.netlink import Requests
from dmvpn.linux.path_probe import EchoProber, Outcome, Probe
from dmvpn.network.plan import Gateway

HERE = At(Layer.ROUTE)
PATIENCE_S = 1.0
NOBODY = "read the log of vrrp, here and at the site's other routers"
BOTH = "VRRP (IP protocol 112) does not pass between the site's routers: look at the switch and at filters"


def gateways(patient: Patient) -> Iterator[Finding]:
    vrrp = patient.plan.vrrp
    if vrrp is None:
        return
    offers = {row.address: row.offers for row in patient.status.gateways} if patient.status is not None else {}
    for gateway in vrrp.gateways:
        offered = offers.get(str(gateway.address.ip), vrrp.priority)
        try:
            finding = _seen(patient, gateway, offered)
            # Once more where it is not as it should be: it may just be moving.
            yield _seen(patient, gateway, offered) if finding.fix else finding
        except Fault as fault:
            yield HERE.not_looked_at(f"gateway {gateway.address.ip}", fault.what, fault.fix)


def _seen(patient: Patient, gateway: Gateway, offered: int) -> Finding:
    assert patient.plan.vrrp is not None
    here = _is_here(gateway)
    answers = _answers(patient, gateway, here=here)
    return judged(gateway, offered, patient.plan.vrrp.priority, here=here, answers=answers)


def judged(gateway: Gateway, offered: int, usual: int, *, here: bool, answers: bool | None) -> Finding:
    """`answers`: somebody else on the network does for it. None: that cannot be known."""
    check = f"gateway {gateway.address.ip}"
    if here and answers:
        return HERE.failed(check, f"this router has it, and another on {gateway.device} has it too", BOTH)
    if not here and answers is False:
        return HERE.failed(check, f"nobody on {gateway.device} has it: hosts reach no other network", NOBODY)
    if here and offered < usual:
        what = f"this router has it without a tunnel of its own, priority {offered} of {usual}"
        return HERE.warning(check, what, "see the sessions above, and why no other router of the site takes it")
    return HERE.ok(check, f"this router has it, priority {offered}" if here else "another router of the site has it")


def _is_here(gateway: Gateway) -> bool:
    with Requests() as requests:
        there = link_facts.addresses(requests)
    return any(device == gateway.device and address.ip == gateway.address.ip for device, address in there)


def _answers(patient: Patient, gateway: Gateway, *, here: bool) -> bool | None:
    """The kernel asks nobody for an address of its own; ARP can be asked by hand."""
    wanted = gateway.address.ip
    if isinstance(wanted, IPv4Address):
        own = next(
            lan.address.ip for lan in patient.plan.lans if lan.device == gateway.device and lan.address.version == 4
        )
        return arp.answers(gateway.device, IPv4Address(own), wanted, timeout_s=PATIENCE_S)
    if here:
        return None
    probe = Probe(64)
    answer = EchoProber(wanted, device=gateway.device).send([probe], timeout_s=PATIENCE_S)[probe]
    return answer.outcome is Outcome.REACHED
