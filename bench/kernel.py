"""What needs GRE and ESP in the kernel: hubs side by side, the first packet, a dying hub, throughput.

`python -m bench kernel` measures on this machine; `python -m bench vm` runs the same in a virtual machine with Debian's
stock kernel. Emulated, that is several times slower than a machine: what counts is how two things compare there.
"""

import statistics
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from bench import first, hubs, kernel_ways, load
from bench.first import DeathRun, FirstRun
from bench.hubs import FrrHub, Hub, HubRun, OurHub
from bench.load import TcpRun
from bench.namespaces import Stage
from bench.report import save, spread
from dmvpn.errors import Fault
from dmvpn.linux import kernel_facts

PARTS: Final = ("hub", "first", "death", "throughput")
TURNS: Final = 5  # TCP runs of each way, for each run asked for: one says little


def measure(console: Console, parts: Sequence[str], runs: int, sizes: Sequence[int], tcp_s: float) -> int:
    """The parts one after the other, each with its table; 1 if one of them failed, and the others are there then too.

    `tcp_s` is the length of a TCP run. Raises Fault where the kernel lacks GRE or ESP.
    """
    if not kernel_facts.has_kernel_plane():
        raise Fault("bench", "this kernel has no GRE or no ESP", "run it in a virtual machine: python -m bench vm")
    tasks: dict[str, Callable[[Console, int], list[Any]]] = {
        "hub": lambda console, runs: measure_hubs(console, runs, sizes, (OurHub(), FrrHub())),
        "first": _first,
        "death": _death,
        "throughput": lambda console, runs: _throughput(console, runs, tcp_s),
    }
    status = 0
    for part in parts:
        try:
            found = tasks[part](console, runs)
        except Fault as fault:
            console.print(f"{part}: {fault}")
            status = 1
            continue
        console.print(f"written to {save(part, found)}")
    return status


def measure_hubs(console: Console, runs: int, sizes: Sequence[int], side_by_side: Sequence[Hub]) -> list[HubRun]:
    hubs.enlarge_neighbour_table()
    found: list[HubRun] = []
    for size in sizes:
        for _ in range(runs):
            for hub in side_by_side:
                try:
                    found.append(hubs.measure(hub, size))
                except Fault as fault:  # the other rows are wanted, and beside it this is a result too
                    console.print(f"{hub.name}, {size}: {fault}")
                    continue
                console.print(_line(found[-1]))
    table = Table(title="One hub, so many spokes, no IPsec")
    columns = ("new/s", "refreshes/s", "CPU us per new one", "CPU us per refresh", "octets per binding", "lost")
    for column in ("hub", "bindings", *columns):
        table.add_column(column, justify="left" if column == "hub" else "right")
    for size in sizes:
        for name in (hub.name for hub in side_by_side):
            rows = [run for run in found if (run.hub, run.bindings) == (name, size)]
            figures = (
                [run.new_per_s for run in rows],
                [run.refreshes_per_s for run in rows],
                [run.cpu_new_us for run in rows],
                [run.cpu_refresh_us for run in rows],
                [run.octets_per_binding for run in rows],
                [float(run.lost) for run in rows],
            )
            table.add_row(name, f"{size:,}", *map(spread, figures))
    console.print(table)
    return found


def _first(console: Console, runs: int) -> list[FirstRun]:
    found: list[FirstRun] = []
    for _ in range(runs):
        for encrypted in (True, False):
            for who in ("ours", "FRR"):
                try:
                    found.append(first.first(who, encrypted=encrypted))
                except Fault as fault:  # one that never gets there is a result too; the other rows are wanted
                    console.print(f"{who}, {'IPsec' if encrypted else 'in clear'}: {fault}")
                    continue
                console.print(_line(found[-1]))
    table = Table(title="From the first packet to the direct path, 50 packets/s")
    for column in ("routers", "", "first reply, ms", "direct after, ms", "lost"):
        table.add_column(column)
    for encrypted in (True, False):
        for who in ("ours", "FRR"):
            rows = [run for run in found if (run.who, run.encrypted) == (who, encrypted)]
            reply = [1e3 * run.reply_s for run in rows if run.reply_s is not None]
            direct = [1e3 * run.direct_s for run in rows if run.direct_s is not None]
            lost = [float(run.lost) for run in rows]
            table.add_row(who, "IPsec" if encrypted else "in clear", spread(reply), spread(direct), spread(lost))
    console.print(table)
    return found


def _death(console: Console, runs: int) -> list[DeathRun]:
    found = []
    for _ in range(runs):
        for bfd in (True, False):
            try:
                found.append(first.death(bfd=bfd))
            except Fault as fault:
                console.print(f"{'BFD' if bfd else 'no BFD'}: {fault}")
                continue
            console.print(_line(found[-1]))
    table = Table(title="The hub that relays falls silent: nothing arrives for")
    for column in ("", "seconds"):
        table.add_column(column)
    for bfd in (True, False):
        table.add_row("BFD" if bfd else "no BFD", spread([run.silent_s for run in found if run.bfd is bfd], 2))
    console.print(table)
    return found


@dataclass(frozen=True, slots=True)
class WayRun:
    """One TCP run through a way of kernel_ways."""

    way: str
    tcp: TcpRun


def _throughput(console: Console, runs: int, tcp_s: float) -> list[WayRun]:
    """All stand side by side and carry in turns, there and back: the machine's other work hits them alike."""
    found: list[WayRun] = []
    with ExitStack() as stages:
        ready = []
        for way in kernel_ways.WAYS:
            stage = stages.enter_context(Stage(way.name.replace(" ", "")))
            way.set_up(stage)
            load.reach(stage)
            load.tcp(stage, tcp_s)  # the first one is not counted: caches, neighbours, and ESP's first packets
            ready.append((way, stage))
        for turn in range(TURNS * runs):
            for way, stage in ready if turn % 2 == 0 else reversed(ready):
                run = load.tcp(stage, tcp_s)
                found.append(WayRun(way.name, run))
                console.print(f"{way.name}: {run.mbit_per_s:,.1f} Mbit/s, {run.retransmits} segments again")
    figures = {way.name: [run.tcp.mbit_per_s for run in found if run.way == way.name] for way in kernel_ways.WAYS}
    bare = figures[kernel_ways.WAYS[0].name]
    table = Table(title="TCP through the kernel plane, and through bare GRE with ESP")
    for column in ("way", "Mbit/s", "ratio of the medians", f"ratio, turn by turn, {len(bare)} turns"):
        table.add_column(column)
    for way in kernel_ways.WAYS:
        ours = figures[way.name]
        ratio = f"{statistics.median(ours) / statistics.median(bare):.3f}"
        by_turn = spread([one / other for one, other in zip(ours, bare, strict=True)], 3)
        table.add_row(f"{way.name}\n{way.what}", spread(ours, 1), ratio, by_turn)
    console.print(table)
    return found


def _line(run: HubRun | FirstRun | DeathRun) -> str:
    shown = (
        f"{name} {value:,.3f}" if isinstance(value, float) else f"{name} {value}" for name, value in asdict(run).items()
    )
    return ", ".join(shown)
