"""Whether this machine can be a router: what is missing or taken, in one line each, before anything is touched."""

import os
from pathlib import Path

from dmvpn.errors import Fault
from dmvpn.network.plan import Plan, Plane

TUN = Path("/dev/net/tun")


def refuse_if_unfit(plan: Plan, *, first: bool) -> None:
    """Raises Fault naming the first thing in the way. `first`: nothing of ours runs, so a taken port is another's."""
    if os.geteuid() != 0:
        raise Fault("apply", "only root may change this router", "run it as root")
    if any(cloud.plane is Plane.USERSPACE for cloud in plan.clouds) and not TUN.exists():
        raise Fault(
            str(TUN),
            "missing: the userspace plane needs it",
            "modprobe tun, or start the container with --device /dev/net/tun",
        )
    from dmvpn.linux import kernel_facts

    kernel_facts.need_programs()
    if first:
        kernel_facts.need_free_ports((plan.ike.port, plan.ike.nat_port))
