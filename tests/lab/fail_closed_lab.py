"""A small lab that a test may break: parts killed, guards taken away, GRE in clear sent at it, and what the WAN saw."""

import json
import os
import signal
import socket
import struct
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from functools import cache, partial
from ipaddress import IPv4Address
from itertools import pairwise
from pathlib import Path
from typing import TypeVar

from dmvpn.errors import Fault
from dmvpn.lab import capture, running, stream
from dmvpn.lab.capture import Capture
from dmvpn.lab.lifecycle import Progress
from dmvpn.lab.node import LabNode, Running, call_all
from dmvpn.lab.running import Lab
from dmvpn.lab.stream import Packet, Stream
from dmvpn.linux import kernel_facts, process, ruleset
from dmvpn.linux.pace import patience
from dmvpn.linux.services import Supervised
from dmvpn.linux.vici_client import ViciSession
from dmvpn.operations import labs
from dmvpn.plane import main as plane
from dmvpn.plane import underlay
from dmvpn.render import interfaces, nftables
from dmvpn.render.layout import Layout

FILE = Path(__file__).with_name("fail_closed.yaml")
NETWORK = "shut"
TAP = "shut-blue"
TRANSPORT_RANGE = "100.64.0.0/16"
GUARDS = tuple(f"counter name {name} drop" for name in ("gre_clear_out", "gre_clear_in", "transport_forwarded"))
STATISTICS = Path(f"/sys/class/net/{TAP}/statistics")
EVERY_S = 0.01
STREAM_OCTETS = 200
STEADY = 20  # packets in a row
UP_LIMIT_S = 30.0
LAYOUT = Layout(NETWORK)
Answer = TypeVar("Answer")


def wait_for(condition: Callable[[], Answer], what: str, limit_s: float = UP_LIMIT_S) -> Answer:
    """The first answer of `condition` that is true; an assertion names what did not come."""
    end = time.monotonic() + patience(limit_s)
    while True:
        answer = condition()
        if answer:
            return answer
        assert time.monotonic() < end, f"waited {patience(limit_s):g} s for {what}"
        time.sleep(0.02)


@contextmanager
def small_lab(
    purpose: str, *, before_start: Callable[[Lab], None] = lambda _lab: None, file: Path = FILE
) -> Iterator[Lab]:
    """The lab of fail_closed.yaml. `before_start` is called when it is wired and no router is configured yet."""
    name = f"{NETWORK}-{purpose}-{os.getpid()}"

    def report(progress: Progress) -> None:
        if "links" in progress.what:
            before_start(running.find(name))

    with labs.held(file, name, report) as lab:
        yield lab


# ---------------------------------------------------------------- services of a router


def services() -> Supervised:
    return Supervised(NETWORK, Path(LAYOUT.run))


def unit(part: str) -> str:
    return f"dmvpn-{NETWORK}-{part}"


def pid_of(node: LabNode, part: str) -> int:
    """As counted inside the lab. Raises Fault if it does not run."""
    rows = node.call(lambda: services().status())
    found = next((row.pid for row in rows if row.name == unit(part)), None)
    if found is None:
        raise Fault(node.name, f"{part} does not run")
    return found


def send_signal(node: LabNode, part: str, number: signal.Signals) -> None:
    node.call(partial(os.kill, pid_of(node, part), number))


def stop_unit(node: LabNode, part: str) -> None:
    node.call(lambda: services().stop(unit(part)))


def start_unit(node: LabNode, part: str) -> None:
    node.call(lambda: services().start(unit(part)))


def reload_unit(node: LabNode, part: str) -> None:
    node.call(lambda: services().reload(unit(part)))


def restart_unit(node: LabNode, part: str) -> None:
    """A one-shot does its work again."""
    node.call(lambda: services().restart(unit(part)))


# ---------------------------------------------------------------- the stream


@contextmanager
def flowing(lab: Lab, source: str, target: str) -> Iterator[Stream]:
    """100 packets a second from host to host."""
    nodes = lab.node(source), lab.node(target)
    started = stream.start(*nodes, lab.hosts[target], interval_s=EVERY_S, octets=STREAM_OCTETS)
    try:
        yield started
    finally:
        started.stop()


def settle(flow: Stream, way: Callable[[Packet], bool], what: str) -> None:
    """Waits until packets sent from now on are answered, so many in a row, and went that way."""
    began = time.monotonic()

    def steady() -> bool:
        flow.check()
        flow.refresh()
        newest = without_waiting([packet for packet in flow.packets if packet.sent >= began])
        return len(newest) >= STEADY and all(way(packet) for packet in newest[-STEADY:])

    wait_for(steady, what)


def without_waiting(packets: list[Packet]) -> list[Packet]:
    """Without the last ones that have no reply: it may be on the way."""
    answered_up_to = max((number for number, packet in enumerate(packets, 1) if packet.replied is not None), default=0)
    return packets[:answered_up_to]


def direct(packet: Packet) -> bool:
    return packet.direct


def answered(packet: Packet) -> bool:
    return packet.replied is not None


def sent_more(flow: Stream, packets: int) -> None:
    """Waits until the stream has sent so many more."""
    flow.refresh()
    enough = len(flow.packets) + packets

    def sent() -> bool:
        flow.refresh()
        return len(flow.packets) >= enough

    wait_for(sent, f"{packets} more packets of the stream", 10 + packets * EVERY_S)


@dataclass(frozen=True, slots=True)
class Outage:
    """What an event cost a stream. `silent_s` is the longest time without a packet that got through."""

    lost: int
    silent_s: float
    direct_again_s: float | None  # from the event on, for good


def cost(packets: list[Packet], event: float) -> Outage:
    after = without_waiting([packet for packet in packets if packet.sent >= event])
    got_through = [packet.sent for packet in after if packet.replied is not None]
    times = [event, *got_through]
    gaps = [later - earlier for earlier, later in pairwise(times)]
    not_direct = [packet.sent for packet in after if not packet.direct]
    again = next((packet.sent for packet in after if not not_direct or packet.sent > not_direct[-1]), None)
    return Outage(len(after) - len(got_through), max(gaps, default=0.0), None if again is None else again - event)


# ---------------------------------------------------------------- the wire


@contextmanager
def on_the_wire(node: LabNode, device: str = "any") -> Iterator[Callable[[], Counter[str]]]:
    """Captures until the given function is called, which counts by kind."""
    arriving = "in" if device == "any" else ""
    started = capture.start(node, device, capture.in_memory(), arriving=arriving)
    try:
        yield started.counted
    finally:
        _end(started)


def _end(started: Capture) -> None:
    started.stop()
    started.output.close()


# ---------------------------------------------------------------- the guards, and taking them away


class Guard(StrEnum):
    """`SENDER` is the plane's own: the socket bound to charon's device, or XFRM policies that block.

    `ROUTE` is the unreachable one, and on the kernel plane that a peer's way is into the tunnel: see `mislead`.
    """

    RULES = "rules"
    SENDER = "sender"
    ROUTE = "route"


@cache
def in_kernel() -> bool:
    """Whether routers here are on the kernel plane."""
    return kernel_facts.has_kernel_plane()


ALL = frozenset(Guard)


@contextmanager
def guarded_by(lab: Lab, kept: frozenset[Guard], *only: str) -> Iterator[None]:
    """Every router, or these alone, without the guards that are not kept; they are back afterwards."""
    nodes = [node for node in lab.routers() if not only or node.name in only]
    unbound: list[Running] = []
    try:
        _on_each(nodes, partial(_take_away, ALL - kept))
        if Guard.SENDER not in kept and not in_kernel():
            unbound += [node.start_function(_unbound_plane) for node in nodes]
        yield
    finally:
        for running_plane in unbound:
            running_plane.stop()
        _on_each(nodes, partial(_bring_back, ALL - kept))


def _on_each(nodes: list[LabNode], task: Callable[[], None]) -> None:
    for answer in call_all(dict.fromkeys(nodes, task)).values():
        if isinstance(answer, Fault):
            raise answer


def _take_away(gone: frozenset[Guard]) -> None:
    if Guard.RULES in gone:
        _load(nftables.FILE, without_guards, "nftables")
    if Guard.SENDER in gone and not in_kernel():
        services().stop(unit("gre"))
    elif Guard.SENDER in gone:
        _load(interfaces.FILE, without_policies, "network")
    if Guard.ROUTE in gone:
        process.run(("ip", "route", "del", "unreachable", TRANSPORT_RANGE), timeout_s=10)


def _bring_back(gone: frozenset[Guard]) -> None:
    if Guard.RULES in gone:
        _load(nftables.FILE, unchanged, "nftables")
    if Guard.ROUTE in gone or Guard.SENDER in gone:
        _load(interfaces.FILE, unchanged, "network")
    if Guard.SENDER in gone and not in_kernel():
        services().start(unit("gre"))


def mislead(node: LabNode, gateway: str) -> None:
    """The way to peers leads out of the uplink, before dmvpnd's own."""
    row = node.run(("ip", "route", "show", "type", "unicast", TRANSPORT_RANGE)).text
    own = row.split("src ")[1].split()[0]
    node.run(("ip", "route", "add", TRANSPORT_RANGE, "via", gateway, "src", own))


def lead_right(node: LabNode, gateway: str) -> None:
    """What `mislead` did ends."""
    node.run(("ip", "route", "del", TRANSPORT_RANGE, "via", gateway))


def unchanged(text: str) -> str:
    return text


def without_guards(text: str) -> str:
    return "\n".join(line for line in text.splitlines() if not line.endswith(GUARDS)) + "\n"


def without_policies(text: str) -> str:
    return json.dumps({**json.loads(text), "policies": []})


def _load(name: str, change: Callable[[str], str], part: str) -> None:
    """The file in force is changed: what differs from it would be put back at once."""
    file = Path(LAYOUT.current / name)
    whole = file.with_suffix(".whole")
    if not whole.exists():
        whole.write_text(file.read_text())
    file.write_text(change(whole.read_text()))
    services().reload(unit(part))


def _unbound_plane() -> int:
    """dmvpn-gre as it is, but for the one system call that binds its socket to charon's device."""
    underlay._index_of = lambda _device: 1
    underlay._bound_socket = _unbound_socket
    plane.carry([str(LAYOUT.current / "gre.json")])
    return 0


def _unbound_socket(_device: str, local: IPv4Address) -> socket.socket:
    opened = socket.socket(socket.AF_INET, socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, 47)
    opened.bind((str(local), 0))
    return opened


def counters(node: LabNode) -> dict[str, int]:
    """The named counters of the network's rule set."""
    return node.call(lambda: ruleset.counters(nftables.table(NETWORK)))


# ---------------------------------------------------------------- attacks and looks


def inject(node: LabNode, source: str, target: str, *, inner: tuple[str, str], key: int, packets: int) -> None:
    """GRE in clear from this node: an echo reply inside, which nobody answers. Forged as the outer header likes."""
    node.call(partial(_inject, source, target, inner, key, packets))


def _inject(source: str, target: str, inner: tuple[str, str], key: int, packets: int) -> None:
    icmp = struct.pack("!BBHHH", 0, 0, 0xFFFF - 7, 7, 0)  # its checksum: the complement of the only word that is not 0
    payload = _ipv4(*inner, 1, icmp)
    gre = struct.pack("!HHI", 0x2000, 0x0800, key) + payload
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as port:
        for _ in range(packets):
            port.sendto(_ipv4(source, target, 47, gre), (target, 0))


def _ipv4(source: str, target: str, protocol: int, payload: bytes) -> bytes:
    fields = (0x45, 0, 20 + len(payload), 0, 0, 64, protocol, 0)
    head = struct.pack("!BBHHHBBH", *fields) + IPv4Address(source).packed + IPv4Address(target).packed
    total = sum(struct.unpack("!10H", head))
    total = (total & 0xFFFF) + (total >> 16)
    total = (total & 0xFFFF) + (total >> 16)
    return head[:10] + struct.pack("!H", 0xFFFF - total) + head[12:] + payload


def frames_to_plane(node: LabNode) -> int:
    """Frames that were to leave by the tunnel since its device exists, whatever became of them."""
    return node.call(
        lambda: sum(int((STATISTICS / f"tx_{name}").read_text()) for name in ("packets", "errors", "dropped"))
    )


def move(lab: Lab, node: LabNode, old: str, new: str) -> None:
    """The uplink's address changes in one step, as when an ISP gives another; the WAN knows where the new one is."""
    wan = lab.node("internet")
    found = wan.run(("ip", "-o", "route", "get", old)).text.split()
    wan.run(("ip", "route", "replace", f"{new}/32", "dev", found[found.index("dev") + 1]))
    steps = f"""addr del {old}/29 dev eth0
addr add {new}/29 dev eth0
route replace default via 198.51.100.1 dev eth0
"""
    node.run(("ip", "-batch", "-"), input=steps.encode())


def sas(node: LabNode) -> dict[str, tuple[str, ...]]:
    """charon's IKE SAs by unique id, each with its children's, those that are up alone."""

    def look() -> dict[str, tuple[str, ...]]:
        with ViciSession(Path(LAYOUT.vici_socket)) as session:
            return {
                sa.unique_id: tuple(child.unique_id for child in sa.children if child.state == "INSTALLED")
                for sa in session.list_sas()
                if sa.state == "ESTABLISHED"
            }

    return node.call(look)


def swanctl(node: LabNode, *arguments: str) -> None:
    """With charon's vici socket. What it says no to is a fault."""
    argv = ("swanctl", *arguments, "--uri", f"unix://{LAYOUT.vici_socket}")
    node.call(lambda: process.run(argv, timeout_s=20))
