"""Whether this machine can be a router: what is missing or taken, in one line each, before anything is touched."""

import errno
import os
import socket
from pathlib import Path

from dmvpn.errors import Fault
from dmvpn.linux import kernel_facts
from dmvpn.linux.kernel_facts import Holder
from dmvpn.linux.services import Supervised
from dmvpn.network.plan import Plan, Plane, Protocol, Role
from dmvpn.operations.here import Here, networks
from dmvpn.render.layout import Layout

TUN = Path("/dev/net/tun")
BGP_PORT = 179
# Their routes and SAs would be in ours' way in one network namespace, whatever ports and sockets they use.
OTHERS_DAEMONS = frozenset(
    {"charon", "charon-systemd", "starter", "zebra", "bgpd", "ospfd", "nhrpd", "watchfrr", "bird"}
)


def refuse_if_unfit(plan: Plan, here: Here, *, first: bool) -> None:
    """Raises Fault naming the first thing in the way. `first`: nothing of this network is on the machine yet."""
    if os.geteuid() != 0:
        raise Fault("apply", "only root may change this router", "run it as root")
    kernel_facts.need_capabilities()
    _need_tun(plan)
    _need_kernel_plane(plan)
    _refuse_unspoken(plan)
    kernel_facts.need_programs()
    _refuse_taken_ports(plan, _kept_by(here.network))
    _refuse_others_daemons(frozenset().union(*(_kept_by(network) for network in {here.network, *networks()})))
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


def _kept_by(network: str) -> frozenset[int]:
    """Processes of one of our own networks."""
    rows = Supervised(network, Path(Layout(network).run)).status()
    return frozenset(row.pid for row in rows if row.pid is not None)


def _refuse_taken_ports(plan: Plan, own: frozenset[int]) -> None:
    wanted = [(f"UDP port {port}", kernel_facts.udp_holders(port)) for port in (plan.ike.port, plan.ike.nat_port)]
    if any(cloud.role is Role.HUB and cloud.routing is Protocol.BGP for cloud in plan.clouds):
        wanted.append((f"TCP port {BGP_PORT}", kernel_facts.tcp_listeners(BGP_PORT)))
    for what, holders in wanted:
        others = [holder for holder in holders if holder.pid not in own]
        if others:
            raise Fault(what, f"in use by {_named(others)}", _whose(others))


def _refuse_others_daemons(ours: frozenset[int]) -> None:
    others = [holder for holder in kernel_facts.running(OTHERS_DAEMONS) if holder.pid not in ours]
    if others:
        raise Fault(
            "this machine",
            f"{_named(others)} runs here already, and is not ours",
            "stop it first, or use another network namespace: nothing was touched",
        )


def _whose(holders: list[Holder]) -> str:
    """Another of our networks is no stranger: two charons do not share a port."""
    for network in networks():
        if _kept_by(network) & {holder.pid for holder in holders}:
            return f"that is our network {network}: one network a machine, or each in a network namespace of its own"
    return "stop it first: nothing was touched"


def _named(holders: list[Holder]) -> str:
    return ", ".join(map(str, holders))


def _refuse_taken_devices(plan: Plan) -> None:
    there = {name for _, name in socket.if_nameindex()}
    for cloud in plan.clouds:
        if cloud.device in there:
            what = "there is a device of this name already, and it is not ours"
            raise Fault(cloud.device, what, f"remove it, or rename the network or cloud {cloud.name}")
