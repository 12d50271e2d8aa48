"""A zone policy of so many rules: read and checked, compiled, loaded into a kernel, and loaded again over itself."""

import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from dmvpn.errors import Problems
from dmvpn.network.compile import compile_plan
from dmvpn.network.loading import load
from dmvpn.render import nftables
from dmvpn.render.layout import Layout

SIZES = (100, 1_000, 5_000)
SITE = """version: 1
network: bench
domain: example.net
prefixes: [10.0.0.0/8, "fd00::/8"]
clouds: {blue: {overlay: [10.255.1.0/24]}}
sites:
  hq:
    asn: 65000
    networks:
      management: {port: eth3, prefix: 10.1.3.0/24, zone: management}
      lan: {port: eth8, prefix: 10.1.8.0/24}
      dmz: {port: eth64, prefix: 10.1.64.0/24, zone: dmz}
      voice: {port: eth80, prefix: 10.1.80.0/24, zone: voice}
      guest: {port: eth96, prefix: 10.1.96.0/24, zone: internet-only}
    routers:
      hq1:
        uplinks: {wan: {port: eth0, address: [192.0.2.2/30], gateway: [192.0.2.1]}}
        tunnels: {blue: {role: hub, address: [10.255.1.1]}}
policy:
  rules:
"""
ZONES = ("lan", "dmz", "voice", "management", "vpn", "internet")
SERVICES = ("[ssh, https]", "dns", "ping", "[http, smtp, imaps]", "ntp")
Found = TypeVar("Found")


@dataclass(frozen=True, slots=True)
class PolicyRun:
    """Seconds of each step, and what became of the rules. `read_s` has all checks in it, the search for shadows too."""

    rules: int
    read_s: float
    compiled_s: float
    loaded_s: float
    again_s: float
    lines: int


def text_of(rules: int) -> str:
    """A network file with so many rules, all different: no two mean the same packets."""
    return SITE + "".join(f"    - {{{', '.join(_rule(number))}}}\n" for number in range(rules))


def _rule(number: int) -> Iterator[str]:
    come = ZONES[number % 6]
    yield f"in: [{come}, {ZONES[(number + 1) % 6]}]"
    yield f"out: {ZONES[(number + 2 + number // 6 % 3) % 6]}"
    yield f"source: 10.{100 + number // 250 % 100}.{number % 250}.0/24"
    if number % 3 == 0:
        yield f'destination: [10.{number % 90}.1.0/24, "fd00:{number % 9999:x}::/32"]'
    yield f"service: {SERVICES[number % 5]}"
    if number % 20 == 0:
        yield "limit: {count: 10, interval: 6s}"
    elif number % 7 == 0:
        yield "action: drop"


def measure(rules: int) -> PolicyRun:
    """One run. Raises Fault if the kernel does not take the rules; needs root."""
    text = text_of(rules)
    network, read_s = _timed(lambda: load(text, "bench.yaml"))
    rendered, compiled_s = _timed(lambda: nftables.render(compile_plan(network, "hq1"), Layout("bench")))
    rule_set = rendered.files[0].text
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "nftables.nft"
        path.write_text(rule_set)
        loaded_s, again_s = _loaded(path)
    return PolicyRun(rules, read_s, compiled_s, loaded_s, again_s, rule_set.count("\n"))


def _loaded(path: Path) -> tuple[float, float]:
    name = f"dmvpn-bench-{time.monotonic_ns()}"
    subprocess.run(("ip", "netns", "add", name), check=True, timeout=20)
    try:
        argv = ("ip", "netns", "exec", name, "nft", "-f", str(path))
        times = [_timed(lambda: subprocess.run(argv, check=True, timeout=300))[1] for _ in range(2)]
    finally:
        subprocess.run(("ip", "netns", "del", name), check=True, timeout=60)
    return times[0], times[1]


def _timed(what: Callable[[], Found]) -> tuple[Found, float]:
    began = time.perf_counter()
    try:
        found = what()
    except Problems as problems:
        raise AssertionError(f"the bench's own file is wrong: {problems}") from problems
    return found, time.perf_counter() - began
