"""Tables for people and JSON for comparing: median and spread of the runs."""

import json
import os
import platform
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.engine import EngineRun
from bench.load import TcpRun, UdpRun
from bench.policy import PolicyRun

RESULTS = Path(__file__).parent / "results"


@dataclass(slots=True)
class PathResult:
    """What one way gave; `skipped` says why nothing was measured."""

    name: str
    what: str
    tcp: list[TcpRun] = field(default_factory=list)
    udp: list[UdpRun] = field(default_factory=list)
    skipped: str = ""


def spread(values: Sequence[float], digits: int = 0) -> str:
    """Median, and the lowest and highest where they are others."""
    if not values:
        return "-"
    if min(values) == max(values):
        return f"{values[0]:,.{digits}f}"
    return f"{statistics.median(values):,.{digits}f} ({min(values):,.{digits}f} to {max(values):,.{digits}f})"


def cpu(runs: Sequence[TcpRun | UdpRun]) -> str:
    """Median per cent of one core for each process, the busiest first."""
    names = {name for run in runs for name in run.cpu}
    medians = {name: statistics.median(run.cpu.get(name, 0.0) for run in runs) for name in names}
    return "\n".join(f"{name} {share:.0f}" for name, share in sorted(medians.items(), key=lambda item: -item[1]))


def show_paths(console: Console, results: Sequence[PathResult]) -> None:
    table = Table(title="From host to host", show_lines=True)
    for column in ("path", "TCP Mbit/s", "CPU, % of a core", "64-octet UDP packets/s, < 1 % lost", "CPU, % of a core"):
        table.add_column(column)
    for result in results:
        if result.skipped:
            table.add_row(f"{result.name}\n{result.what}", result.skipped)
            continue
        table.add_row(
            f"{result.name}\n{result.what}",
            spread([run.mbit_per_s for run in result.tcp]),
            cpu(result.tcp),
            spread([run.packets_per_s for run in result.udp]),
            cpu(result.udp),
        )
    console.print(table)


def show_policy(console: Console, runs: dict[int, list[PolicyRun]]) -> None:
    table = Table(title="A zone policy, seconds")
    for column in ("rules", "lines for nft", "read and checked", "compiled", "loaded", "loaded over itself"):
        table.add_column(column, justify="right")
    for rules, found in runs.items():
        table.add_row(
            f"{rules:,}",
            f"{found[0].lines:,}",
            spread([run.read_s for run in found], 2),
            spread([run.compiled_s for run in found], 2),
            spread([run.loaded_s for run in found], 2),
            spread([run.again_s for run in found], 2),
        )
    console.print(table)


def show_engine(console: Console, runs: dict[int, list[EngineRun]]) -> None:
    table = Table(title="The NHRP engine alone, one core")
    for column in ("bindings", "registrations/s", "refreshes/s", "resolutions/s", "octets per binding"):
        table.add_column(column, justify="right")
    for bindings, found in runs.items():
        table.add_row(
            f"{bindings:,}",
            spread([run.registrations_per_s for run in found]),
            spread([run.refreshes_per_s for run in found]),
            spread([run.resolutions_per_s for run in found]),
            spread([run.octets_per_binding for run in found]),
        )
    console.print(table)


def machine() -> dict[str, Any]:
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        "unknown",
    )
    cores = len(list(Path("/sys/devices/system/cpu").glob("cpu[0-9]*")))
    load = f"{os.getloadavg()[0]:.1f}"  # of the last minute: of what else runs, when asked at the start
    return {
        "cpu": model,
        "cores": cores,
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load": load,
    }


def save(kind: str, results: Sequence[Any]) -> Path:
    """Write one file, named for the moment."""
    RESULTS.mkdir(exist_ok=True)
    now = datetime.now(UTC)
    file = RESULTS / f"{kind}-{now:%Y%m%dT%H%M%SZ}.json"
    tree = {"at": now.isoformat(), "machine": machine(), "results": [asdict(result) for result in results]}
    file.write_text(json.dumps(tree, indent=1) + "\n")
    return file
