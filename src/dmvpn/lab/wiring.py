"""From the topology to cables, addresses and routes in namespaces that exist. ip(8) in batches, one for each node."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Any

from dmvpn.errors import Fault
from dmvpn.lab import leases
from dmvpn.lab.node import LabNode, call_all
from dmvpn.lab.topology import Link, Node, Route, Topology
from dmvpn.linux import frame_ring, process
from dmvpn.network.plan import Plan

RELAY_START_LIMIT_S = 10.0
_IP_LIMIT_S = 20.0
# An address is used the moment it is set, and nobody's rp_filter default decides what a lab's WAN forwards.
_EVERYWHERE = {
    "net/ipv4/conf/all/rp_filter": "0",
    "net/ipv4/conf/default/rp_filter": "0",
    "net/ipv6/conf/all/accept_dad": "0",
    "net/ipv6/conf/default/accept_dad": "0",
}


class Emulator(StrEnum):
    """What impairs the links."""

    NETEM = "netem"
    RELAY = "relay"


@dataclass(frozen=True, slots=True)
class Joint:
    """The relay's two ends of an impaired link, in the closet."""

    link: Link
    a: str
    b: str


def joints(links: Iterable[Link]) -> tuple[Joint, ...]:
    return tuple(
        Joint(link, f"l{number}a", f"l{number}b") for number, link in enumerate(links, start=1) if link.impairable
    )


def probe_emulator(closet: LabNode) -> Emulator:
    """netem where this kernel has it: tried on a device of the closet, which also loads the module."""
    closet.run(("ip", "link", "add", "probe", "type", "veth", "peer", "name", "probed"))
    tried = closet.run(("tc", "qdisc", "add", "dev", "probe", "root", "netem", "delay", "1ms"), accept=range(256))
    closet.run(("ip", "link", "del", "probe"))
    return Emulator.NETEM if tried.status == 0 else Emulator.RELAY


def pull_cables(closet: LabNode, links: Iterable[Link], emulator: Emulator, net_of: Callable[[str], str]) -> None:
    """Makes every veth pair, right in the namespaces of its ends; `net_of` gives a node's as the closet sees it."""
    relayed = {joint.link.name: joint for joint in joints(links)} if emulator is Emulator.RELAY else {}
    batch: list[str] = []
    for link in links:
        a, b = net_of(link.a.node), net_of(link.b.node)
        joint = relayed.get(link.name)
        if joint is None:
            batch.append(f"link add {link.a.device} netns {a} type veth peer name {link.b.device} netns {b}")
            continue
        for end, net, ours in ((link.a, a, joint.a), (link.b, b, joint.b)):
            batch.append(f"link add {end.device} netns {net} type veth peer name {ours}")
            batch.append(f"link set {ours} mtu {link.mtu_octets} up")
    closet.call(partial(_pull, batch))


def _pull(batch: list[str]) -> None:
    # The relay's ends must carry what the nodes send and nothing else.
    _set_sysctls({"net/ipv6/conf/default/disable_ipv6": "1"})
    _ip(["link set lo up", *batch])


def settle(nodes: dict[str, LabNode], topology: Topology, emulator: Emulator) -> None:
    """Addresses, routes, bridges, rules and MTU in every node, all nodes at once. Raises the first Fault."""
    devices: dict[str, list[tuple[str, int, tuple[str, ...] | None]]] = {name: [] for name in nodes}
    for link in topology.links.values():
        for end, quality in ((link.a, link.up), (link.b, link.down)):
            netem = quality.netem() if quality is not None and emulator is Emulator.NETEM else None
            devices[end.node].append((end.device, link.mtu_octets, netem))
    relayed = {
        end
        for link in topology.links.values()
        if link.impairable and emulator is Emulator.RELAY
        for end in (link.a, link.b)
    }
    tasks = {
        nodes[name]: partial(_settle_node, node, devices[name], [end.device for end in relayed if end.node == name])
        for name, node in topology.nodes.items()
    }
    for answer in call_all(tasks).values():
        if isinstance(answer, Fault):
            raise answer


def _settle_node(
    node: Node, devices: Sequence[tuple[str, int, tuple[str, ...] | None]], relayed: Sequence[str]
) -> None:
    _set_sysctls(_EVERYWHERE)
    for device in relayed:
        frame_ring.turn_offloads_off(device)
    batch = ["link set lo up"]
    for bridge in node.bridges:
        batch.append(f"link add {bridge} type bridge forward_delay 0 mcast_snooping 0")
        batch.append(f"link set {bridge} up")
    batch += [f"link set {device} mtu {mtu_octets} up" for device, mtu_octets, _ in devices]
    for bridge, ports in node.bridges.items():
        batch += [f"link set {port} master {bridge}" for port in ports]
    batch += [f"address add {address} dev {device}" for device, address in node.addresses]
    _ip(batch)
    _set_sysctls(node.sysctls)
    _ip([_words(route) for route in node.routes if route.via is None])
    _ip([_words(route) for route in node.routes if route.via is not None])
    if node.nft:
        process.run(("nft", "-f", "-"), timeout_s=_IP_LIMIT_S, input=node.nft.encode())
    for server in node.leases:
        leases.start(server)
    for device, _, netem in devices:
        if netem is not None:
            process.run(("tc", "qdisc", "replace", "dev", device, "root", *netem), timeout_s=_IP_LIMIT_S)


def give_router_its_underlay(plan: Plan) -> None:
    """What apply would do first: addresses, default routes, forwarding; for routers that nothing configures."""
    batch = [f"address add {address} dev {uplink.device}" for uplink in plan.uplinks for address in uplink.addresses]
    batch += [f"address add {lan.address} dev {lan.device}" for lan in plan.lans]
    for uplink in plan.uplinks:
        for gateway in uplink.gateways:
            everywhere = "0.0.0.0/0" if gateway.version == 4 else "::/0"
            batch.append(_words(Route(everywhere, uplink.device, via=gateway, metric=uplink.metric)))
    _ip(batch)
    _set_sysctls({"net/ipv4/ip_forward": "1", "net/ipv6/conf/all/forwarding": "1"})


def start_relay(closet: LabNode, links: Iterable[Link], socket_path: Path) -> None:
    """Starts the lab's one relay in the closet; it ends with the lab. Returns once it serves."""
    configuration = {
        "socket": str(socket_path),
        "links": [
            {
                "name": joint.link.name,
                "a": joint.a,
                "b": joint.b,
                "mtu_octets": joint.link.mtu_octets,
                "up": joint.link.up.to_json(),
                "down": joint.link.down.to_json(),
            }
            for joint in joints(links)
            if joint.link.up is not None and joint.link.down is not None
        ],
    }
    closet.call(partial(_launch_relay, configuration), timeout_s=RELAY_START_LIMIT_S)


def _launch_relay(configuration: dict[str, Any]) -> None:
    child = subprocess.Popen(
        (sys.executable, "-P", "-m", "dmvpn.lab.relay"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
        cwd="/",
        # The handlers of the process that joined are not the relay's.
        preexec_fn=lambda: signal.signal(signal.SIGTERM, signal.SIG_DFL),
    )
    assert child.stdin is not None
    assert child.stdout is not None
    with child.stdin as stdin:
        stdin.write(json.dumps(configuration).encode())
    said = child.stdout.readline().decode().strip()
    if said != "ready":
        os.kill(child.pid, signal.SIGKILL)
        raise Fault("relay", said or "it did not start")


def _words(route: Route) -> str:
    words = [f"-{route.family}" if route.family == 6 else "", "route add", route.prefix]
    words += [f"via {route.via}"] if route.via is not None else []
    words += [f"dev {route.device}"]
    words += ["onlink"] if route.onlink else []
    words += [f"metric {route.metric}"] if route.metric else []
    words += [f"src {route.source}"] if route.source is not None else []
    return " ".join(word for word in words if word)


def _ip(lines: Sequence[str]) -> None:
    """ip-batch takes the family as an option of the whole run, so lines for IPv6 go apart."""
    four = [line for line in lines if not line.startswith("-6 ")]
    six = [line.removeprefix("-6 ") for line in lines if line.startswith("-6 ")]
    for options, chosen in (((), four), (("-6",), six)):
        if chosen:
            script = "\n".join(chosen) + "\n"
            process.run(("ip", *options, "-batch", "-"), timeout_s=_IP_LIMIT_S, input=script.encode())


def _set_sysctls(values: dict[str, str]) -> None:
    for key, value in values.items():
        path = Path("/proc/sys") / key
        if not path.exists() and "/ipv6/" in key:
            continue  # a kernel without IPv6
        try:
            path.write_text(value)
        except OSError as refusal:
            raise Fault(str(path), f"cannot be set: {refusal.strerror}") from refusal
