"""An ISP that dies under a tunnel: seconds until a LAN host's ping to another site answers.

A hub and a spoke with two ISPs in a lab; 50 packets a second between two hosts. Silent: the WAN drops everything, the
carrier stays. Carrier: the ISP's end of the line is switched off. Once with the file's defaults (a probe a second),
once with what the wiki's page has pingu do.
"""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from rich.console import Console
from rich.table import Table

from bench.report import spread
from dmvpn.daemon.control import UplinkRow
from dmvpn.errors import Fault
from dmvpn.lab import stream
from dmvpn.lab.impairment import Change
from dmvpn.lab.running import Lab
from dmvpn.lab.stream import Stream
from dmvpn.linux import process
from dmvpn.operations import labs, observing
from dmvpn.operations.here import Here
from dmvpn.render.layout import Layout

INTERVAL_S: Final = 0.02
OCTETS: Final = 100
CALM_S: Final = 2.0
LINE: Final = "line"  # the ISP's end of a line without the lab's relay in between
SETTINGS: Final = {
    "defaults": "",
    "wiki": (
        ", probe: {interval: 30s, again: 30s, timeout: 4s, attempts: 11, answers: 2, down: 1, up: 1, max-loss: 100%}"
    ),
}
PACE: Final = {"defaults": 1.0, "wiki": 30.0}  # seconds between two rounds: a death comes at any moment of it

NETWORK: Final = """\
version: 1
network: twoisp
domain: example.net
prefixes: [10.0.0.0/8]
transport: 100.64.0.0/16
clouds: {{blue: {{overlay: [10.255.1.0/24], gre-key: 1, plane: userspace}}}}
sites:
  hq:
    asn: 65000
    networks: {{lan: {{port: eth1, prefix: 10.1.0.0/24}}}}
    routers:
      hq1:
        transport: 100.64.0.1
        uplinks: {{wan: {{port: eth0, address: [192.0.2.2/30], gateway: [192.0.2.1]}}}}
        tunnels: {{blue: {{role: hub, address: [10.255.1.1]}}}}
  paris:
    asn: 65001
    networks: {{lan: {{port: eth1, prefix: 10.1.12.0/24}}}}
    routers:
      par1:
        transport: 100.64.0.12
        uplinks:
          isp1:
            {{port: eth0, address: [198.51.100.2/30], gateway: [198.51.100.1], probes: [198.18.0.1, 192.0.2.2]{probe}}}
          isp2:
            {{port: eth2, address: [203.0.113.2/30], gateway: [203.0.113.1], probes: [198.18.0.1, 192.0.2.2]{probe}}}
        tunnels: {{blue: {{address: [10.255.1.12], over: [isp1, isp2]}}}}
lab:
  wan: {{delay: 5ms}}
  routers: {{internet: {{}}}}
  hosts:
    hq-pc: {{network: hq.lan, address: 10.1.0.10}}
    paris-pc: {{network: paris.lan, address: 10.1.12.10}}
"""


@dataclass(slots=True)
class Deaths:
    """Seconds without an answer, for each death; `back` are packets lost when the uplink was taken back."""

    settings: str
    silent_s: list[float] = field(default_factory=list)
    carrier_s: list[float] = field(default_factory=list)
    back: list[int] = field(default_factory=list)


def measure(console: Console, runs: int) -> list[Deaths]:
    """Raises Fault where the lab does not come up."""
    found = []
    for name, probe in SETTINGS.items():
        deaths = Deaths(name)
        with TemporaryDirectory() as directory:
            file = Path(directory) / "network.yaml"
            file.write_text(NETWORK.format(probe=probe))
            with labs.held(file, f"bench-uplinks-{os.getpid()}", lambda _progress: None) as lab:
                _die_often(lab, deaths, runs, PACE[name])
        console.print(f"{name}: silent {deaths.silent_s}, carrier {deaths.carrier_s}, back {deaths.back}")
        found.append(deaths)
    return found


def show(console: Console, found: list[Deaths]) -> None:
    table = Table(title="An ISP dies: seconds until a LAN host's ping to another site answers")
    for column in ("settings", "silent", "carrier lost", "packets lost on the way back"):
        table.add_column(column, justify="right")
    for deaths in found:
        back = spread([float(number) for number in deaths.back])
        table.add_row(deaths.settings, spread(deaths.silent_s, 2), spread(deaths.carrier_s, 2), back)
    console.print(table)


def _die_often(lab: Lab, deaths: Deaths, runs: int, pace_s: float) -> None:
    _until(lab, "isp1", 60)
    flow = stream.start(
        lab.node("paris-pc"), lab.node("hq-pc"), lab.hosts["hq-pc"], interval_s=INTERVAL_S, octets=OCTETS
    )
    try:
        _answered(flow, 60)
        limit_s = 3 * pace_s + 60
        for run in range(runs):
            time.sleep(CALM_S + pace_s * run / runs)
            deaths.silent_s.append(_gap(lab, flow, limit_s, partial(lab.impair, "par1.isp1", Change(silent=True))))
            flow.mark()
            lab.heal("par1.isp1")
            _until(lab, "isp1", limit_s)
            time.sleep(CALM_S)
            deaths.back.append(_lost(flow))
        _new_line(lab)
        for _ in range(runs):
            _until(lab, "isp1", limit_s)
            time.sleep(CALM_S)
            deaths.carrier_s.append(_gap(lab, flow, limit_s, partial(_switch, lab, "down")))
            _switch(lab, "up")
    finally:
        flow.stop()


def _gap(lab: Lab, flow: Stream, limit_s: float, kill: Callable[[], object]) -> float:
    """From the first packet without an answer to the first with one, in seconds."""
    flow.mark()
    kill()
    _until(lab, "isp2", limit_s)
    _answered(flow, 30)
    packets = [packet for packet in flow.stretch() if packet is not None]
    lost = [packet for packet in packets if packet.replied is None and packet.sequence < packets[-1].sequence - 50]
    if not lost:
        return 0.0
    after = next(packet for packet in packets if packet.sequence > lost[-1].sequence and packet.replied is not None)
    return round((after.replied or 0.0) - lost[0].sent, 2)


def _lost(flow: Stream) -> int:
    flow.refresh()
    packets = flow.stretch()
    return sum(1 for packet in packets[:-50] if packet.replied is None)


def _answered(flow: Stream, limit_s: float) -> None:
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        time.sleep(1.2)
        flow.refresh()
        last = flow.packets[-75:-50]
        if last and all(packet.replied is not None for packet in last):
            return
    raise Fault("bench", "the stream is not answered")


def _until(lab: Lab, uplink: str, limit_s: float) -> None:
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        if any(row.name == uplink and row.tunnels for row in _uplinks(lab)):
            return
        time.sleep(0.2)
    raise Fault("bench", f"{uplink} does not carry the tunnel within {limit_s:g} s")


def _uplinks(lab: Lab) -> tuple[UplinkRow, ...]:
    try:
        return lab.node("par1").call(partial(observing.status, Here(lab.network, Layout(lab.network)))).uplinks
    except Fault:
        return ()


def _new_line(lab: Lab) -> None:
    """In place of the lab's, whose relay keeps the carrier of one end when the other goes."""
    lab.node("par1").run(("ip", "link", "delete", "eth0"))
    ours, isps = (str(lab.node(name).handles.net) for name in ("par1", "internet"))
    pair = ("type", "veth", "peer", "name", LINE, "netns", isps)
    process.run(("ip", "link", "add", "eth0", "netns", ours, *pair), timeout_s=20)
    lab.node("internet").run(("ip", "address", "add", "198.51.100.1/32", "dev", LINE))
    _switch(lab, "up")
    batch = "link set eth0 up\naddress add 198.51.100.2/30 dev eth0\n"
    lab.node("par1").run(("ip", "-batch", "-"), input=batch.encode())


def _switch(lab: Lab, state: str) -> None:
    lab.node("internet").run(("ip", "link", "set", LINE, state))
    if state == "up":
        lab.node("internet").run(("ip", "route", "replace", "198.51.100.2/32", "dev", LINE))
