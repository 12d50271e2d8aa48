"""Guests without a policy, by real packets: what their device lets them have of the router."""

import os
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_interface

import pytest
from firewall_questions import SITE, ports, rules_of
from firewall_wires import ICMP, ICMPV6, TCP, UDP, Fate, Wires

from dmvpn.firewall.policy import Address
from dmvpn.firewall.verdicts import Packet
from dmvpn.network.compile import compile_plan
from dmvpn.network.loading import load
from dmvpn.network.plan import Gateway, Vrrp

GUESTS, LAN, ISP = "eth96", "eth8", "eth0"
HOST, HOST6 = ip_address("10.1.96.77"), ip_address("fd00:1:96::4d")
GATEWAY, GATEWAY6 = ip_address("10.1.96.1"), ip_address("fd00:1:96::1")
IN, OUT, NOWHERE = "router", ISP, None


def to(protocol: int, port: int, address: Address = GATEWAY, come: str = GUESTS, go: str | None = None) -> Packet:
    host: Address = HOST if address.version == 4 else HOST6
    if come == LAN:
        host = ip_address("10.1.8.77")
    if protocol in (ICMP, ICMPV6):
        return Packet(come, go, host, address, protocol, type=port)
    return Packet(come, go, host, address, protocol, port)


PACKETS = [
    pytest.param(to(UDP, 53), IN, id="a name"),
    pytest.param(to(TCP, 53), IN, id="a long name"),
    pytest.param(to(UDP, 53, GATEWAY6), IN, id="a name by IPv6"),
    pytest.param(to(UDP, 123), IN, id="time"),
    pytest.param(to(UDP, 67), IN, id="an address"),
    pytest.param(to(UDP, 547, GATEWAY6), IN, id="an IPv6 address"),
    pytest.param(to(ICMP, 8), IN, id="ping of the gateway"),
    pytest.param(to(ICMPV6, 128, GATEWAY6), IN, id="IPv6 ping of the gateway"),
    pytest.param(to(TCP, 22), NOWHERE, id="SSH of the router"),
    pytest.param(to(TCP, 22, GATEWAY6), NOWHERE, id="IPv6 SSH of the router"),
    pytest.param(to(TCP, 179), NOWHERE, id="BGP of the router"),
    pytest.param(to(UDP, 500), NOWHERE, id="IKE of the router"),
    pytest.param(to(UDP, 53, IPv4Address("10.1.8.1")), NOWHERE, id="DNS at its address in lan"),
    pytest.param(to(ICMP, 8, IPv4Address("10.255.1.11")), NOWHERE, id="ping of its overlay address"),
    pytest.param(to(ICMPV6, 128, IPv6Address("fd00:1:8::1")), NOWHERE, id="IPv6 ping of its address in lan"),
    pytest.param(to(112, 0), IN, id="the other router's VRRP"),
    pytest.param(to(89, 0), NOWHERE, id="OSPF"),
    pytest.param(to(TCP, 443, IPv4Address("10.1.8.78"), go=LAN), NOWHERE, id="an inner host"),
    pytest.param(to(TCP, 443, IPv4Address("203.0.113.78"), go=ISP), OUT, id="the Internet"),
    pytest.param(to(TCP, 22, IPv4Address("10.1.8.1"), come=LAN), IN, id="SSH from lan"),
]


@pytest.fixture(scope="module")
def fates() -> dict[int, Fate]:
    if os.geteuid() != 0:
        pytest.skip("needs root for namespaces")
    # A router that shares the guests' gateway has one line more.
    shared = Gateway("guest", GUESTS, ip_interface("10.1.96.1/24"))
    plan = replace(compile_plan(load(SITE, "site.yaml"), "par1"), vrrp=Vrrp(1, 200, 100, 500, (shared,)))
    wired = Wires(f"fwguests{os.getpid()}", ports(plan))
    try:
        wired.nft(rules_of(plan))
        return wired.send(list(enumerate((param.values[0] for param in PACKETS), 1)))
    finally:
        wired.close()


@pytest.mark.parametrize(("packet", "out"), PACKETS)
def test_what_a_guest_reaches_without_a_policy(packet: Packet, out: str | None, fates: dict[int, Fate]) -> None:
    number = next(at for at, param in enumerate(PACKETS, 1) if param.values[0] == packet)
    assert fates[number].out == out
