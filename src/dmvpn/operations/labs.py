"""Labs: a whole network of a file on this machine, with the same apply as on a real router."""

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from dmvpn import lab as lab_room
from dmvpn.errors import Fault, WrongInput
from dmvpn.identity import authority
from dmvpn.lab import capture as packets
from dmvpn.lab import lifecycle, private, runner, running, scenario
from dmvpn.lab.derive import topology_of
from dmvpn.lab.graph import mermaid
from dmvpn.lab.impairment import Change
from dmvpn.lab.lifecycle import Progress
from dmvpn.lab.node import LabNode, call_all
from dmvpn.lab.running import Lab, LabStatus
from dmvpn.lab.story import Event, Figures, Outcome, StepBegan, StepEnded, StepGoesOn, StoryBegan, StoryEnded
from dmvpn.linux import files, vtysh
from dmvpn.linux.pace import patience
from dmvpn.linux.services import Supervised
from dmvpn.network.plan import ForeignPlan, Plan
from dmvpn.operations import change, foreign, here, host, observing, pki, reading
from dmvpn.operations.here import Here
from dmvpn.operations.reading import NetworkFile
from dmvpn.render.layout import Layout

__all__ = ["Event", "Outcome", "Progress", "StepBegan", "StepEnded", "StepGoesOn", "StoryBegan", "StoryEnded"]


READY_LIMIT_S = 20.0
READY_PAUSE_S = 0.3


@dataclass(frozen=True, slots=True)
class Papers:
    """What one lab router is given: as from `pki issue`."""

    ca: bytes
    certificate: bytes
    key: bytes
    foreign_ca: bytes | None = None


def papers(file: NetworkFile, plans: dict[str, Plan]) -> dict[str, Papers]:
    """Certificate authorities for this lab alone, and every router's certificate. Their keys are kept nowhere."""
    now = datetime.now(UTC)
    ours = pki.Pair(*authority.create_authority(file.network.network, file.network.transport, now=now))
    theirs = pki.Pair(*authority.create_foreign_authority(file.network.network, now=now))
    foreign_ca = theirs.certificate if pki.foreign_routers(file) else None
    found = {}
    for router, plan in plans.items():
        own = pki.foreign_papers(file, theirs, router) if isinstance(plan, ForeignPlan) else pki.own_papers(plan, ours)
        found[router] = Papers(ours.certificate, own.certificate, own.key, foreign_ca)
    return found


def up(path: Path, name: str | None, report: Callable[[Progress], None]) -> Lab:
    """A lab that stays until `down`."""
    refuse_without_root()
    file, plans = _read(path)
    lab = lifecycle.up(
        file.network.lab,
        tuple(plans.values()),
        name=name or file.network.network,
        file=str(path),
        configure=partial(_configure, file, plans, papers(file, plans)),
        foreign=_foreign(file, plans),
        report=report,
    )
    began = time.monotonic()
    waiting = _await_routes(lab)
    what = f"not yet: {', '.join(waiting)}" if waiting else "every router has its hubs and their routes"
    report(Progress(what, time.monotonic() - began))
    return lab


def _await_routes(lab: Lab) -> list[str]:
    """Wait until the network carries packets; the routers that were not ready in time."""
    deadline = time.monotonic() + patience(READY_LIMIT_S)
    waiting = {node.name: node for node in lab.routers()}
    while waiting and time.monotonic() < deadline:
        answers = call_all({node: _has_routes for node in waiting.values()})
        waiting = {node.name: node for node, ready in answers.items() if ready is not True}
        if waiting:
            time.sleep(READY_PAUSE_S)
    return sorted(waiting)


def _has_routes() -> bool:
    """Inside a router: all hubs up, and every neighbour of its routing protocols has brought something."""
    for network in here.networks():
        router = here.find(network)
        found = observing.status(router)
        hubs = all(hub.state == "up" for hub in found.hubs)
        sessions = all(row["state"] == "Established" and row["prefixes"] for row in found.bgp)
        adjacencies = vtysh.ospf_neighbours(Path(router.layout.frr_run))
        adjacent = all(neighbour.full for neighbour in adjacencies)
        if not hubs or not sessions or not adjacent or not (found.bgp or adjacencies):
            return False
    return True


@contextmanager
def held(path: Path, name: str | None, report: Callable[[Progress], None]) -> Iterator[Lab]:
    """A lab for as long as the block lasts."""
    file, plans = _read(path)
    with lifecycle.held(
        file.network.lab,
        tuple(plans.values()),
        name=name or file.network.network,
        file=str(path),
        configure=partial(_configure, file, plans, papers(file, plans)),
        foreign=_foreign(file, plans),
        report=report,
    ) as lab:
        yield lab


def find(name: str | None) -> Lab:
    """A lab that is up. Raises Fault without root: a lab is made of namespaces, and its state is root's."""
    refuse_without_root()
    return running.find(name)


def _read(path: Path) -> tuple[NetworkFile, dict[str, Plan]]:
    file = reading.read(path)
    planes = reading.planes_here()
    plans = reading.plans(file, planes)
    if not plans:
        raise WrongInput(str(path), "has no router of ours", "a lab runs routers of platform debian or alpine")
    return file, {**plans, **foreign.plans(file, planes)}


def _foreign(file: NetworkFile, plans: dict[str, Plan]) -> tuple[str, ...]:
    every = (router for site in file.network.sites.values() for router in site.routers)
    return tuple(router for router in every if router not in plans)


def _configure(file: NetworkFile, plans: dict[str, Plan], given: dict[str, Papers], node: LabNode) -> None:
    """Inside the router's own namespaces: what a real router gets by `pki install` and `apply`."""
    plan = plans[node.name]
    refuse_the_hosts_etc()
    if isinstance(plan, ForeignPlan):
        theirs = given[node.name]
        foreign.set_up(plan, theirs.ca, theirs.foreign_ca or b"", pki.Pair(theirs.certificate, theirs.key))
        return
    layout = Layout(plan.network)
    source = Path("/run/dmvpn-papers")
    files.make_directory(source, mode=0o700)
    own = given[node.name]
    files.write(source / pki.CA_CERTIFICATE, own.ca)
    files.write(source / pki.ROUTER_CERTIFICATE, own.certificate)
    files.write_secret(source / pki.ROUTER_KEY, own.key)
    if own.foreign_ca is not None:
        files.write(source / pki.FOREIGN_CERTIFICATE, own.foreign_ca)
    pki.install(source)
    prepared = change.Prepared(file, plan, change.render(file, plan), Here(plan.network, layout))
    change.apply(prepared, "lab up")


def refuse_the_hosts_etc() -> None:
    """A lab router must never write to the host's /etc. Raises Fault when this is not a lab's."""
    if not private.MARKER.exists():
        raise Fault("/etc", "is the host's, not a lab router's", "this is a bug of the lab: nothing was written")


# ---------------------------------------------------------------- a lab that is up


def inside(command: Sequence[str]) -> tuple[str, ...]:
    """`dmvpn` inside a node is this very program, wherever it is installed."""
    command = command[1:] if command[0] == "--" and len(command) > 1 else command
    first = str(Path(sys.executable).with_name("dmvpn")) if command[0] == "dmvpn" else command[0]
    return (first, *command[1:])


def impair(lab: Lab, link: str, words: Sequence[str]) -> str:
    quality = lab.impair(link, Change.parse(words))
    return f"{quality.link}: up {quality.up}; down {quality.down}"


def heal(lab: Lab, what: Sequence[str]) -> str:
    """One link, the path of two routers, or with nothing named all of it. Raises WrongInput."""
    match what:
        case []:
            lab.heal_all()
            return "everything is as the file says"
        case [link]:
            quality = lab.heal(link)
            return f"{quality.link}: up {quality.up}; down {quality.down}"
        case [a, b]:
            lab.heal_path(a, b)
            return f"the direct path {a} - {b} is healed"
        case _:
            raise WrongInput(" ".join(what), "is neither a link nor two routers", "write ROUTER.UPLINK, or A B")


def capture(node: LabNode, device: str, file: str) -> int:
    """tcpdump on a device of a node, to a pcap file or as text, until it is interrupted. Its exit status."""
    if file == "-":
        return node.exec(("tcpdump", "-n", "-l", "--immediate-mode", "-i", device))
    # Opened out here: inside the node a path may be one that ends with the lab.
    with Path(file).open("wb") as output:
        started = packets.start(node, device, output)
        try:
            return started.running.wait()
        except KeyboardInterrupt:
            return started.stop()


def graph(path: Path) -> str:
    file, plans = _read(path)
    return mermaid(topology_of(file.network.lab, tuple(plans.values())))


def status_json(found: LabStatus) -> dict[str, Any]:
    """What `lab status --json` prints."""
    return {
        "name": found.name,
        "network": found.network,
        "file": found.file,
        "emulator": found.emulator.value,
        "nodes": {node.name: node.kind.value for node in found.nodes},
        "links": {link.link: {"up": link.up.to_json(), "down": link.down.to_json()} for link in found.links},
        "cuts": found.cuts,
        "relay_cpu_share": found.relay_cpu_share,
        "relay": found.relay,
        "not_started": found.not_started,
        "planes": found.planes,
    }


# ---------------------------------------------------------------- scenarios

SCENARIOS = Path(lab_room.__file__).parent / "scenarios"


def run_scenario(which: str, name: str | None, tell: Callable[[Event | Progress], None]) -> int:
    """Start the lab that a scenario names, play it, end the lab whatever happens. Its exit status.

    `which` is a file, or the name of a scenario that comes with the package. Raises WrongInput for neither.
    """
    path = scenario_path(which)
    story = scenario.load(path)
    network = scenario.network_path(story, path)
    if network is None:
        raise WrongInput(str(path), "names no network file", "add: network: FILE")
    refuse_without_root()
    tell(StoryBegan(story.name, story.opening))
    began = time.monotonic()
    with held(network, name or f"{path.stem}-{os.getpid()}", tell) as lab:
        known: dict[str, Figures] = {
            "up": {"seconds": time.monotonic() - began, "routers": len(lab.routers()), "planes": lab.planes}
        }
        return runner.run_scenario(story, lab, restart_unit=restart_unit, tell=tell, known=known).exit_code


def scenario_path(which: str) -> Path:
    """Raises WrongInput for what is neither a file nor a scenario of ours."""
    path = Path(which)
    if path.is_file():
        return path
    ours = SCENARIOS / f"{which}.yaml"
    if "/" not in which and ours.is_file():
        return ours
    names = ", ".join(sorted(one.stem for one in SCENARIOS.glob("*.yaml") if not one.stem.endswith("-network")))
    raise WrongInput(which, "no such scenario file", f"give a file, or one of: {names}")


def restart_unit(node: LabNode, unit: str, how: str) -> None:
    """Restart one unit of a lab router by the end of its name, or end its process the hard way. "all": every unit."""
    node.call(partial(_restart_here, unit, how))


def _restart_here(unit: str, how: str) -> None:
    for network in here.networks():
        layout = Layout(network)
        services = Supervised(network, Path(layout.run))
        for row in services.status():
            if row.name != f"dmvpn-{network}-{unit}" and unit != "all":
                continue
            if how == "kill" and row.pid is not None:
                os.kill(row.pid, signal.SIGKILL)
            elif how == "restart":
                services.restart(row.name)


def refuse_without_root() -> None:
    if os.geteuid() != 0:
        raise Fault(
            "lab", "needs root: it makes network namespaces and TAP devices", "run it as root or in a container"
        )
    if not host.TUN.exists():
        raise Fault(str(host.TUN), "missing", "modprobe tun, or start the container with --device /dev/net/tun")
