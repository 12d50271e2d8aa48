"""Every kind of packet that the engine sends, from whole networks in virtual time, and the same as a capture file."""

import struct
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Network, ip_address, ip_network
from typing import Any

import pytest
import simulation
from simulation import Simulation

from dmvpn.nhrp.checksum import checksum
from dmvpn.nhrp.events import Egress, Received, RouteChanged, RouteGone
from dmvpn.nhrp.extensions import Unknown
from dmvpn.nhrp.numbers import GRE_PROTOCOL, Kind
from dmvpn.nhrp.packet import Packet, decode

LINKTYPE_RAW = 101
IP_GRE = 47
KEYED = 0x2000
KEY = 42
STEP_S = 20.0


def overlay_in_ipv6(patch: pytest.MonkeyPatch) -> None:
    """The simulated network with IPv6 inside, the tunnels over IPv4 as before."""
    patch.setattr(simulation, "OVERLAY", ip_network("2001:db8:ff::/64"))
    patch.setattr(simulation, "INTERNAL", ip_network("2001:db8::/32"))
    patch.setattr(simulation, "overlay_of", lambda number: ip_address(f"2001:db8:ff::{number:x}"))
    patch.setattr(simulation, "lan_of", lambda number: IPv6Network(f"2001:db8:{number:x}::/48"))
    patch.setattr(simulation, "host_of", lambda number: simulation.lan_of(number)[10])


def whole_heads(patch: pytest.MonkeyPatch) -> None:
    """What makes a hub indicate is the head of a real packet: an oracle reads that too."""
    patch.setattr(simulation, "_ipv4", lambda source, destination: _udp(source, destination))


def _udp(source: Any, destination: Any) -> bytes:
    """IP and UDP without data."""
    addresses = source.packed + destination.packed
    udp = struct.pack(">HHHH", 5000, 7, 8, 0)
    pseudo = addresses + struct.pack(">II", len(udp), 17)
    udp = udp[:6] + checksum(pseudo + udp).to_bytes(2, "big")
    if source.version == 6:
        return struct.pack(">IHBB", 6 << 28, len(udp), 17, 64) + addresses + udp
    head = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0) + addresses
    return head[:10] + checksum(head).to_bytes(2, "big") + head[12:] + udp


def sent_by_a_network(**settings: Any) -> dict[bytes, tuple[IPv4Address, IPv4Address]]:
    """Each different PDU of two hubs and three spokes, with who sent it to whom."""
    network = Simulation(11, hubs=2, spokes=3, **settings)
    hub, one, other = network.by_number[1], network.by_number[11], network.by_number[12]
    network.start()
    network.run(STEP_S)
    network.flow(11, 12, 5.0)
    network.flow(12, 13, 5.0)
    # What an operator's fault and a stranger's packet bring out: no route, an unknown extension, a network that moves.
    network.packet(simulation.host_of(11), simulation.lan_of(12)[10])
    request = next(decode(send.octets) for _at, send in one.sent if decode(send.octets).kind is Kind.RESOLUTION_REQUEST)
    for asked in _troubles(request):
        network.tell(hub, Received(asked.encode(), one.nbma))
        network.run(1.0)
    network.tell(other, RouteGone(simulation.lan_of(12)))
    away = RouteChanged(simulation.lan_of(12), Egress.OVERLAY, simulation.overlay_of(1), simulation.DEVICE)
    network.tell(other, away)
    network.run(STEP_S)
    return {send.octets: (node.nbma, send.nbma) for node in network.nodes.values() for _at, send in node.sent}


def _troubles(request: Packet) -> tuple[Packet, ...]:
    strange = Unknown(0x1ABC, compulsory=True, value=b"?")
    nowhere = simulation.overlay_of(200)
    return (
        replace(request, request_id=1, destination_protocol=nowhere),
        replace(request, request_id=2, hop_count=0, destination_protocol=nowhere),
        replace(request, request_id=3, destination_protocol=simulation.overlay_of(1)).with_extension(strange),
        replace(request, request_id=4, flags=0, destination_protocol=simulation.overlay_of(12)),
        request.without_extension(type(request.extensions[-1])),
    )


def in_gre(octets: bytes, source: IPv4Address, destination: IPv4Address) -> bytes:
    """IPv4, GRE with a key, and the PDU."""
    inner = struct.pack(">HHI", KEYED, GRE_PROTOCOL, KEY) + octets
    head = struct.pack(">BBHHHBBH", 0x45, 0xC0, 20 + len(inner), 0, 0, 255, IP_GRE, 0)
    head += source.packed + destination.packed
    return head[:10] + checksum(head).to_bytes(2, "big") + head[12:] + inner


def pcap(packets: list[bytes]) -> bytes:
    octets = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, LINKTYPE_RAW)
    for number, packet in enumerate(packets):
        octets += struct.pack("<IIII", number, 0, len(packet), len(packet)) + packet
    return octets
