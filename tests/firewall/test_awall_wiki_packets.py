"""The wiki's seven policies, mended: the verdicts of real packets."""

import os
from collections.abc import Iterator
from pathlib import Path

import kernel_verdicts as kernel
import pytest

from dmvpn.operations import policies

pytestmark = pytest.mark.kernel

MENDED = Path(__file__).parent / "mended"
DEVICES = {
    "bond0.8": ("10.1.8.1/24", "fd00:1:8::1/64"),
    "bond0.64": ("10.1.64.1/24", "fd00:1:64::1/64"),
    "bond0.256": ("192.0.2.2/24", "2001:db8:1::2/64"),
    "bond0.257": ("198.51.100.2/24",),
    "gre1": ("10.255.1.11/24", "fd00:255:1::11/64"),
    "tun0": ("172.16.0.1/24",),
}
ROUTES = {"10.2.0.0/16": "gre1", "fd00:2::/32": "gre1", "10.9.0.0/16": "bond0.256", "203.0.113.0/24": "bond0.256"}
LAN, DMZ, ISP1, ISP2, VPN, ROAD = DEVICES
US = {device: addresses[0].partition("/")[0] for device, addresses in DEVICES.items()}
WORLD = "203.0.113.77"


@pytest.fixture(scope="module")
def wiki_router() -> Iterator[kernel.Router]:
    if os.geteuid() != 0:
        pytest.skip("network namespaces need root")
    with kernel.router(DEVICES, ROUTES, {WORLD: ISP1, "10.1.8.7": LAN}) as found:
        yield found


@pytest.fixture
def loaded(wiki_router: kernel.Router) -> kernel.Router:
    wiki_router.load(policies.compile_folder(MENDED)[0])
    return wiki_router


PACKETS = [
    # from the Internet to the router
    (ISP1, WORLD, US[ISP1], "icmp/8", "accept"),
    (ISP1, WORLD, US[ISP1], "tcp/22", "accept"),
    (ISP2, WORLD, US[ISP2], "tcp/443", "accept"),
    (ISP1, WORLD, US[ISP1], "tcp/80", "drop"),
    (ISP1, WORLD, US[ISP1], "udp/53", "drop"),
    (ISP1, WORLD, US[ISP1], "udp/500", "accept"),
    (ISP1, WORLD, US[ISP1], "udp/4500", "accept"),
    (ISP2, WORLD, US[ISP2], "esp", "accept"),
    (ISP1, WORLD, US[ISP1], "udp/1194", "accept"),
    (ISP1, WORLD, US[ISP1], "gre", "drop"),  # in clear: only what came out of ESP is let in
    (ISP1, WORLD, US[ISP1], "ospf", "drop"),
    (ISP1, "2001:db8:1::9", "2001:db8:1::2", "icmpv6/128", "accept"),
    (ISP1, "2001:db8:1::9", "2001:db8:1::2", "tcp/80", "drop"),
    # from the Internet to hosts behind it
    (ISP1, WORLD, "10.1.8.7", "icmp/8", "drop"),
    (ISP1, WORLD, "10.1.64.7", "tcp/22", "drop"),
    (ISP1, "2001:db8:1::9", "fd00:1:8::7", "icmpv6/128", "drop"),
    (ISP1, WORLD, "10.1.8.7", "icmp/3", "accept"),  # behind the filters ICMP errors pass, before the policies
    # from the LAN
    (LAN, "10.1.8.7", US[LAN], "udp/53", "accept"),
    (LAN, "10.1.8.7", US[LAN], "udp/67", "accept"),
    (LAN, "10.1.8.7", US[LAN], "tcp/22", "accept"),
    (LAN, "10.1.8.7", US[LAN], "icmp/8", "accept"),
    (LAN, "10.1.8.7", US[LAN], "tcp/179", "drop"),
    (LAN, "10.1.8.7", WORLD, "tcp/443", "accept"),
    (LAN, "10.1.8.7", "10.2.8.7", "tcp/445", "accept"),
    (LAN, "10.1.8.7", "10.1.64.7", "tcp/80", "drop"),
    (LAN, "10.1.8.7", "10.9.0.7", "tcp/80", "reject"),  # internal addresses do not leave in clear
    (LAN, "fd00:1:8::7", "fd00:2::7", "tcp/445", "accept"),
    # from the DMZ
    (DMZ, "10.1.64.7", WORLD, "tcp/25", "accept"),
    (DMZ, "10.1.64.7", "10.2.8.7", "tcp/25", "accept"),
    (DMZ, "10.1.64.7", "10.1.8.7", "tcp/25", "drop"),
    (DMZ, "10.1.64.7", US[DMZ], "icmp/8", "accept"),
    (DMZ, "10.1.64.7", US[DMZ], "tcp/5432", "drop"),  # the wiki's proto let it through
    (DMZ, "fd00:1:64::7", "fd00:1:64::1", "tcp/5432", "drop"),
    # from the VPN
    (VPN, "10.2.8.7", US[VPN], "tcp/179", "accept"),
    (VPN, "10.2.8.7", US[VPN], "tcp/22", "accept"),
    (VPN, "10.2.8.7", US[VPN], "icmp/8", "accept"),
    (VPN, "10.2.8.7", US[VPN], "udp/53", "drop"),
    (VPN, "192.0.2.99", US[VPN], "tcp/22", "drop"),  # no address of the VPN
    (VPN, "10.2.8.7", "10.1.8.7", "tcp/445", "accept"),
    (VPN, "10.2.8.7", "10.1.64.7", "tcp/25", "accept"),
    (VPN, "10.2.8.7", "10.2.9.9", "tcp/445", "accept"),  # a hub: back by the same device
    (VPN, "10.2.8.7", WORLD, "tcp/80", "drop"),
    (VPN, "fd00:2::7", "fd00:1:8::7", "tcp/445", "accept"),
    # from the road
    (ROAD, "172.16.0.9", "10.1.8.7", "tcp/445", "accept"),
    (ROAD, "172.16.0.9", "10.2.8.7", "tcp/445", "accept"),
    (ROAD, "172.16.0.9", WORLD, "tcp/443", "accept"),
    (ROAD, "172.16.0.9", "10.1.64.7", "tcp/443", "drop"),
    (ROAD, "172.16.0.9", US[ROAD], "tcp/22", "drop"),
    # the router's own
    ("_fw", US[ISP1], WORLD, "udp/53", "accept"),
    ("_fw", US[ISP1], WORLD, "tcp/443", "accept"),
    ("_fw", US[ISP1], WORLD, "tcp/25", "drop"),
    ("_fw", US[ISP1], WORLD, "icmp/8", "accept"),
    ("_fw", US[ISP1], WORLD, "gre", "drop"),
    ("_fw", US[VPN], "10.2.8.7", "tcp/5432", "accept"),
    ("_fw", US[LAN], "10.1.8.7", "tcp/22", "accept"),
    ("_fw", US[LAN], "10.1.8.7", "tcp/80", "drop"),
]


def test_real_packets_have_the_verdicts_of_the_table(loaded: kernel.Router) -> None:
    wrong = [
        f"{device} {source} -> {destination} {service}: {found}, not {expected}"
        for device, source, destination, service, expected in PACKETS
        if (found := loaded.verdict(device, kernel.packet(source, destination, service))) != expected
    ]
    assert wrong == []


def test_answers_pass_and_leave_with_the_uplinks_address(loaded: kernel.Router) -> None:
    assert loaded.verdict(LAN, kernel.packet("10.1.8.7", WORLD, "tcp/8443")) == "accept"
    out = loaded.came_out(ISP1)
    assert out is not None
    assert out[12:16] == bytes((192, 0, 2, 2))
    own = int.from_bytes(out[20:22], "big")
    answer = kernel.packet(WORLD, US[ISP1], f"tcp/{own}", own=8443, flags=kernel.SYN | kernel.ACK)
    assert loaded.verdict(ISP1, answer) == "accept"
    back = loaded.came_out(LAN)
    assert back is not None
    assert back[16:20] == bytes((10, 1, 8, 7))


def test_a_source_that_asks_too_often_is_dropped(loaded: kernel.Router) -> None:
    pings = [kernel.packet("203.0.113.5", US[ISP1], "icmp/8") for _ in range(13)]
    assert loaded.passed(ISP1, pings) == 10
    assert loaded.verdict(ISP1, kernel.packet("203.0.113.6", US[ISP1], "icmp/8")) == "accept"
    logins = [kernel.packet("203.0.113.5", US[ISP1], "tcp/22") for _ in range(5)]
    assert loaded.passed(ISP1, logins) == 3
