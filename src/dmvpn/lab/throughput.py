"""How much goes between two hosts: iperf3(1), read from its JSON."""

import json
import time
from dataclasses import dataclass

from dmvpn.errors import Fault
from dmvpn.lab.node import LabNode, Running
from dmvpn.linux import process
from dmvpn.linux.pace import patience

_START_LIMIT_S = 5.0
_PAUSE_S = 0.05
_REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Throughput:
    """What the receiver got of one TCP connection."""

    mbit_per_s: float
    seconds: float
    retransmits: int


def measure(source: LabNode, target: LabNode, address: str, *, seconds: float) -> Throughput:
    """Raises Fault when iperf3 is missing, or there is no way."""
    process.find("iperf3")
    with open("/dev/null", "wb") as nothing:  # noqa: PTH123 - a device, opened for its descriptor
        server = target.start(("iperf3", "--server", "--one-off", "--bind", address), stdout=nothing, stderr=nothing)
    try:
        report = _ask(source, server, address, seconds)
    finally:
        server.stop()
    received, sent = report["end"]["sum_received"], report["end"]["sum_sent"]
    return Throughput(received["bits_per_second"] / 1e6, received["seconds"], int(sent.get("retransmits", 0)))


def _ask(source: LabNode, server: Running, address: str, seconds: float) -> dict[str, dict[str, dict[str, float]]]:
    argv = ("iperf3", "--client", address, "--time", f"{seconds:g}", "--json", "--connect-timeout", "3000")
    deadline = time.monotonic() + patience(_START_LIMIT_S)
    while True:
        result = source.run(argv, timeout_s=seconds + 20, accept=range(256))
        report = json.loads(result.stdout) if result.stdout.startswith(b"{") else {"error": result.text}
        if result.status == 0 and "error" not in report:
            return dict(report)
        # The server is being started beside us; nothing else tells when it listens.
        if _REFUSED not in str(report["error"]) or time.monotonic() > deadline or server.poll() is not None:
            raise Fault(source.name, f"iperf3 to {address}: {report['error']}")
        time.sleep(_PAUSE_S)
