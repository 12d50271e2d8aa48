"""This router's own part: services, devices, addresses, sysctls, and the rules and policies that keep GRE in ESP."""

from collections.abc import Iterator

from dmvpn.doctor.patient import Patient
from dmvpn.doctor.report import At, Finding, Layer
from dmvpn.errors import Fault
from dmvpn.linux import link_facts, netstate_file, policy_watch, ruleset, sysctl
from dmvpn.linux.link_facts import LinkFacts
from dmvpn.linux.netlink import Requests
from dmvpn.linux.services import ServiceStatus, State
from dmvpn.network.plan import Cloud, Plane

HERE = At(Layer.TUNNEL)


def tunnel(patient: Patient) -> Iterator[Finding]:
    yield from services(patient)
    with Requests() as requests:
        links, addresses = link_facts.links(requests), link_facts.addresses(requests)
    for cloud in patient.plan.clouds:
        yield _device(cloud, links.get(cloud.device))
        there = {address.ip for device, address in addresses if device == cloud.device}
        missing = [str(address) for address in cloud.addresses if address not in there]
        if missing:
            yield HERE.failed(f"address in {cloud.name}", f"{cloud.device} lacks {' '.join(missing)}", "dmvpn apply")
        else:
            yield HERE.ok(f"address in {cloud.name}", " ".join(map(str, cloud.addresses)))
    own = {address.ip for device, address in addresses if device == "lo"}
    if patient.plan.transport in own:
        yield HERE.ok("transport address", str(patient.plan.transport))
    else:
        yield HERE.failed("transport address", f"lo lacks {patient.plan.transport}", "dmvpn apply")
    yield _sysctls(patient)
    yield _rules(patient)
    if any(cloud.plane is Plane.KERNEL and cloud.encrypted for cloud in patient.plan.clouds):
        yield _policies(patient)


def services(patient: Patient) -> Iterator[Finding]:
    """Those that do not serve, one line each; one line for all when all do."""
    if patient.services_trouble:
        yield HERE.not_looked_at("services", patient.services_trouble, "run as root")
        return
    if not patient.services:
        yield HERE.failed("services", "none runs: nobody keeps them", "dmvpn run, or `dmvpn apply` once more")
        return
    bad = [row for row in patient.services if row.state is not State.READY]
    yield from map(_service, bad)
    if not bad:
        yield HERE.ok("services", f"all {len(patient.services)} serve")


def _service(row: ServiceStatus) -> Finding:
    why = f" ({row.last_exit})" if row.last_exit else ""
    return HERE.failed(f"service {row.name}", f"{row.state}{why}", f"dmvpn run starts it; read {row.log}")


def _device(cloud: Cloud, link: LinkFacts | None) -> Finding:
    check = f"device of {cloud.name}"
    if link is None:
        return HERE.failed(check, f"there is no {cloud.device}", "dmvpn apply makes it")
    if not link.up:
        return HERE.failed(check, f"{cloud.device} is down", f"ip link set {cloud.device} up")
    if link.mtu_octets != cloud.mtu_octets:
        what = f"{cloud.device} has MTU {link.mtu_octets}, and {cloud.mtu_octets} is what the underlay and ESP leave"
        return HERE.failed(check, what, f"ip link set {cloud.device} mtu {cloud.mtu_octets}")
    return HERE.ok(check, f"{cloud.device} is up, MTU {link.mtu_octets}, {cloud.plane} plane")


def _sysctls(patient: Patient) -> Finding:
    try:
        wanted = netstate_file.load(patient.places.state).sysctls
    except Fault as fault:
        return HERE.not_looked_at("sysctls", fault.what, "run as root")
    other = []
    for name, value in wanted:
        now = sysctl.sysctl_value(name)
        if now is not None and not sysctl.sysctl_holds(name, value):  # None: a kernel without it
            other.append(f"{name} is {now} and shall be {value}")
    if other:
        return HERE.warning("sysctls", "; ".join(other[:4]), "dmvpn apply sets them")
    return HERE.ok("sysctls", f"all {len(wanted)} as the file has them")


def _rules(patient: Patient) -> Finding:
    table, file = patient.places.table, patient.places.rules
    fix = f"nft -f {file}"
    try:
        now = ruleset.listing(table)
        if not now:
            return HERE.failed("rules", f"table inet {table} is gone: somebody flushed the rule set", fix)
        if now != ruleset.listing_of_file(file, table):
            return HERE.failed("rules", f"table inet {table} is not what the file in force makes", fix)
    except Fault as fault:
        return HERE.not_looked_at("rules", fault.what, "run as root")
    return HERE.ok("rules", f"table inet {table} is as the file in force makes it")


def _policies(patient: Patient) -> Finding:
    try:
        whole = policy_watch.are_whole(patient.places.state)
    except Fault as fault:
        return HERE.not_looked_at("policies", fault.what, "run as root")
    if not whole:
        what = "blocking XFRM policies of ours are gone: GRE could leave in clear"
        return HERE.failed("policies", what, f"python3 -m dmvpn.linux.netstate restore {patient.places.state}")
    return HERE.ok("policies", "blocking XFRM policies stand")
