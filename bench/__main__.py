"""`python -m bench [paths] [engine]`: measure, print tables, write bench/results/*.json."""

import argparse
import os
import sys

from rich.console import Console

from bench import load
from bench.namespaces import Stage
from bench.report import PathResult, machine, save, show_paths
from bench.ways import PATHS, Way, missing
from dmvpn.errors import Fault


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("what", nargs="*", choices=["paths", "engine", []], help="paths, engine; both if not given")
    parser.add_argument("--only", help="names of paths, separated by commas: " + ",".join(path.name for path in PATHS))
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=8.0, help="of each TCP run")
    arguments = parser.parse_args()
    wanted = arguments.what or ["paths", "engine"]
    console = Console()
    console.print(machine())
    if "paths" in wanted:
        if os.geteuid() != 0:
            raise Fault("bench", "network namespaces need root", "run it with sudo")
        names = arguments.only.split(",") if arguments.only else [path.name for path in PATHS]
        results = [measure(console, path, arguments.runs, arguments.seconds) for path in PATHS if path.name in names]
        show_paths(console, results)
        console.print(f"written to {save('paths', results)}")
    return 0


def measure(console: Console, path: Way, runs: int, seconds: float) -> PathResult:
    """All runs of one way, each on a stage of its own: nothing of the last one is left."""
    result = PathResult(path.name, path.what, skipped=missing(path))
    for number in range(1, runs + 1):
        if result.skipped:
            break
        with console.status(f"{path.name}: run {number} of {runs}"), Stage() as stage:
            path.set_up(stage)
            result.tcp.append(load.tcp(stage, seconds))
            result.udp.append(load.udp(stage, max(1.0, seconds / 4)))
        console.print(
            f"{path.name} run {number}: {result.tcp[-1].mbit_per_s:,.0f} Mbit/s, "
            f"{result.udp[-1].packets_per_s:,.0f} packets/s"
        )
    return result


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Fault as fault:
        sys.stderr.write(f"bench: {fault}\n")
        sys.exit(fault.exit_code)
