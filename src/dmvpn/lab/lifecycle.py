"""Bringing a lab up, whole or not at all."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from dmvpn.errors import Fault, WrongInput
from dmvpn.lab import keeper, state, wiring
from dmvpn.lab.derive import topology_of
from dmvpn.lab.keeper import CLOSET, Keeper
from dmvpn.lab.node import LabNode, call_all
from dmvpn.lab.running import Lab, link_to_json, opened, write_settings
from dmvpn.lab.topology import NodeKind, Topology
from dmvpn.network.lab_model import Lab as LabSection
from dmvpn.network.plan import Plan

CONFIGURE_LIMIT_S = 120.0


@dataclass(frozen=True, slots=True)
class Progress:
    """A step of `up` that is done; the face prints it."""

    what: str
    seconds: float


Configure = Callable[[LabNode], None]
Report = Callable[[Progress], None]


def up(
    section: LabSection,
    plans: Sequence[Plan],
    *,
    name: str,
    file: str,
    configure: Configure | None = None,
    foreign: Sequence[str] = (),
    report: Report = lambda _progress: None,
    base: Path = state.STATE_DIRECTORY,
) -> Lab:
    """A lab that stays until `down`. `configure` runs inside every router, all at once; without it the lab itself gives
    the routers their addresses. `foreign` are routers of other platforms, which a lab leaves out.
    """
    topology = replace(topology_of(section, plans), not_started=tuple(foreign))
    with _rising(topology, plans, name, file, configure, report, base) as (lab, kept):
        kept.detach()
        return lab


@contextmanager
def held(
    section: LabSection,
    plans: Sequence[Plan],
    *,
    name: str,
    file: str,
    configure: Configure | None = None,
    foreign: Sequence[str] = (),
    report: Report = lambda _progress: None,
    base: Path = state.STATE_DIRECTORY,
) -> Iterator[Lab]:
    """A lab for as long as the block lasts; it dies with this process however that dies."""
    topology = replace(topology_of(section, plans), not_started=tuple(foreign))
    with _rising(topology, plans, name, file, configure, report, base) as (lab, kept):
        yield lab
        _end(kept, base)


def _planes_in_words(plans: Sequence[Plan]) -> str:
    """Which data planes the routers use: "kernel plane", or "kernel and userspace planes"."""
    planes = sorted({cloud.plane.value for plan in plans for cloud in plan.clouds})
    return f"{' and '.join(planes)} plane{'s' if len(planes) > 1 else ''}"


def _end(kept: Keeper, base: Path) -> None:
    kept.end()
    state.sweep(base)


@contextmanager
def _rising(
    topology: Topology,
    plans: Sequence[Plan],
    name: str,
    file: str,
    configure: Configure | None,
    report: Report,
    base: Path,
) -> Iterator[tuple[Lab, Keeper]]:
    """Everything up, or nothing: a fault or Ctrl-C on the way, or in the block, ends what there is."""
    state.sweep(base)
    claim = state.claim(name, base)
    began = time.monotonic()

    def done(what: str) -> None:
        report(Progress(what, time.monotonic() - began))

    try:
        kept = keeper.start(name, tuple(topology.nodes.values()), topology.names, claim.lock)
    except BaseException:
        claim.discard()
        raise
    claim.hand_over()
    try:
        nodes = {node: LabNode(node, kind, kept.handles[node], name) for node, kind in _kinds(topology)}
        done(f"{len(topology.nodes)} nodes")
        lab = _wire(topology, name, file, kept, nodes, claim.directory, _planes_in_words(plans))
        done(f"{len(topology.links)} links, impaired by {lab.emulator}")
        _configure(lab, plans, configure)
        done(f"{len(lab.routers())} routers configured, {lab.planes}")
        yield lab, kept
    except BaseException:
        _end(kept, base)
        raise


def _kinds(topology: Topology) -> list[tuple[str, NodeKind]]:
    return [(CLOSET, NodeKind.SWITCH), *((node.name, node.kind) for node in topology.nodes.values())]


def _wire(
    topology: Topology,
    name: str,
    file: str,
    kept: Keeper,
    nodes: dict[str, LabNode],
    directory: Path,
    planes: str,
) -> Lab:
    closet = nodes[CLOSET]
    links = tuple(topology.links.values())
    emulator = wiring.probe_emulator(closet)
    # Inside, the keeper is process 1.
    wiring.pull_cables(closet, links, emulator, lambda node: f"/proc/1/fd/{nodes[node].handles.net.name}")
    wiring.settle(nodes, topology, emulator)
    if emulator is wiring.Emulator.RELAY and any(link.impairable for link in links):
        wiring.start_relay(closet, links, directory / state.RELAY_SOCKET)
    description = {
        "keeper": kept.pid,
        "network": topology.network,
        "file": file,
        "emulator": emulator.value,
        "nodes": {
            node.name: {"kind": node.kind.value, "descriptors": _descriptors(node)}
            for node in nodes.values()
            if node.name != CLOSET
        },
        "links": {link.name: link_to_json(link) for link in links},
        "outside": {router: [str(address) for address in seen] for router, seen in topology.outside.items()},
        "hosts": {
            node.name: node.addresses[0][1].split("/")[0]
            for node in topology.nodes.values()
            if node.kind is NodeKind.HOST
        },
        "not_started": list(topology.not_started),
        "planes": planes,
    }
    write_settings(directory)
    state.describe(directory, description)
    return opened(directory, description)


def _descriptors(node: LabNode) -> dict[str, int]:
    handles = node.handles
    return {"net": int(handles.net.name), "mnt": int(handles.mnt.name), "uts": int(handles.uts.name)}


def _configure(lab: Lab, plans: Sequence[Plan], configure: Configure | None) -> None:
    """All routers at once; the first refusal is the one that is told, with the number of others."""
    by_name = {plan.router: plan for plan in plans}
    tasks: dict[LabNode, Callable[[], None]] = {}
    for node in lab.routers():
        if configure is not None:
            tasks[node] = partial(configure, node)
        else:
            tasks[node] = partial(wiring.give_router_its_underlay, by_name[node.name])
    refusals = {
        node: answer
        for node, answer in call_all(tasks, timeout_s=CONFIGURE_LIMIT_S).items()
        if isinstance(answer, Fault)
    }
    for node, refusal in refusals.items():
        others = f" (and {len(refusals) - 1} more routers)" if len(refusals) > 1 else ""
        kind = WrongInput if isinstance(refusal, WrongInput) else Fault
        raise kind(f"{node.name}: {refusal.where}", f"{refusal.what}{others}", refusal.fix)
