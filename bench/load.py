"""The load: one TCP connection, and UDP packets of 64 octets, ever more until one in a hundred is lost. iperf3(1)."""

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from bench.namespaces import Node, Stage, wait_for
from dmvpn.errors import Fault
from dmvpn.linux.pace import patience
from dmvpn.linux.socket_buffers import enlarge_udp

_TARGET = "10.1.2.2"
SMALL_OCTETS = 64
LOSS_LIMIT = 0.01
_FIRST_RATE = 8000
_STEP = 1.2
_REACH_S = 10.0
_END_S = 10.0  # for both to exchange their results


@dataclass(frozen=True, slots=True)
class TcpRun:
    mbit_per_s: float
    retransmits: int
    cpu: dict[str, float]  # per cent of one core, by "node process"; "machine" is all cores together


@dataclass(frozen=True, slots=True)
class UdpRun:
    """The highest rate that arrived with less than 1 % lost; `cpu` at that rate."""

    packets_per_s: float
    loss: float
    cpu: dict[str, float]


def reach(stage: Stage) -> None:
    """Returns when a packet went there and back. Raises Fault naming the way's end if none does."""

    def answered() -> bool:
        try:
            stage.host_a.run(("ping", "-c", "1", "-W", "1", _TARGET))
        except Fault:
            return False
        return True

    wait_for(answered, f"an answer from {_TARGET}: this way carries nothing", _REACH_S)


def tcp(stage: Stage, seconds: float) -> TcpRun:
    report, cpu = _iperf(stage, seconds, ("--omit", "1"))
    end = report["end"]
    return TcpRun(end["sum_received"]["bits_per_second"] / 1e6, int(end["sum_sent"].get("retransmits", 0)), cpu)


def udp(stage: Stage, seconds: float) -> UdpRun:
    rate = float(_FIRST_RATE)
    best = UdpRun(0.0, 1.0, {})
    misses = 0
    while True:
        found = _udp_at(stage, seconds, rate)
        if found.loss < LOSS_LIMIT and found.packets_per_s > 0.9 * rate:
            best, misses = found, 0
            rate *= _STEP
        elif misses:  # a second chance: one hiccup of the machine is no limit
            return best
        else:
            misses = 1


def _udp_at(stage: Stage, seconds: float, packets_per_s: float) -> UdpRun:
    bits = int(packets_per_s * SMALL_OCTETS * 8)
    report, cpu = _iperf(stage, seconds, ("--udp", "--length", str(SMALL_OCTETS), "--bitrate", str(bits)))
    total = report["end"]["sum"]
    lost = total["lost_packets"] / max(1, total["packets"])
    return UdpRun((total["packets"] - total["lost_packets"]) / total["seconds"], lost, cpu)


def _iperf(stage: Stage, seconds: float, options: tuple[str, ...]) -> tuple[dict[str, Any], dict[str, float]]:
    log = stage.directory / "iperf3.log"
    stage.host_b.start("iperf3", ("iperf3", "--server", "--one-off", "--bind", _TARGET), log)
    wait_for(lambda: ":5201 " in stage.host_b.run(("ss", "-Htln")), "the iperf3 server")
    client = ("iperf3", "--client", _TARGET, "--connect-timeout", "5000", "--time", f"{seconds:g}", "--json", *options)
    output = stage.directory / "client.json"
    output.unlink(missing_ok=True)
    with _cpu(stage.nodes) as used:
        stage.host_a.start("iperf3", client, output)
        if "--udp" in options:
            # Its socket holds ninety packets by default: the way would be blamed for what iperf3 itself dropped.
            server = stage.host_b.processes["iperf3"].pid
            wait_for(lambda: enlarge_udp(server) > 0, "the iperf3 server's UDP socket")
        # Reaped processes have no /proc entry: what they used is in the report.
        stage.host_a.wait("iperf3", seconds + patience(_END_S))
    try:
        report: dict[str, Any] = json.loads(output.read_bytes())
    except ValueError as error:
        raise Fault("iperf3", f"says no JSON: {output.read_text()[-200:]!r}") from error
    if "error" in report:
        raise Fault("iperf3", str(report["error"]))
    stage.host_b.wait("iperf3", patience(_END_S))
    shares = report["end"]["cpu_utilization_percent"]
    used["host-a iperf3"], used["host-b iperf3"] = shares["host_total"], shares["remote_total"]
    return report, used


@contextmanager
def _cpu(nodes: list[Node]) -> Iterator[dict[str, float]]:
    """Per cent of one core that each process used meanwhile; filled in at the end."""
    used: dict[str, float] = {}
    before, busy, began = _processes(nodes), _busy_s(), time.monotonic()
    yield used
    took = time.monotonic() - began
    for name, seconds in _processes(nodes).items():
        if name in before:
            used[name] = 100 * (seconds - before[name]) / took
    used["machine"] = 100 * (_busy_s() - busy) / took


def _processes(nodes: list[Node]) -> dict[str, float]:
    return {name: seconds for node in nodes for name, seconds in node.cpu_s().items() if "iperf3" not in name}


def _busy_s() -> float:
    """Processor seconds of the whole machine that were not idle. proc(5), /proc/stat"""
    with open("/proc/stat", encoding="ascii") as file:  # noqa: PTH123 - one line of a large file
        ticks = [int(field) for field in file.readline().split()[1:9]]
    return (sum(ticks) - ticks[3] - ticks[4]) / os.sysconf("SC_CLK_TCK")
