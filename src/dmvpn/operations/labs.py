"""Labs: a whole network of a file on this machine, with the same apply as on a real router."""

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from dmvpn import lab as lab_room
from dmvpn.errors import Fault, WrongInput
from dmvpn.identity import authority
from dmvpn.lab import capture as packets
from dmvpn.lab import frr10, lifecycle, private, runner, running, scenario, sessions
from dmvpn.lab.derive import topology_of
from dmvpn.lab.graph import mermaid
from dmvpn.lab.impairment import Change
from dmvpn.lab.lifecycle import Progress
from dmvpn.lab.node import LabNode, call_all
from dmvpn.lab.running import Lab, LabStatus
from dmvpn.lab.story import Event, Figures, Outcome, StepBegan, StepEnded, StepGoesOn, StoryBegan, StoryEnded
from dmvpn.linux import files
from dmvpn.linux.pace import patience
from dmvpn.network import source
from dmvpn.network.plan import ForeignPlan, Plan
from dmvpn.operations import change, foreign, here, host, keeping, office, pki, readiness, reading
from dmvpn.operations import papers as router_papers
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
    renewer: pki.Pair | None = None


def authorities(file: NetworkFile) -> pki.Authorities:
    """Certificate authorities for this lab alone. Their keys are kept in its offices, if it has any."""
    now = datetime.now(UTC)
    ours = pki.Pair(*authority.create_authority(file.network.network, file.network.transport, now=now))
    if not pki.foreign_routers(file):
        return pki.Authorities(ours, None)
    return pki.Authorities(ours, pki.Pair(*authority.create_foreign_authority(file.network.network, now=now)))


def papers(file: NetworkFile, plans: dict[str, Plan], of: pki.Authorities) -> dict[str, Papers]:
    """Every router's certificate, but those of bare ones: they are to be joined."""
    found = {}
    for router, plan in plans.items():
        if router in file.network.lab.bare:
            continue
        if isinstance(plan, ForeignPlan) and of.foreign is not None:
            own = pki.foreign_papers(file, of.foreign, router)
        else:
            own = pki.own_papers(plan, of.ours)
        foreign_ca = None if of.foreign is None else of.foreign.certificate
        found[router] = Papers(of.ours.certificate, own.certificate, own.key, foreign_ca, of.renewers.get(router))
    return found


def up(
    path: Path,
    name: str | None,
    report: Callable[[Progress], None],
    *,
    authority_of: Callable[[NetworkFile], pki.Authorities] | None = None,
    bare: Sequence[str] = (),
) -> Lab:
    """A lab that stays until `down`; `authority_of` gives the operator's own authority, `bare` more bare routers."""
    refuse_without_root()
    file, plans = _read(path)
    _refuse_without_ppp(plans)
    file = _barer(file, bare)
    issuing = (authority_of or authorities)(file)
    given = papers(file, plans, issuing)
    lab = lifecycle.up(
        file.network.lab,
        tuple(plans.values()),
        name=name or file.network.network,
        file=str(path),
        configure=partial(_configure, file, plans, given),
        foreign=_foreign(file, plans),
        report=report,
    )
    office.furnish(lab, file, issuing, tuple(one.certificate for one in given.values()))
    began = time.monotonic()
    waiting = _await_routes(lab)
    what = f"not yet: {', '.join(waiting)}" if waiting else "every router has its hubs and their routes"
    report(Progress(what, time.monotonic() - began))
    return lab


def _barer(file: NetworkFile, bare: Sequence[str]) -> NetworkFile:
    unknown = [router for router in bare if router not in reading.our_routers(file)]
    if unknown:
        raise WrongInput(unknown[0], "no router of ours", f"name one of {', '.join(reading.our_routers(file))}")
    section = file.network.lab
    section = section.model_copy(update={"bare": tuple(dict.fromkeys((*section.bare, *bare)))})
    return replace(file, network=file.network.model_copy(update={"lab": section}))


def _await_routes(lab: Lab) -> list[str]:
    """Wait until the network carries packets; the routers that were not ready in time."""
    deadline = time.monotonic() + patience(READY_LIMIT_S)
    waiting = {node.name: node for node in lab.routers()}
    while waiting and time.monotonic() < deadline:
        answers = call_all({node: readiness.has_routes for node in waiting.values()})
        waiting = {node.name: node for node, ready in answers.items() if ready is not True}
        if waiting:
            time.sleep(READY_PAUSE_S)
    return sorted(waiting)


@contextmanager
def held(path: Path, name: str | None, report: Callable[[Progress], None]) -> Iterator[Lab]:
    """A lab for as long as the block lasts."""
    file, plans = _read(path)
    _refuse_without_ppp(plans)
    issuing = authorities(file)
    given = papers(file, plans, issuing)
    with lifecycle.held(
        file.network.lab,
        tuple(plans.values()),
        name=name or file.network.network,
        file=str(path),
        configure=partial(_configure, file, plans, given),
        foreign=_foreign(file, plans),
        report=report,
    ) as lab:
        office.furnish(lab, file, issuing, tuple(one.certificate for one in given.values()))
        yield lab


def find(name: str | None) -> Lab:
    """A lab that is up. Raises Fault without root: a lab is made of namespaces, and its state is root's."""
    refuse_without_root()
    return running.find(name)


def are_several() -> bool:
    """Whether a command must say which lab it means."""
    return running.are_several()


def _read(path: Path) -> tuple[NetworkFile, dict[str, Plan]]:
    file = reading.as_played(reading.read(path))
    planes = reading.planes_here()
    plans = reading.plans(file, planes)
    if not plans:
        raise WrongInput(str(path), "has no router of ours", "a lab runs routers of platform debian or alpine")
    every = {**plans, **foreign.plans(file, planes)}
    missing = frr10.why_not() if every.keys() & set(file.network.lab.frr10) else ""
    if missing:
        raise Fault("lab.frr10", missing)
    return file, every


def _refuse_without_ppp(plans: dict[str, Plan]) -> None:
    sessions_of = (f"{router}.{one.name}" for router, plan in plans.items() for one in plan.uplinks if one.pppoe)
    if (label := next(sessions_of, None)) is not None and (missing := sessions.why_not()):
        raise Fault(f"uplink {label}", missing, "add --vm, or give the uplink dhcp: true, or an address")


def _foreign(file: NetworkFile, plans: dict[str, Plan]) -> tuple[str, ...]:
    every = (router for site in file.network.sites.values() for router in site.routers)
    return tuple(router for router in every if router not in plans)


def _configure(file: NetworkFile, plans: dict[str, Plan], given: dict[str, Papers], node: LabNode) -> None:
    """Inside the router's own namespaces: what a real router gets by `pki install` and `apply`."""
    plan = plans[node.name]
    refuse_the_hosts_etc()
    if node.name in file.network.lab.frr10:
        frr10.lay()
    if node.name in file.network.lab.bare:
        return
    if isinstance(plan, ForeignPlan):
        theirs = given[node.name]
        foreign.set_up(plan, theirs.ca, theirs.foreign_ca or b"", pki.Pair(theirs.certificate, theirs.key))
        return
    install(given[node.name])
    prepared = change.prepared(file, plan, Here(plan.network, Layout(plan.network)))
    change.apply(prepared, "lab up")


def install(own: Papers) -> None:
    """Inside a router: its papers come to where the VPN finds them."""
    refuse_the_hosts_etc()
    source = Path("/run/dmvpn-papers")
    files.make_directory(source, mode=0o700)
    files.write(source / pki.CA_CERTIFICATE, own.ca)
    files.write(source / pki.ROUTER_CERTIFICATE, own.certificate)
    files.write_secret(source / pki.ROUTER_KEY, own.key)
    if own.foreign_ca is not None:
        files.write(source / pki.FOREIGN_CERTIFICATE, own.foreign_ca)
    if own.renewer is not None:
        files.write(source / pki.RENEWER_CERTIFICATE, own.renewer.certificate)
        files.write_secret(source / pki.RENEWER_KEY, own.renewer.key)
    router_papers.install(source)


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


def renumber(lab: Lab, link: str) -> str:
    """The address that the uplink's ISP gives from now on."""
    return str(lab.renumber(link))


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
    tell(StoryBegan(story.name, story.opening, story.columns or ""))
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
        return _story_of(path)
    ours = SCENARIOS / f"{which}.yaml"
    if "/" not in which and ours.is_file():
        return ours
    names = ", ".join(sorted(one.stem for one in SCENARIOS.glob("*.yaml") if not one.stem.endswith("-network")))
    raise WrongInput(which, "no such scenario file", f"give a file, or one of: {names}")


def _story_of(path: Path) -> Path:
    """Of a network file the scenario that its lab names; any other file is one itself."""
    values = source.read(files.read_text(path), str(path)).values
    if not isinstance(values, dict) or "sites" not in values:
        return path
    story = reading.read(path).network.lab.story
    if story is None:
        fix = "name one there (lab: {story: FILE}), or use: dmvpn lab up"
        raise WrongInput(str(path), "is a network file, and its lab has no story", fix)
    return path.parent / story


def write_report(path: Path, text: str) -> None:
    """What a run has shown, for whoever reads it later."""
    files.write(path, text)


def restart_unit(node: LabNode, unit: str, how: str) -> None:
    """Restart, reload or kill one unit of a lab router, by the end of its name. "all": every unit."""
    node.call(partial(_restart_here, unit, how))


def _restart_here(unit: str, how: str) -> None:
    for network in here.networks():
        services = keeping.of(here.Here(network, Layout(network)))
        for row in services.status():
            if row.name != f"dmvpn-{network}-{unit}" and unit != "all":
                continue
            if how == "kill" and row.pid is not None:
                os.kill(row.pid, signal.SIGKILL)
            elif how == "restart":
                services.restart(row.name)
            elif how == "reload":
                services.reload(row.name)


def refuse_without_root() -> None:
    if os.geteuid() != 0:
        raise Fault(
            "lab", "needs root: it makes network namespaces and TAP devices", "run it as root or in a container"
        )
    if not host.TUN.exists():
        raise Fault(str(host.TUN), "missing", "modprobe tun, or start the container with --device /dev/net/tun")
