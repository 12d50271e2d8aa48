"""From the first packet to the direct path, in a lab: ours and FRR's, with IPsec and without. And a hub that dies.

Both kinds of router run in the same lab, on the same WAN without delay or loss; the stream is the lab's own, 50 packets
a second between two hosts behind two spokes. Each run has a fresh lab: the second packet to a site finds its way made.
"""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from dmvpn.errors import Fault
from dmvpn.lab import stream
from dmvpn.lab.impairment import Change
from dmvpn.lab.node import LabNode
from dmvpn.lab.running import Lab
from dmvpn.lab.stream import Figures, Packet, Stream
from dmvpn.linux.pace import patience
from dmvpn.operations import labs

INTERVAL_S: Final = 0.02
OCTETS: Final = 200
IN_A_ROW: Final = 25
ROUTES_LIMIT_S: Final = 60.0
STEADY_LIMIT_S: Final = 30.0
CALM_S: Final = 3.0
HUBS: Final = {"10.255.1.1": "hub", "10.255.1.2": "other"}

NETWORK: Final = """\
version: 1
network: race
domain: example.net
prefixes: [10.0.0.0/8]
transport: 100.64.0.0/16
clouds:
  blue: {{overlay: [10.255.1.0/24], gre-key: 1, phase: 3, routing: bgp{cloud}}}
sites:
  hq:
    asn: 65000
    networks: {{lan: {{port: eth1, prefix: 10.1.0.0/24}}}}
    routers:
      hub:
        {who1}
        uplinks: {{wan: {{{port}: eth0, address: [192.0.2.2/30], gateway: [192.0.2.1]}}}}
        tunnels: {{blue: {{role: hub, address: [10.255.1.1]}}}}
  reserve:
    asn: 65003
    networks: {{lan: {{port: eth1, prefix: 10.1.1.0/24}}}}
    routers:
      other:
        transport: 100.64.0.2
        uplinks: {{wan: {{port: eth0, address: [192.0.2.6/30], gateway: [192.0.2.5]}}}}
        tunnels: {{blue: {{{role}address: [10.255.1.2]}}}}
  eastern:
    asn: 65001
    networks: {{lan: {{port: eth1, prefix: 10.1.11.0/24}}}}
    routers:
      east:
        {who11}
        uplinks: {{wan: {{{port}: eth0, address: [198.51.100.2/30], gateway: [198.51.100.1]}}}}
        tunnels: {{blue: {{address: [10.255.1.11]}}}}
  western:
    asn: 65002
    networks: {{lan: {{port: eth1, prefix: 10.1.12.0/24}}}}
    routers:
      west:
        {who12}
        uplinks: {{wan: {{{port}: eth0, address: [203.0.113.2/30], gateway: [203.0.113.1]}}}}
        tunnels: {{blue: {{address: [10.255.1.12]}}}}
lab:
  hosts:
    east-pc: {{network: eastern.lan, address: 10.1.11.10}}
    west-pc: {{network: western.lan, address: 10.1.12.10}}
"""


@dataclass(frozen=True, slots=True)
class FirstRun:
    """Seconds from the first packet on; `direct_s` is None when the stream never went directly."""

    who: str
    encrypted: bool
    reply_s: float | None
    direct_s: float | None
    lost: int


@dataclass(frozen=True, slots=True)
class DeathRun:
    """The longest time without a packet that got through when the hub that relayed fell silent."""

    bfd: bool
    silent_s: float


def network(*, frr: bool = False, encrypted: bool = True, two_hubs: bool = False, bfd: bool = False) -> str:
    cloud = ", bfd: true" if bfd else ""
    return NETWORK.format(
        cloud=cloud if encrypted else f"{cloud}, crypto: none",
        port="interface" if frr else "port",
        **{
            f"who{number}": "platform: frr\n        claims: {from: file}" if frr else f"transport: 100.64.0.{number}"
            for number in (1, 11, 12)
        },
        role="role: hub, " if two_hubs else "",
    )


@contextmanager
def _lab(text: str) -> Iterator[Lab]:
    with TemporaryDirectory(prefix="dmvpn-bench-") as directory:
        path = Path(directory) / "network.yaml"
        path.write_text(text)
        with labs.held(path, f"bench-{os.getpid()}", lambda _progress: None) as lab:
            yield lab


def first(who: str, *, encrypted: bool) -> FirstRun:
    """One fresh lab, one stream. `who` is "ours" or "FRR"."""
    with _lab(network(frr=who == "FRR", encrypted=encrypted)) as lab:
        _wait(lambda: _routed(lab), "routes between the sites", ROUTES_LIMIT_S)
        time.sleep(CALM_S)  # sessions that came up last have said all by now
        with _flowing(lab) as flow:
            _until(flow, lambda packet: packet.direct, "a direct path")
            figures = Figures.of(_settled(flow.packets))
    return FirstRun(who, encrypted, figures.first_reply_s, figures.first_direct_s, len(figures.lost))


def death(*, bfd: bool) -> DeathRun:
    """Two hubs of ours and two spokes that cannot reach each other directly; the hub that relays falls silent."""
    with _lab(network(two_hubs=True, bfd=bfd)) as lab:
        lab.cut_path("east", "west")
        _wait(lambda: _routed(lab), "routes between the sites", ROUTES_LIMIT_S)
        time.sleep(patience(CALM_S))
        with _flowing(lab) as flow:
            _until(flow, lambda packet: packet.relayed, "a path by a hub")
            relaying = HUBS[_next_hop(lab.node("east"), lab.hosts["west-pc"])]
            flow.mark()
            lab.impair(f"{relaying}.wan", Change(silent=True))
            time.sleep(1.0)
            _until(flow, lambda packet: packet.relayed, "a path by the other hub")
            time.sleep(2 * stream.LATEST_REPLY_S)
            return DeathRun(bfd, Figures.of(_settled(flow.stretch())).longest_gap_s)


@contextmanager
def _flowing(lab: Lab) -> Iterator[Stream]:
    nodes = lab.node("east-pc"), lab.node("west-pc")
    flow = stream.start(*nodes, lab.hosts["west-pc"], interval_s=INTERVAL_S, octets=OCTETS)
    try:
        yield flow
    finally:
        flow.stop()


def _routed(lab: Lab) -> bool:
    """Each spoke knows the other's site by a tunnel, and the hub knows both."""
    pairs = (("east", "west-pc"), ("west", "east-pc"), ("hub", "west-pc"), ("hub", "east-pc"))
    return all(_next_hop(lab.node(router), lab.hosts[host]).startswith("10.255.") for router, host in pairs)


def _next_hop(node: LabNode, address: str) -> str:
    words = node.run(("ip", "route", "get", address), accept=(0, 2)).text.split()
    return words[words.index("via") + 1] if "via" in words else ""


def _until(flow: Stream, way: Callable[[Packet], bool], what: str) -> None:
    """Waits for so many packets in a row that went that way."""
    began = time.monotonic()

    def steady() -> bool:
        flow.check()
        flow.refresh()
        last = _settled([packet for packet in flow.packets if packet.sent >= began])[-IN_A_ROW:]
        return len(last) == IN_A_ROW and all(way(packet) for packet in last)

    _wait(steady, what, STEADY_LIMIT_S)


def _settled(packets: list[Packet]) -> list[Packet]:
    """Up to the last one that was answered: what came behind it may be on its way."""
    last = max((at for at, packet in enumerate(packets, 1) if packet.replied is not None), default=0)
    return packets[:last]


def _wait(condition: Callable[[], bool], what: str, limit_s: float) -> None:
    end = time.monotonic() + patience(limit_s)
    while not condition():
        if time.monotonic() > end:
            raise Fault("bench", f"waited {patience(limit_s):g} s for {what}")
        time.sleep(0.1)
