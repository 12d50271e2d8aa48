"""Captures inside a node, and what was on the wire: packets of a capture file counted by what an outsider sees."""

import os
import select
import struct
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from dmvpn.errors import Fault
from dmvpn.lab.node import LabNode, Running
from dmvpn.linux import process
from dmvpn.linux.pace import patience

_START_LIMIT_S = 10.0
_LARGEST_RECORD_OCTETS = 1 << 18
_MAGIC: Final = {b"\xd4\xc3\xb2\xa1": "<", b"\x4d\x3c\xb2\xa1": "<", b"\xa1\xb2\xc3\xd4": ">", b"\xa1\xb2\x3c\x4d": ">"}
# pcap-linktype(7): octets before the network header, and where the EtherType lies in them.
_LINKS: Final = {1: (14, 12), 113: (16, 14), 276: (20, 0)}
IKE_PORT: Final = 500
NAT_PORTS: Final = frozenset({4500, 24500})  # 24500: what the lab's port-moving NAT makes of 4500
_IPV4, _IPV6 = 0x0800, 0x86DD
_PROTOCOLS: Final = {1: "icmp", 6: "tcp", 47: "gre_in_clear", 50: "esp", 58: "icmp"}
_UDP = 17


KINDS = ("total", "esp_in_udp", "ike", "keepalive", "esp", "gre_in_clear", "icmp", "tcp", "udp", "other")


@dataclass(slots=True)
class Capture:
    """A capture that runs until `stop`."""

    running: Running
    output: IO[bytes]

    def stop(self) -> int:
        """Ends it; the file is whole then."""
        return self.running.stop()

    def counted(self) -> Counter[str]:
        """Ends it, and counts what is in the file; the file is closed then."""
        self.stop()
        with self.output:
            return count(Path(f"/proc/self/fd/{self.output.fileno()}"))


def in_memory() -> IO[bytes]:
    """A file for a capture that is only counted: it has no name, so nothing of it can stay behind."""
    return os.fdopen(os.memfd_create("capture"), "wb")


def start(node: LabNode, device: str, output: IO[bytes], *, arriving: str = "") -> Capture:
    """Writes pcap to `output`, an open file of the caller's. `arriving` "in" counts a forwarded packet once.

    Returns when tcpdump listens. Raises Fault with its words if it cannot.
    """
    process.find("tcpdump")
    read, write = _pipe()
    direction = ("-Q", arriving) if arriving else ()
    # Immediate mode and -U: a packet is in the file when it was seen, not a second later, when we may have ended it.
    # -Z root: as its own user it could not write where root may.
    argv = ("tcpdump", "-i", device, *direction, "--immediate-mode", "-n", "-U", "-s", "192", "-B", "8192")
    argv += ("-Z", "root", "-w", "-")
    running = node.start(argv, stdout=output, stderr=write)
    write.close()
    said = b""
    with read:
        while b"listening on" not in said:
            octets = read.read(4096) if select.select([read], [], [], patience(_START_LIMIT_S))[0] else b""
            if not octets:
                running.stop()
                raise Fault(node.name, f"tcpdump on {device}: {process.shown(said) or 'did not start'}")
            said += octets
    return Capture(running, output)


def _pipe() -> tuple[IO[bytes], IO[bytes]]:
    reader, writer = os.pipe()
    return os.fdopen(reader, "rb", buffering=0), os.fdopen(writer, "wb", buffering=0)


def count(path: Path) -> Counter[str]:
    """Packets by kind, each of KINDS with a figure.

    Raises Fault for a file that is not pcap, or is cut short in the middle of a record.
    """
    kinds: Counter[str] = Counter(dict.fromkeys(KINDS, 0))
    for packet in _network_packets(path):
        kinds[_kind(packet)] += 1
        kinds["total"] += 1
    return kinds


def _network_packets(path: Path) -> Iterator[tuple[int, bytes]]:
    """EtherType and octets from the network header on."""
    with path.open("rb") as file:
        head = file.read(24)
        order = _MAGIC.get(head[:4])
        if order is None or len(head) < 24:
            raise Fault(str(path), "is not a pcap file")
        (link,) = struct.unpack(f"{order}I", head[20:24])
        if link & 0xFFFF not in _LINKS:
            raise Fault(str(path), f"has link type {link}", "capture on Ethernet or on any")
        skip, at = _LINKS[link & 0xFFFF]
        while record := file.read(16):
            length = struct.unpack(f"{order}I", record[8:12])[0] if len(record) == 16 else _LARGEST_RECORD_OCTETS + 1
            octets = file.read(length) if length <= _LARGEST_RECORD_OCTETS else b""
            if len(octets) != length:
                raise Fault(str(path), "ends in the middle of a packet")
            if len(octets) >= skip:
                yield struct.unpack_from("!H", octets, at)[0], octets[skip:]


def _kind(packet: tuple[int, bytes]) -> str:
    ethertype, octets = packet
    if ethertype == _IPV4 and len(octets) >= 20:
        protocol, payload = octets[9], octets[(octets[0] & 0x0F) * 4 :]
    elif ethertype == _IPV6 and len(octets) >= 40:
        protocol, payload = octets[6], octets[40:]
    else:
        return "other"
    return _udp_kind(payload) if protocol == _UDP else _PROTOCOLS.get(protocol, "other")


def _udp_kind(payload: bytes) -> str:
    """RFC 3948: on the NAT-T port four zero octets mark IKE, a lone 0xff is a keepalive, the rest is ESP."""
    if len(payload) < 8:
        return "udp"
    source, destination = struct.unpack_from("!HH", payload)
    content = payload[8:]
    if IKE_PORT in (source, destination):
        return "ike"
    if not NAT_PORTS & {source, destination}:
        return "udp"
    if int.from_bytes(payload[4:6], "big") == 9 and content[:1] == b"\xff":  # a padded frame has more octets than UDP
        return "keepalive"
    return "ike" if content[:4] == bytes(4) else "esp_in_udp"
