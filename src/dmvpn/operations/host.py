"""Whether this machine can be a router: what is missing or taken, in one line each, before anything is touched."""

import errno
import os
import socket
from pathlib import Path

from dmvpn.errors import Fault
from dmvpn.linux import adoption, kernel_facts, namespaces
from dmvpn.linux.keepers import Keeper
from dmvpn.linux.kernel_facts import Holder
from dmvpn.network.plan import Plan, Plane, Role
from dmvpn.operations.here import Here, networks
from dmvpn.operations.neighbours import bgp_port, kept_by, refuse_conflicts

TUN = Path("/dev/net/tun")
# Their routes and SAs would be in ours' way in one network namespace, whatever ports and sockets they use.
OTHERS_DAEMONS = frozenset(
    {
        "charon",
        "charon-systemd",
        "starter",
        "zebra",
        "bgpd",
        "ospfd",
        "ospf6d",
        "ripd",
        "ripngd",
        "nhrpd",
        "watchfrr",
        "bird",
    }
)


def refuse_if_unfit(plan: Plan, here: Here, file: str, *, first: bool, keeper: Keeper) -> None:
    """Raises Fault naming the first thing in the way. `first`: nothing of this network is on the machine yet.

    `file` is the network file's name, `keeper` who shall keep the services.
    """
    if os.geteuid() != 0:
        raise Fault("apply", "only root may change this router", "run it as root")
    kernel_facts.need_capabilities()
    _need_tun(plan)
    _need_kernel_plane(plan)
    _refuse_unspoken(plan)
    kernel_facts.need_programs()
    refuse_conflicts(plan, here, file)
    _refuse_adoption(plan, here, keeper)
    _refuse_taken_ports(plan, kept_by(here.network))
    _refuse_others_daemons(plan, frozenset().union(*(kept_by(network) for network in {here.network, *networks()})))
    if first:
        _refuse_taken_devices(plan)


def _need_tun(plan: Plan) -> None:
    if not any(cloud.plane is Plane.USERSPACE for cloud in plan.clouds):
        return
    try:
        os.close(os.open(TUN, os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        why = "missing" if error.errno == errno.ENOENT else f"cannot be opened ({error.strerror})"
        fix = "modprobe tun, or start the container with --device /dev/net/tun"
        raise Fault(str(TUN), f"{why}: the userspace plane needs it", fix) from error


def _need_kernel_plane(plan: Plan) -> None:
    if not any(cloud.plane is Plane.KERNEL for cloud in plan.clouds):
        return
    lacking = [name for name, there in (("GRE", kernel_facts.has_gre), ("ESP", kernel_facts.has_esp)) if not there()]
    if lacking:
        fix = "modprobe ip_gre esp4, or write plane: userspace"
        raise Fault(f"kernel without {' and '.join(lacking)}", "the kernel plane needs it", fix)


def _refuse_unspoken(plan: Plan) -> None:
    """What `check` refuses when the file forces the userspace plane, refused here when this machine has no other."""
    for cloud in plan.clouds:
        if cloud.plane is Plane.KERNEL:
            continue
        fix = "modprobe ip_gre esp4: with GRE and ESP in the kernel it uses those"
        if not cloud.encrypted:
            raise Fault(f"clouds.{cloud.name}", "crypto: none needs GRE in the kernel, which is not here", fix)
        peer = next((peer for peer in cloud.foreign if Role.HUB in (peer.role, cloud.role)), None)
        if peer is not None:
            what = f"{peer.router} is foreign and needs ESP in transport mode, which the userspace plane lacks"
            raise Fault(f"clouds.{cloud.name}", what, fix)


def _refuse_taken_ports(plan: Plan, own: frozenset[int]) -> None:
    wanted = [(f"UDP port {port}", kernel_facts.udp_holders(port)) for port in (plan.ike.port, plan.ike.nat_port)]
    called = bgp_port(plan)
    if called is not None:
        wanted.append((f"TCP port {called}", kernel_facts.tcp_listeners(called)))
    for what, holders in wanted:
        others = _in_the_way(plan, [holder for holder in holders if holder.pid not in own])
        if others:
            raise Fault(what, f"in use by {_named(others)}", f"stop it first{_word(plan, others)}: nothing was touched")


def _refuse_others_daemons(plan: Plan, ours: frozenset[int]) -> None:
    running = kernel_facts.running(OTHERS_DAEMONS)
    others = _in_the_way(plan, [holder for holder in running if holder.pid not in ours])
    if others:
        raise Fault(
            "this machine",
            f"{_named(others)} runs here already, and is not ours",
            f"stop it first{_word(plan, others)}, or use another network namespace: nothing was touched",
        )


def _in_the_way(plan: Plan, holders: list[Holder]) -> list[Holder]:
    """But for those of services that make room on the file's word."""
    return [holder for holder in holders if not plan.adopts or adoption.service_of(holder.pid) not in plan.adopts]


def _word(plan: Plan, holders: list[Holder]) -> str:
    """What would have the services of all of these make room; nothing if one of them is of none."""
    services = [adoption.service_of(holder.pid) for holder in holders]
    if not all(services):
        return ""
    names = ", ".join(dict.fromkeys((*plan.adopts, *services)))
    return f", or write adopt: [{names}] at router {plan.router}, which has it stopped and masked while ours is here"


def _refuse_adoption(plan: Plan, here: Here, keeper: Keeper) -> None:
    """Raises Fault for a word that cannot be kept, and for one taken back while ours is where theirs would return."""
    if os.environ.get(namespaces.LAB_VARIABLE):
        return
    where = f"sites.{plan.site}.routers.{plan.router}.adopt"
    if plan.adopts and keeper is not Keeper.SYSTEMD:
        what = f"{', '.join(plan.adopts)}: only systemd's services can be adopted, and ours are kept by {keeper}"
        raise Fault(where, what, "stop them yourself, and leave it out")
    for name in plan.adopts:
        adoption.refuse_unmaskable(name)
    for name, was in adoption.recorded(Path(here.layout.adopted)).items():
        if was.active and name not in plan.adopts:
            what = f"{name} was stopped for this network, and would start again beside ours"
            raise Fault(where, what, f"leave {name} in it: `dmvpn stop` and `dmvpn uninstall` bring it back")


def _named(holders: list[Holder]) -> str:
    """With the service that each is of: there may be one for several."""
    return ", ".join(map(_with_service, holders))


def _with_service(holder: Holder) -> str:
    service = adoption.service_of(holder.pid)
    return f"{holder} of {service}.service" if service else str(holder)


def _refuse_taken_devices(plan: Plan) -> None:
    there = {name for _, name in socket.if_nameindex()}
    for cloud in plan.clouds:
        if cloud.device in there:
            what = "there is a device of this name already, and it is not ours"
            raise Fault(cloud.device, what, f"remove it, or rename the network or cloud {cloud.name}")
