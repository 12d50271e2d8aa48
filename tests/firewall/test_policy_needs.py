"""What a router needs for itself, whatever the policy says: not one of these rules lets its own traffic out."""

from ipaddress import ip_address

import pytest
from firewall_questions import SITE, rules_of
from firewall_wires import Wires

from dmvpn.firewall.ruleset import Verdict
from dmvpn.firewall.verdicts import Packet, judge
from dmvpn.network.compile import compile_plan
from dmvpn.network.loading import load
from dmvpn.network.plan import Plan
from dmvpn.render import nft_policy

UPLINKS = """isp1:
            port: eth0
            address: [198.51.100.2/30]
            gateway: [198.51.100.1]
            probes: ["203.0.113.77:443", 203.0.113.78]
          isp2: {port: eth1, autoconf: true, probes: ["[2001:db8:2::77]:443"]}
"""
OURS = " {default: [{in: lan, out: internet}]}"
AWALL = " {awall: [aw/p.json]}"
FILES = {"aw/p.json": b'{"zone": {"E": {"iface": "eth0"}}, "filter": {"in": "E", "out": "_fw", "service": "ssh"}}'}


def watched_plan(policy: str) -> Plan:
    head, _, rest = SITE.partition("isp1: {port")
    text = f"{head}{UPLINKS}{rest[rest.index('        tunnels:') :]}policy:{policy}\n"
    return compile_plan(load(text, "site.yaml"), "par1", secrets=FILES)


def asked(come: str | None, go: str | None, source: str, destination: str, protocol: int, port: int) -> Packet:
    return Packet(come, go, ip_address(source), ip_address(destination), protocol, port, source_port=49152)


# The router's own link-local address, the same on each of its devices: of the MAC that they have.
OWN_LINK_LOCAL = "fe80::ff:fe00:aa00"
NEEDS = (
    pytest.param(asked(None, "eth0", "198.51.100.2", "203.0.113.77", 6, 443), "eth0", id="a probe"),
    pytest.param(asked(None, "eth1", "2001:db8:2::2", "2001:db8:2::77", 6, 443), "eth1", id="one by IPv6"),
    pytest.param(asked(None, "eth0", "198.51.100.2", "203.0.113.77", 6, 80), None, id="another port"),
    pytest.param(asked(None, "eth0", "198.51.100.2", "203.0.113.78", 6, 443), None, id="who is pinged"),
    pytest.param(asked(None, "eth1", "198.51.100.6", "203.0.113.117", 6, 443), None, id="another uplink"),
    pytest.param(asked("eth1", None, "fe80::1", OWN_LINK_LOCAL, 17, 546), "router", id="DHCPv6, advertised"),
    pytest.param(asked("eth0", None, "fe80::1", OWN_LINK_LOCAL, 17, 546), None, id="DHCPv6, nobody asked"),
    pytest.param(asked("eth1", None, "192.0.2.1", "198.51.100.6", 17, 68), None, id="DHCP, nobody asked"),
)


@pytest.mark.parametrize("policy", [pytest.param(OURS, id="ours"), pytest.param(AWALL, id="awall")])
@pytest.mark.parametrize(("packet", "out"), NEEDS)
def test_the_routers_own_needs(policy: str, packet: Packet, out: str | None) -> None:
    rules = nft_policy.ruleset(watched_plan(policy))
    assert rules is not None
    assert judge(rules, packet).verdict is (Verdict.DROP if out is None else Verdict.ACCEPT)


@pytest.mark.kernel
@pytest.mark.parametrize("policy", [pytest.param(OURS, id="ours"), pytest.param(AWALL, id="awall")])
def test_the_kernel_says_the_same_of_real_packets(wires: Wires, policy: str) -> None:
    wires.nft(rules_of(watched_plan(policy)))
    packets = [(number, one.values[0]) for number, one in enumerate(NEEDS, start=1)]
    fates = wires.send(packets)
    assert [fates[number].out for number, _ in packets] == [one.values[1] for one in NEEDS]
