"""All checks, from the bottom up. A new check is one generator and a word in this tuple; tests iterate it."""

from collections.abc import Callable, Iterator

from dmvpn.daemon.control import NodeStatus
from dmvpn.doctor.clock import clock
from dmvpn.doctor.consistency import consistency
from dmvpn.doctor.gateways import gateways
from dmvpn.doctor.ike import by_dmvpnd, ike
from dmvpn.doctor.nhrp import nhrp
from dmvpn.doctor.path_mtu import path_mtu
from dmvpn.doctor.patient import Patient
from dmvpn.doctor.policy import policy
from dmvpn.doctor.report import At, Finding, Layer
from dmvpn.doctor.routing import routing
from dmvpn.doctor.tunnel import tunnel
from dmvpn.doctor.underlay import underlay
from dmvpn.doctor.versions import bugs, floors, lacking, versions
from dmvpn.errors import Fault

EXAMINATIONS: tuple[tuple[Layer, Callable[[Patient], Iterator[Finding]]], ...] = (
    (Layer.SYSTEM, lambda patient: versions(bugs(patient), floors(patient))),
    (Layer.SYSTEM, lacking),
    (Layer.SYSTEM, clock),
    (Layer.UNDERLAY, underlay),
    (Layer.TUNNEL, tunnel),
    (Layer.IKE, ike),
    (Layer.NHRP, lambda patient: nhrp(patient.status, patient.silent)),
    (Layer.ROUTE, routing),
    (Layer.ROUTE, gateways),
    (Layer.ROUTE, policy),
    (Layer.MTU, path_mtu),
    (Layer.STATE, consistency),
)


def examine_by_word(status: NodeStatus | None, silent: str, why: str) -> Iterator[Finding]:
    """For whoever may not read the network file: what dmvpnd tells a reader, and what that leaves unseen."""
    yield from versions(())
    for layer in (Layer.UNDERLAY, Layer.TUNNEL, Layer.IKE, Layer.NHRP, Layer.ROUTE, Layer.MTU, Layer.STATE):
        match layer:
            case Layer.IKE if status is not None:
                yield from by_dmvpnd(status)
            case Layer.NHRP:
                yield from nhrp(status, silent)
            case _:
                yield At(layer).not_looked_at("all of it", why, "run as root")


def examine(patient: Patient) -> Iterator[Finding]:
    """Findings as they are made. What cannot be looked at is one too, and the rest is looked at all the same."""
    for layer, look in EXAMINATIONS:
        patient.announce(f"looking at {layer}")
        try:
            yield from look(patient)
        except Fault as fault:
            yield At(layer).not_looked_at("the rest of it", str(fault), "run as root")
