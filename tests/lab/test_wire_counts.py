"""What a WAN capture shows an outsider: packets of capture files by kind."""

import struct
from pathlib import Path

import pytest

from dmvpn.errors import Fault
from dmvpn.lab.capture import count

ETHERNET, COOKED, COOKED_2 = 1, 113, 276


def ipv4(protocol: int, payload: bytes) -> bytes:
    return struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(payload), 0, 0, 64, protocol, 0, bytes(4), bytes(4)) + payload


def udp(source: int, destination: int, content: bytes) -> bytes:
    return ipv4(17, struct.pack("!HHHH", source, destination, 8 + len(content), 0) + content)


def frame(link: int, packet: bytes, ethertype: int = 0x0800) -> bytes:
    head = {
        ETHERNET: bytes(12) + struct.pack("!H", ethertype),
        COOKED: bytes(14) + struct.pack("!H", ethertype),
        COOKED_2: struct.pack("!H", ethertype) + bytes(18),
    }
    return head[link] + packet


def capture(path: Path, link: int, frames: list[bytes], order: str = "<") -> Path:
    octets = struct.pack(f"{order}IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, link)
    for one in frames:
        octets += struct.pack(f"{order}IIII", 0, 0, len(one), len(one)) + one
    path.write_bytes(octets)
    return path


@pytest.mark.parametrize(
    ("packet", "kind"),
    [
        pytest.param(udp(4500, 4500, b"\xc0\xff\xee\x01" + bytes(40)), "esp_in_udp", id="an SPI first"),
        pytest.param(udp(24500, 4500, b"\xc0\xff\xee\x01" + bytes(40)), "esp_in_udp", id="a port the NAT moved"),
        pytest.param(udp(4500, 4500, bytes(4) + bytes(28)), "ike", id="the non-ESP marker"),
        pytest.param(udp(500, 500, b"\x01" * 28), "ike", id="port 500"),
        pytest.param(udp(4500, 4500, b"\xff") + bytes(17), "keepalive", id="a keepalive, padded by Ethernet"),
        pytest.param(udp(4500, 4500, b"\xff\x00\x00\x01" + bytes(40)), "esp_in_udp", id="an SPI like a keepalive"),
        pytest.param(ipv4(47, bytes(4)), "gre_in_clear", id="GRE"),
        pytest.param(ipv4(50, bytes(40)), "esp", id="ESP without UDP"),
        pytest.param(ipv4(1, bytes(8)), "icmp", id="ICMP"),
        pytest.param(udp(53, 5353, bytes(20)), "udp", id="other UDP"),
        pytest.param(udp(1, 2, b"")[:22], "udp", id="UDP cut short"),
        pytest.param(b"\x45", "other", id="IPv4 cut short"),
    ],
)
@pytest.mark.parametrize("link", [ETHERNET, COOKED, COOKED_2])
def test_a_packet_is_counted_by_what_it_shows(tmp_path: Path, link: int, packet: bytes, kind: str) -> None:
    counted = count(capture(tmp_path / "a.pcap", link, [frame(link, packet)]))
    assert (counted[kind], counted["total"]) == (1, 1)


def test_ipv6_is_read_as_well_and_arp_is_other(tmp_path: Path) -> None:
    gre_in_ipv6 = struct.pack("!IHBB", 0x60000000, 4, 47, 64) + bytes(32) + bytes(4)
    frames = [frame(ETHERNET, gre_in_ipv6, 0x86DD), frame(ETHERNET, bytes(28), 0x0806)]
    counted = count(capture(tmp_path / "a.pcap", ETHERNET, frames, order=">"))
    assert (counted["gre_in_clear"], counted["other"]) == (1, 1)


@pytest.mark.parametrize(
    ("octets", "fault"),
    [
        pytest.param(b"", "is not a pcap file", id="empty"),
        pytest.param(b"GIF89a" + bytes(30), "is not a pcap file", id="something else"),
        pytest.param(
            struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 147),
            "has link type 147; capture on Ethernet or on any",
            id="a link nobody has here",
        ),
        pytest.param(
            struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1) + struct.pack("<IIII", 0, 0, 60, 60) + b"x",
            "ends in the middle of a packet",
            id="cut short",
        ),
        pytest.param(
            struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1) + struct.pack("<IIII", 0, 0, 1 << 31, 60),
            "ends in the middle of a packet",
            id="a length that lies",
        ),
    ],
)
def test_a_file_that_is_no_capture_is_refused(tmp_path: Path, octets: bytes, fault: str) -> None:
    path = tmp_path / "a.pcap"
    path.write_bytes(octets)
    with pytest.raises(Fault) as caught:
        count(path)
    assert str(caught.value) == f"{path}: {fault}"
