"""A router of nothing but devices and rules: real packets go in, and the kernel says what became of them.

The devices are veths whose other ends are in a second namespace. Frames are put on those ends; what passed a hook is
counted behind the policy's chains by its TTL, which nothing else here has.
"""

import json
import os
import select
import socket
import struct
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_interface
from itertools import count
from pathlib import Path

from dmvpn.linux import namespaces

TTL = 77
SYN, ACK = 0x02, 0x10
FRESH = count(20_000)
NEIGHBOUR = "02:00:00:00:00:99"
SO_BINDTODEVICE = 25
ALL_PROTOCOLS = 3
PROTOCOLS = {"tcp": 6, "udp": 17, "gre": 47, "esp": 50, "ospf": 89, "icmp": 1, "icmpv6": 58}
OURS = f"ip ttl {{ {TTL - 1}, {TTL} }}"
OURS6 = f"ip6 hoplimit {{ {TTL - 1}, {TTL} }}"
PROBES = ("in", "through", "out", "refused")
ADMIN = f"""
table inet probe {{
{"".join(f"counter {name} {{ }}" + chr(10) for name in PROBES)}
chain input {{ type filter hook input priority 300; {OURS} counter name in; {OURS6} counter name in; }}
chain forward {{ type filter hook forward priority 300; {OURS} counter name through; {OURS6} counter name through; }}
chain output {{ type filter hook output priority 300; {OURS} counter name out; {OURS6} counter name out; }}
chain refusals {{
  type filter hook output priority -300
  icmp type destination-unreachable icmp code port-unreachable counter name refused
  icmpv6 type destination-unreachable icmpv6 code port-unreachable counter name refused
}}
}}
"""


def run(*argv: str, text: str | None = None) -> str:
    done = subprocess.run(argv, check=False, capture_output=True, text=True, timeout=20, input=text)
    assert done.returncode == 0, f"{argv}: {done.stderr}"
    return done.stdout


@dataclass
class Router:
    """`macs` and `wires` by device: the device's own address, and a packet socket on its other end."""

    macs: dict[str, str] = field(default_factory=dict)
    wires: dict[str, socket.socket] = field(default_factory=dict)

    def load(self, rules: str) -> None:
        """The rules under test, instead of those before. What they let out before is gone."""
        for wire in self.wires.values():
            while select.select([wire], [], [], 0)[0]:
                wire.recv(65535)
        run("nft", "flush", "ruleset")
        run("nft", "-f", "-", text=rules)
        run("nft", "-f", "-", text=ADMIN)

    def verdict(self, device: str, packet: bytes) -> str:
        """What becomes of a packet that comes in by a device; `_fw`: that the router sends."""
        before = self.counts()
        self.put(device, packet)
        after = self.counts()
        grown = {name for name in PROBES if after[name] > before[name]}
        if grown & {"in", "through", "out"}:
            return "accept"  # what follows is the host's answer: nobody listens there
        return "reject" if "refused" in grown else "drop"

    def put(self, device: str, packet: bytes) -> None:
        if device == "_fw":
            send(packet)
        else:
            kind = b"\x08\x00" if packet[0] >> 4 == 4 else b"\x86\xdd"
            self.wires[device].send(octets(self.macs[device]) + octets(NEIGHBOUR) + kind + packet)

    def passed(self, device: str, packets: Sequence[bytes]) -> int:
        """How many of these pass, one right behind the other: what a limit lets through must not wait for us."""
        before = self.counts()
        for one in packets:
            self.put(device, one)
        after = self.counts()
        return sum(after[name] - before[name] for name in ("in", "through", "out"))

    def counts(self) -> dict[str, int]:
        listed = json.loads(run("nft", "-j", "list", "counters", "table", "inet", "probe"))["nftables"]
        return {one["counter"]["name"]: one["counter"]["packets"] for one in listed if "counter" in one}

    def came_out(self, device: str) -> bytes | None:
        """The next packet of ours that left by a device, without its Ethernet header; None when there is none."""
        while select.select([self.wires[device]], [], [], 0.3)[0]:
            frame, address = self.wires[device].recvfrom(65535)
            hops = frame[22] if frame[12:14] == b"\x08\x00" else frame[21]
            if address[2] != socket.PACKET_OUTGOING and hops in (TTL, TTL - 1):
                return frame[14:]
        return None


def octets(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))


@contextmanager
def router(
    devices: Mapping[str, tuple[str, ...]], routes: Mapping[str, str], neighbours: Mapping[str, str]
) -> Iterator[Router]:
    """A router with these devices and their addresses; routes, prefix to device; hosts that are there, and behind which
    device. Needs root."""
    home = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    found = Router()
    outer = -1
    try:
        namespaces.unshare(namespaces.CLONE_NEWNET)
        outer = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        run("ip", "link", "set", "lo", "up")
        for number in range(len(devices)):
            run("ip", "link", "add", f"wire{number}", "type", "veth", "peer", "name", f"end{number}")
            run("ip", "link", "set", f"wire{number}", "up")
        namespaces.unshare(namespaces.CLONE_NEWNET)
        Path("/proc/sys/net/ipv4/conf/all/rp_filter").write_text("0")
        Path("/proc/sys/net/ipv4/conf/default/rp_filter").write_text("0")
        Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
        Path("/proc/sys/net/ipv6/conf/all/forwarding").write_text("1")
        Path("/proc/sys/net/ipv6/conf/default/accept_dad").write_text("0")
        Path("/proc/sys/net/ipv4/icmp_ratelimit").write_text("0")
        Path("/proc/sys/net/ipv6/icmp/ratelimit").write_text("0")
        run("ip", "link", "set", "lo", "up")
        inner = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        namespaces.join(Path(f"/proc/self/fd/{outer}"))
        for number, device in enumerate(devices):
            run("ip", "link", "set", f"end{number}", "name", device, "netns", f"/proc/{os.getpid()}/fd/{inner}")
            wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ALL_PROTOCOLS))
            wire.bind((f"wire{number}", ALL_PROTOCOLS))
            found.wires[device] = wire
        namespaces.join(Path(f"/proc/self/fd/{inner}"))
        os.close(inner)
        for device, addresses in devices.items():
            settle(found, device, addresses)
        for prefix, device in routes.items():
            run("ip", "route", "add", prefix, "dev", device)
        for address, device in neighbours.items():
            run("ip", "neigh", "add", address, "lladdr", NEIGHBOUR, "dev", device)
        yield found
    finally:
        namespaces.join(Path(f"/proc/self/fd/{home}"))
        for wire in found.wires.values():
            wire.close()
        for one in (home, outer):
            if one >= 0:
                os.close(one)


def settle(found: Router, device: str, addresses: tuple[str, ...]) -> None:
    found.macs[device] = f"02:00:00:00:01:{len(found.macs):02x}"
    run("ip", "link", "set", device, "address", found.macs[device], "up")
    for address in addresses:
        flags = ("nodad",) if ip_interface(address).version == 6 else ()
        run("ip", "addr", "add", address, "dev", device, *flags)


def send(packet: bytes) -> None:
    family = socket.AF_INET if packet[0] >> 4 == 4 else socket.AF_INET6
    target = ip_address(packet[16:20] if packet[0] >> 4 == 4 else packet[24:40])
    # That it is refused is seen by the counters.
    with suppress(PermissionError), socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
        raw.sendto(packet, (str(target), 0))


def packet(source: str, destination: str, service: str, *, own: int | None = None, flags: int = SYN) -> bytes:
    """An IP packet: `tcp/22`, `udp/53`, `icmp/8`, `icmpv6/128`, `gre`; from the port `own`.

    Without one it is of a connection that the kernel has not seen: it remembers them beyond the rules of a test.
    """
    own = next(FRESH) if own is None else own
    name, _, number = service.partition("/")
    kind, port = PROTOCOLS[name], int(number or 0)
    from_, to = ip_address(source), ip_address(destination)
    if name == "tcp":
        # MSS 1460, RFC 9293 3.2.
        body = struct.pack(
            "!HHIIBBHHH4s", own, port, 1, 2 if flags & ACK else 0, 0x60, flags, 4096, 0, 0, b"\x02\x04\x05\xb4"
        )
        at = 16
    elif name == "udp":
        body, at = struct.pack("!HHHH", own, port, 8, 0), 6
    elif name in ("icmp", "icmpv6"):
        body, at = struct.pack("!BBHHH", port, 0, 0, own, 1) + bytes(48), 2
    else:
        body, at = struct.pack("!HH", 0, 0x0800) + bytes(28), None
    if at is not None:
        pseudo = b"" if name == "icmp" else from_.packed + to.packed + struct.pack("!IxxxB", len(body), kind)
        body = body[:at] + struct.pack("!H", checksum(pseudo + body)) + body[at + 2 :]
    return header(from_, to, kind, len(body)) + body


def header(source: IPv4Address | IPv6Address, destination: IPv4Address | IPv6Address, kind: int, length: int) -> bytes:
    if source.version == 6:
        return struct.pack("!IHBB", 0x60000000, length, kind, TTL) + source.packed + destination.packed
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + length, 0, 0, TTL, kind, 0) + source.packed + destination.packed
    return head[:10] + struct.pack("!H", checksum(head)) + head[12:]


def checksum(data: bytes) -> int:
    data += b"\x00" * (len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
