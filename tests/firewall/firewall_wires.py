"""A router's rules between real devices: packets with a number each, and what became of every one of them.

The router's namespace has a device for each of the Plan's, the other ends are in a second one. A packet's number is in
its IPv4 identification or IPv6 flow label, so it is known again wherever it comes out: on the wire, in the router
itself (a set of a table of the test's own, behind the policy), or inside an ICMP error.
"""

import contextlib
import json
import os
import select
import socket
import struct
import subprocess
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

from dmvpn.firewall.ruleset import State
from dmvpn.firewall.verdicts import Packet
from dmvpn.linux import namespaces

ETH_P_ALL, ETH_P_IP, ETH_P_ARP, ETH_P_IPV6 = 3, 0x0800, 0x0806, 0x86DD
ROUTER_MAC, HOST_MAC = bytes.fromhex("02000000aa00"), bytes.fromhex("02000000bb00")
TCP, UDP, ICMP, ICMPV6, GRE = 6, 17, 1, 58, 47
SYN, SYN_ACK = 0x02, 0x12
QUIET_S = 0.1  # nothing more comes once nothing came for so long, and the fences are back
FENCE_S = 10.0
SOURCE_PORT = 20000
HOSTS = 30  # behind each device
SO_RCVBUFFORCE = 33  # asm-generic/socket.h

# Marks who got past the policy: its chains stand behind the policy's, and conntrack sees everything.
WITNESS = """
table inet witness {
    set in4 { typeof ip id; size 65535; flags dynamic; }
    set in6 { typeof ip6 flowlabel; size 65535; flags dynamic; }
    chain input {
        type filter hook input priority 300; policy accept;
        add @in4 { ip id }
        add @in6 { ip6 flowlabel }
    }
    chain tracked { type filter hook prerouting priority 0; policy accept; ct state new accept; }
    chain sent { type filter hook output priority 0; policy accept; ct state new accept; }
}
"""


def run(*argv: str, text: str | None = None) -> str:
    done = subprocess.run(argv, input=text, check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, f"{' '.join(argv)}: {done.stderr or done.stdout}"
    return done.stdout


@dataclass(frozen=True)
class Port:
    """A device of the router: its own addresses, and those of a first host behind it; others follow that one."""

    device: str
    own: tuple[IPv4Address, IPv6Address]
    host: tuple[IPv4Address, IPv6Address]
    group: int = 0


@dataclass(frozen=True)
class Fate:
    """Where a packet came out, if anywhere: a device, or "router". `refused`: the sender got an ICMP error."""

    out: str | None
    refused: bool


class Wires:
    """A router with devices, and sockets on the other ends. Close it."""

    def __init__(self, tag: str, ports: Iterable[Port]) -> None:
        self.ports = {port.device: port for port in ports}
        self.router, self.outside = f"{tag}-router", f"{tag}-outside"
        self.sockets: dict[str, socket.socket] = {}
        self.raw: dict[int, socket.socket] = {}
        self.identities: dict[int, tuple[int, int]] = {}
        run("ip", "netns", "add", self.router)
        run("ip", "netns", "add", self.outside)
        self._sysctls()
        for port in self.ports.values():
            self._wire(port)
        self.nft(WITNESS)
        with self.within(self.outside):
            for device in self.ports:
                opened = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
                opened.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 1 << 23)
                opened.bind((device, ETH_P_ALL))
                opened.setblocking(False)  # noqa: FBT003
                self.sockets[device] = opened
        with self.within(self.router):
            self.raw[4] = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
            self.raw[6] = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_RAW)

    def close(self) -> None:
        for one in (*self.sockets.values(), *self.raw.values()):
            one.close()
        for name in (self.router, self.outside):
            run("ip", "netns", "del", name)

    def nft(self, text: str) -> None:
        run("ip", "netns", "exec", self.router, "nft", "-f", "-", text=text)

    @contextlib.contextmanager
    def within(self, name: str) -> Iterator[None]:
        home = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            namespaces.join(Path("/run/netns") / name)
            yield
        finally:
            namespaces.join(Path(f"/proc/self/fd/{home}"))
            os.close(home)

    def _sysctls(self) -> None:
        values = {
            "net.ipv4.ip_forward": 1,
            "net.ipv6.conf.all.forwarding": 1,
            "net.ipv4.conf.all.rp_filter": 0,
            "net.ipv4.conf.default.rp_filter": 0,
            "net.ipv6.conf.default.accept_dad": 0,
            "net.ipv4.icmp_ratelimit": 0,
            "net.ipv6.icmp.ratelimit": 0,
            "net.ipv4.conf.all.send_redirects": 0,
            "net.ipv4.conf.default.send_redirects": 0,
        }
        with self.within(self.router):
            for name, value in values.items():
                Path("/proc/sys", *name.split(".")).write_text(str(value))
            with contextlib.suppress(OSError):  # one for the machine before Linux 6.11
                Path("/proc/sys/net/ipv4/icmp_msgs_per_sec").write_text("1000000")
                Path("/proc/sys/net/ipv4/icmp_msgs_burst").write_text("1000000")
        with self.within(self.outside):
            Path("/proc/sys/net/ipv6/conf/default/disable_ipv6").write_text("1")
            Path("/proc/sys/net/ipv4/conf/default/arp_ignore").write_text("8")

    def _wire(self, port: Port) -> None:
        run(
            *("ip", "link", "add", port.device, "netns", self.router, "address", ROUTER_MAC.hex(":"), "type", "veth"),
            *("peer", "name", port.device, "netns", self.outside, "address", HOST_MAC.hex(":")),
        )
        run("ip", "-n", self.outside, "link", "set", port.device, "up")
        lines = [f"link set {port.device} group {port.group} up"]
        for own, host in zip(port.own, port.host, strict=True):
            length = 32 if own.version == 4 else 128
            lines.append(f"addr add {own}/{length} dev {port.device}")
            for other in range(HOSTS):
                lines.append(f"route add {host + other}/{length} dev {port.device}")
                lines.append(f"neigh add {host + other} lladdr {HOST_MAC.hex(':')} dev {port.device} nud permanent")
        run("ip", "-n", self.router, "-batch", "-", text="\n".join(lines) + "\n")

    # ------------------------------------------------------------ packets

    def prime(self, packets: Iterable[tuple[int, Packet]]) -> None:
        """Let connection tracking know those that are to be answers: send what they answer, the other way round."""
        for number, packet in packets:
            if packet.state is State.ESTABLISHED:
                self._send(octets_of(number, reversed_of(packet), answer=False), packet.device_out, packet.destination)
        self.collect()

    def send(self, packets: Iterable[tuple[int, Packet]]) -> dict[int, Fate]:
        """Send all, and say what became of each."""
        numbers = []
        for number, packet in packets:
            octets = octets_of(number, packet, answer=packet.state is State.ESTABLISHED)
            self.identities[number] = identity_of(octets)
            self._send(octets, packet.device_in, packet.destination)
            numbers.append(number)
        out, refused = self.collect()
        out |= dict.fromkeys(self._arrived(), "router")
        return {number: Fate(out.get(number), number in refused) for number in numbers}

    def _send(self, octets: bytes, device: str | None, destination: IPv4Address | IPv6Address) -> None:
        if device is None:
            with contextlib.suppress(PermissionError):  # dropped on its way out
                self.raw[destination.version].sendto(octets, (str(destination), 0))
            return
        kind = ETH_P_IP if octets[0] >> 4 == 4 else ETH_P_IPV6
        self.sockets[device].send(ROUTER_MAC + HOST_MAC + kind.to_bytes(2, "big") + octets)

    def collect(self) -> tuple[dict[int, str], set[int]]:
        """Where numbers came out, and which were refused by an ICMP error; until all is quiet."""
        out: dict[int, str] = {}
        refused: set[int] = set()
        names = {one: device for device, one in self.sockets.items()}
        fences = set(self.sockets)
        for device, one in self.sockets.items():
            one.send(self._fence(device))
        deadline = time.monotonic() + FENCE_S
        while True:
            ready = select.select(list(names), (), (), QUIET_S)[0]
            if not ready and (not fences or time.monotonic() > deadline):
                break
            for one in ready:
                with contextlib.suppress(BlockingIOError):
                    while True:
                        frame, address = one.recvfrom(2048)
                        if address[2] == socket.PACKET_OUTGOING:
                            continue
                        if address[1] == ETH_P_ARP:
                            fences.discard(names[one])
                            continue
                        error = _refused(frame[14:])
                        if error is not None:
                            refused.add(error)
                            continue
                        number = number_of(frame[14:])
                        # The router's own answers have numbers too, at random or none: its ICMP errors have no
                        # identifier, as what has no ports has none, so the protocol is a part of who it is.
                        if number and self.identities.get(number) == identity_of(frame[14:]):
                            out[number] = names[one]
        assert not fences, f"the router does not answer on {fences}"
        return out, refused

    def _fence(self, device: str) -> bytes:
        """An ARP request: it is answered after what was sent before it was dealt with, and no rule of ours sees it."""
        port = self.ports[device]
        asked = HOST_MAC + port.host[0].packed + bytes(6) + port.own[0].packed
        return b"\xff" * 6 + HOST_MAC + struct.pack("!HHHBBH", ETH_P_ARP, 1, ETH_P_IP, 6, 4, 1) + asked

    def _arrived(self) -> set[int]:
        found: set[int] = set()
        for name in ("in4", "in6"):
            text = run("ip", "netns", "exec", self.router, "nft", "-j", "list", "set", "inet", "witness", name)
            for one in json.loads(text)["nftables"]:
                found |= {int(element) for element in one.get("set", {}).get("elem", ())}
        return found

    def counters(self, table: str) -> dict[str, int]:
        text = run("ip", "netns", "exec", self.router, "nft", "-j", "list", "counters", "table", "inet", table)
        found = (one["counter"] for one in json.loads(text)["nftables"] if "counter" in one)
        return {one["name"]: one["packets"] for one in found}


# ---------------------------------------------------------------- octets


def reversed_of(packet: Packet) -> Packet:
    return Packet(
        device_in=packet.device_out,
        device_out=packet.device_in,
        source=packet.destination,
        destination=packet.source,
        protocol=packet.protocol,
        port=packet.source_port,
        source_port=packet.port,
        type=packet.type,
    )


def octets_of(number: int, packet: Packet, *, answer: bool) -> bytes:
    """An IP packet that carries its number. An answer has the flags or type that the protocol answers with."""
    source, destination = packet.source.packed, packet.destination.packed
    body = _body(number, packet, answer=answer)
    if packet.protocol != GRE:
        # The kernel takes the sum of whatever it refuses, as if every protocol had one.
        pseudo = source + destination + struct.pack("!II", len(body), packet.protocol)
        where = {TCP: 16, UDP: 6, ICMP: 2, ICMPV6: 2}.get(packet.protocol, 8)
        bare = packet.source.version == 4 and packet.protocol not in (TCP, UDP)
        sum_ = _checksum((b"" if bare else pseudo) + body)
        body = body[:where] + sum_.to_bytes(2, "big") + body[where + 2 :]
    if packet.source.version == 6:
        first = 6 << 28 | number
        return struct.pack("!IHBB", first, len(body), packet.protocol, 64) + source + destination + body
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(body), number, 0x4000, 64, packet.protocol, 0)
    sum_ = _checksum(head + source + destination)
    return head[:10] + sum_.to_bytes(2, "big") + source + destination + body


def _body(number: int, packet: Packet, *, answer: bool) -> bytes:
    source_port = packet.source_port or SOURCE_PORT
    port = packet.port or 0
    match packet.protocol:
        case 6:
            flags = 0 if packet.state is State.INVALID else SYN_ACK if answer else SYN
            return struct.pack("!HHIIBBHHH", source_port, port, 1000, 1001 if answer else 0, 0x50, flags, 8192, 0, 0)
        case 17:
            return struct.pack("!HHHH", source_port, port, 12, 0) + b"test"
        case 1 | 58:
            kind = packet.type or 0
            if answer:
                kind = {8: 0, 128: 129}[kind]
            return struct.pack("!BBHHH", kind, 0, 0, number & 0xFFFF, 1) + b"test" * 8
        case 47:
            return bytes.fromhex("20002001") + number.to_bytes(4, "big")
        case _:
            return number.to_bytes(8, "big") + b"\0\0"


def _checksum(octets: bytes) -> int:
    octets += b"\0" * (len(octets) % 2)
    total = sum(struct.unpack(f"!{len(octets) // 2}H", octets))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def number_of(packet: bytes) -> int:
    """The number in an IP header; 0 for what carries none."""
    if len(packet) < 20:
        return 0
    if packet[0] >> 4 == 4:
        return int.from_bytes(packet[4:6], "big")
    return int.from_bytes(packet[0:4], "big") & 0xFFFFF


def identity_of(packet: bytes) -> tuple[int, int]:
    """What NAT leaves alone: the protocol, and the source port or ICMP's identifier, 0 where there is none."""
    if len(packet) < 48:
        packet = packet.ljust(48, b"\0")
    head, protocol = (20, packet[9]) if packet[0] >> 4 == 4 else (40, packet[6])
    where = {TCP: head, UDP: head, ICMP: head + 4, ICMPV6: head + 4}.get(protocol)
    return protocol, 0 if where is None else int.from_bytes(packet[where : where + 2], "big")


def _refused(packet: bytes) -> int | None:
    """The number of the packet inside an ICMP error: port unreachable, as `reject` answers."""
    if packet[0] >> 4 == 4 and packet[9] == ICMP and packet[20:22] == bytes((3, 3)):
        return number_of(packet[28:])
    if packet[0] >> 4 == 6 and packet[6] == ICMPV6 and packet[40:42] == bytes((1, 4)):
        return number_of(packet[48:])
    return None
