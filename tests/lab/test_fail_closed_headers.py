"""What the packets of a direct path look like on their way: GRE as it enters ESP, and ESP as the WAN sees it."""

import os
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
from fail_closed_lab import direct, flowing, settle, small_lab

from dmvpn.errors import Fault
from dmvpn.lab.running import Lab

pytestmark = [pytest.mark.kernel, pytest.mark.lab]

CLOUD_TTL = 33  # of fail_closed.yaml
ICMP, UDP, GRE = 1, 17, 47
GRE_WITH_KEY_OCTETS = 8
ALL_PROTOCOLS = 0x0003  # linux/if_ether.h
LOOK_LIMIT_S = 10.0


@dataclass(frozen=True, slots=True)
class Header:
    tos: int
    ttl: int
    protocol: int
    fragmentable: bool
    payload: bytes

    @classmethod
    def of(cls, octets: bytes) -> "Header":
        length = (octets[0] & 0x0F) * 4
        return cls(octets[1], octets[8], octets[9], not octets[6] & 0x40, octets[length:])


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with small_lab("headers") as lab, flowing(lab, "east-pc", "west-pc") as flow:
        settle(flow, direct, "a direct path")
        yield lab


def look(device: str, protocol: int, inner_tos: int | None) -> Header:
    """The first outgoing packet of this protocol; with `inner_tos` the first one that carries such an ICMP in GRE."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ALL_PROTOCOLS)) as port:
        port.bind((device, ALL_PROTOCOLS))
        port.settimeout(1.0)
        end = time.monotonic() + LOOK_LIMIT_S
        while time.monotonic() < end:
            octets, (_, _, kind, *_) = port.recvfrom(2048)
            if kind != socket.PACKET_OUTGOING or octets[0] >> 4 != 4:
                continue
            header = Header.of(octets)
            if header.protocol != protocol:
                continue
            if inner_tos is None:
                return header
            inner = Header.of(header.payload[GRE_WITH_KEY_OCTETS:]) if header.payload[2:4] == b"\x08\0" else None
            if inner is not None and (inner.protocol, inner.tos) == (ICMP, inner_tos):
                return header
    raise Fault(device, f"nothing of the kind within {LOOK_LIMIT_S:g} s")


@pytest.mark.parametrize("tos", [0x00, 0xB8, 0x02, 0xFC], ids=hex)
def test_gre_inherits_the_tos_and_has_the_ttl_of_the_file(lab: Lab, tos: int) -> None:
    with Path(os.devnull).open("wb") as nothing:
        ping = lab.node("east-pc").start(("ping", "-Q", str(tos), "-i", "0.05", lab.hosts["west-pc"]), stdout=nothing)
        try:
            seen = lab.node("east").call(partial(look, "ipsec0", GRE, tos))
        finally:
            ping.stop()
    assert (seen.tos, seen.ttl) == (tos, CLOUD_TTL)


def test_the_wan_sees_esp_in_udp_with_a_ttl_of_its_own(lab: Lab) -> None:
    """Hosts' TTLs and the cloud's stay inside; the outer packet may cross as many routers as any."""
    seen = lab.node("east").call(partial(look, "eth0", UDP, None))
    assert seen.payload[2:4] == (4500).to_bytes(2, "big")
    assert seen.ttl == 64
