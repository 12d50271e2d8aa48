"""`python -m bench [paths] [engine] [policy] [tap] [kernel] [vm] [uplinks]`: measure, print, write bench/results."""

import argparse
import os
import sys

from rich.console import Console

from bench import engine, hubs, kernel, load, policy, uplinks
from bench.namespaces import Stage
from bench.report import PathResult, machine, save, show_engine, show_paths, show_policy
from bench.ways import WAYS, Way, missing
from dmvpn.errors import Fault
from dmvpn.lab import vm

WHAT = ("paths", "engine", "policy", "tap", "kernel", "vm", "uplinks")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("what", nargs="*", choices=[*WHAT, []], help="; ".join((*WHAT, "the first three if not given")))
    parser.add_argument("--only", help="names of paths, separated by commas: " + ",".join(path.name for path in WAYS))
    parser.add_argument("--parts", default=",".join(kernel.PARTS), help="of kernel and vm")
    parser.add_argument("--sizes", default=",".join(map(str, hubs.SIZES)), help="bindings of tap and of the part hub")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=8.0, help="of each TCP run; of vm and kernel half of it")
    parser.add_argument("--counted", action="store_true", help="vm: its clock counts instructions, not time")
    arguments = parser.parse_args()
    wanted = arguments.what or ["paths", "engine", "policy"]
    console = Console(width=None if sys.stdout.isatty() else 140)
    status = 0
    console.print(machine())
    if "paths" in wanted:
        if os.geteuid() != 0:
            raise Fault("bench", "network namespaces need root", "run it with sudo")
        names = arguments.only.split(",") if arguments.only else [path.name for path in WAYS]
        ways = [way for way in WAYS if way.name in names]
        results = measure(console, ways, arguments.runs, arguments.seconds)
        show_paths(console, results)
        console.print(f"written to {save('paths', results)}")
    if "engine" in wanted:
        runs = {size: [engine.measure(size) for _ in range(arguments.runs)] for size in engine.SIZES}
        show_engine(console, runs)
        console.print(f"written to {save('engine', [run for found in runs.values() for run in found])}")
    if "policy" in wanted:
        policies = {size: [policy.measure(size) for _ in range(arguments.runs)] for size in policy.SIZES}
        show_policy(console, policies)
        console.print(f"written to {save('policy', [run for found in policies.values() for run in found])}")
    if "tap" in wanted:
        sizes = [int(size) for size in arguments.sizes.split(",")]
        found = kernel.measure_hubs(console, arguments.runs, sizes, (hubs.TapHub(),))
        console.print(f"written to {save('tap', found)}")
    if "kernel" in wanted:
        sizes = [int(size) for size in arguments.sizes.split(",")]
        status |= kernel.measure(console, arguments.parts.split(","), arguments.runs, sizes, arguments.seconds / 2)
    if "uplinks" in wanted:
        deaths = uplinks.measure(console, arguments.runs)
        uplinks.show(console, deaths)
        console.print(f"written to {save('uplinks', deaths)}")
    if "vm" in wanted:
        words = ("--parts", arguments.parts, "--sizes", arguments.sizes, "--runs", str(arguments.runs))
        clock = vm.Clock.INSTRUCTIONS if arguments.counted else vm.Clock.TIME
        status |= in_vm(console, (*words, "--seconds", str(arguments.seconds)), clock)
    return status


def in_vm(console: Console, words: tuple[str, ...], clock: vm.Clock) -> int:
    """`python -m bench kernel` in a virtual machine. Its files end with it, so the tables are what is left."""

    def report(what: str, seconds: float) -> None:
        console.print(f"{what} ({seconds:.0f} s)")

    with vm.held(f"bench-{os.getpid()}", report, clock=clock) as machine:
        return machine.run((sys.executable, "-m", "bench", "kernel", *words))


def measure(console: Console, ways: list[Way], runs: int, seconds: float) -> list[PathResult]:
    """Every way once, then all again: what else the machine does then hits them alike. Each run has a fresh stage."""
    results = [PathResult(way.name, way.what, skipped=missing(way)) for way in ways]
    for number in range(1, runs + 1):
        for way, result in zip(ways, results, strict=True):
            if result.skipped:
                continue
            with console.status(f"{way.name}: run {number} of {runs}"), Stage() as stage:
                way.set_up(stage)
                result.tcp.append(load.tcp(stage, seconds))
                result.udp.append(load.udp(stage, max(1.0, seconds / 4)))
            mbit_per_s, packets_per_s = result.tcp[-1].mbit_per_s, result.udp[-1].packets_per_s
            console.print(f"run {number}, {way.name}: {mbit_per_s:,.0f} Mbit/s, {packets_per_s:,.0f} packets/s")
    return results


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Fault as fault:
        sys.stderr.write(f"bench: {fault}\n")
        sys.exit(fault.exit_code)
