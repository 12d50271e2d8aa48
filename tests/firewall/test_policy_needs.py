"""What a router needs for itself, whatever the policy says: not one of these rules lets its own traffic out."""

from ipaddress import ip_address

import pytest
from firewall_questions import SITE

from dmvpn.firewall.ruleset import Verdict
from dmvpn.firewall.verdicts import Packet, judge
from dmvpn.network.compile import compile_plan
from dmvpn.network.loading import load
from dmvpn.network.plan import Plan
from dmvpn.render import nft_policy

UPLINKS = """isp1:
            {port: eth0, address: [198.51.100.2/30], gateway: [198.51.100.1], probes: ["192.0.2.9:443", 192.0.2.8]}
          isp2: {port: eth1, autoconf: true, probes: ["[2001:db8:9::9]:443"]}
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


@pytest.mark.parametrize("policy", [pytest.param(OURS, id="ours"), pytest.param(AWALL, id="awall")])
@pytest.mark.parametrize(
    ("packet", "verdict"),
    [
        pytest.param(asked(None, "eth0", "198.51.100.2", "192.0.2.9", 6, 443), Verdict.ACCEPT, id="a probe"),
        pytest.param(asked(None, "eth1", "2001:db8::2", "2001:db8:9::9", 6, 443), Verdict.ACCEPT, id="one by IPv6"),
        pytest.param(asked(None, "eth0", "198.51.100.2", "192.0.2.9", 6, 80), Verdict.DROP, id="another port"),
        pytest.param(asked(None, "eth0", "198.51.100.2", "192.0.2.8", 6, 443), Verdict.DROP, id="who is pinged"),
        pytest.param(asked(None, "eth1", "198.51.100.2", "192.0.2.9", 6, 443), Verdict.DROP, id="another uplink"),
        pytest.param(asked("eth1", None, "fe80::1", "fe80::2", 17, 546), Verdict.ACCEPT, id="DHCPv6, advertised"),
        pytest.param(asked("eth0", None, "fe80::1", "fe80::2", 17, 546), Verdict.DROP, id="DHCPv6, nobody asked"),
        pytest.param(asked("eth1", None, "192.0.2.1", "198.51.100.6", 17, 68), Verdict.DROP, id="DHCP, nobody asked"),
    ],
)
def test_the_routers_own_needs(policy: str, packet: Packet, verdict: Verdict) -> None:
    rules = nft_policy.ruleset(watched_plan(policy))
    assert rules is not None
    assert judge(rules, packet).verdict is verdict
