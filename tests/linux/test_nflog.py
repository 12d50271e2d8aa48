import os
import select
import shutil
import subprocess
from collections.abc import Callable
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from dmvpn.linux.nflog import LoggedPackets, decode

Run = Callable[..., str]


RULES = """
table inet hairpin {
  chain forward {
    type filter hook forward priority 0
    iifname "tap0" oifname "tap0" log group 5 snaplen 128
  }
}
"""


def ipv4(source: str, destination: str, payload: bytes) -> bytes:
    header = bytearray(20)
    header[0], header[8], header[9] = 0x45, 64, 17
    header[2:4] = (20 + len(payload)).to_bytes(2, "big")
    header[12:16], header[16:20] = IPv4Address(source).packed, IPv4Address(destination).packed
    total = sum(int.from_bytes(header[at : at + 2], "big") for at in range(0, 20, 2))
    header[10:12] = (0xFFFF - (total % 0xFFFF)).to_bytes(2, "big")
    return bytes(header) + payload


@pytest.mark.kernel
def test_a_hairpin_is_told_with_its_sender(tap: str, open_tap: Callable[[str], int]) -> None:
    if shutil.which("nft") is None:
        pytest.skip("no nft (package nftables)")
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
    subprocess.run(("nft", "-f", "-"), input=RULES, text=True, check=True, timeout=20)
    queue = open_tap(tap)
    packets = LoggedPackets(5)
    assert packets.read() == ()
    packet = ipv4("10.255.1.12", "10.255.1.13", bytes(8) + b"." * 400)
    os.write(queue, bytes.fromhex("02006440000b 02006440000c 0800") + packet)
    assert select.select([packets], [], [], 5)[0]
    (logged,) = packets.read()
    assert logged.sender == IPv4Address("100.64.0.12")
    assert logged.device == tap
    assert len(logged.head) == 128
    assert logged.head[12:20] == packet[12:20]
    assert (packets.overflows, packets.malformed) == (0, 0)
    packets.close()
    os.close(queue)


def test_a_record_without_a_packet_is_no_packet() -> None:
    assert decode(b"\x02\x00\x00\x05") is None
    assert decode(b"") is None
