"""The zone policy: whether it is there, and what it does with a ping to the destination that is looked at."""

from collections.abc import Iterator

from dmvpn.doctor.patient import Patient
from dmvpn.doctor.report import At, Finding, Layer

HERE = At(Layer.ROUTE)
DROPPED = "dropped."  # how the rules call the counters of what a policy stops


def policy(patient: Patient) -> Iterator[Finding]:
    if patient.plan.policy is None:
        return
    if patient.status is not None:
        counts = [count for name, count in patient.status.guards.items() if name.startswith(DROPPED)]
        if counts:
            yield HERE.ok("policy", f"in force; it dropped {sum(counts)} packets since it was loaded")
        else:
            yield HERE.failed("policy", "its rules are gone: nothing is filtered", f"nft -f {patient.places.rules}")
    for one in patient.passages:
        check = f"policy from {one.network} to {one.target}"
        if one.accepted:
            yield HERE.ok(check, f"a ping passes, by {one.by}")
        else:
            yield HERE.warning(check, f"a ping is stopped, by {one.by}", "dmvpn firewall compile shows the rules")
