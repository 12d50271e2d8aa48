"""The policy in a kernel: every verdict that the evaluator gives is what became of a real packet."""

import os
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

import pytest
from firewall_questions import CHARON, numbered, ports, questions, rules_of, site_plan
from firewall_wires import Fate, Port, Wires

from dmvpn.firewall.ruleset import Verdict
from dmvpn.firewall.verdicts import Packet, judge
from dmvpn.network.compile import compile_plan
from dmvpn.network.loading import load
from dmvpn.network.plan import Plan, Plane
from dmvpn.network.policy_tests import questions as questions_of
from dmvpn.render import nft_policy

pytestmark = pytest.mark.kernel
WIKI = Path(__file__).parents[2] / "examples/wiki.yaml"


def _seen(packet: Packet, fate: Fate) -> tuple[Verdict, ...]:
    """What came out was accepted, even if nobody listened for it. The router hears of its own refusals by lo."""
    if fate.out is not None:
        return (Verdict.ACCEPT,)
    if packet.device_in is None:
        return (Verdict.REJECT, Verdict.DROP)
    return (Verdict.REJECT,) if fate.refused else (Verdict.DROP,)


def _differences(wires: Wires, plan: Plan, packets: list[tuple[int, Packet]]) -> list[str]:
    wires.prime(packets)
    wires.nft(rules_of(plan))
    fates = wires.send(packets)
    rules = nft_policy.ruleset(plan)
    assert rules is not None
    wrong = []
    for number, packet in packets:
        outcome = judge(rules, packet)
        if outcome.verdict not in _seen(packet, fates[number]):
            wrong.append(f"{outcome.verdict.value} by {outcome.origin}, but {fates[number]}: {packet}")
    return wrong


WRITTEN = """
  zones:
    servers: {prefixes: [10.1.64.64/26, "fd00:1:64::40/122"]}
    half: {networks: [voice], prefixes: [10.1.80.0/24]}
    lan: {networks: [lan, lab, management], route-back: false}
    everybody: {networks: [lan, lab, dmz, voice], clouds: [blue], uplinks: [isp1, isp2], route-back: true}
    nothing: {prefixes: []}
  services:
    web: {protocol: [tcp, udp], ports: [80, 443, 400-500, 8080]}
    odd: {protocol: [esp, ospf]}
    asking: {protocol: icmp, types: [8, 13]}
  sets:
    known: [10.1.8.0/24, 10.9.9.0/24, 203.0.113.64/26, "fd00:9:9::/64"]
    empty: []
  rules:
    - {in: nothing, action: reject}
    - {service: http-alt, action: reject}
    - {in: lan, out: servers, service: [web, ssh, ping]}
    - {in: half, out: _fw, service: dns, action: reject}
    - {source-set: known, service: odd}
    - {destination-set: known, out: vpn, service: bfd}
    - {source-set: empty, action: reject}
    - {in: dmz, destination: [10.0.0.0/8, "2001:db8::/32"], service: [ntp, asking]}
    - {in: [lan, dmz, voice], out: [lan, dmz, voice, _fw], service: https}
    - {in: research, out: _fw, action: pass}
    - {in: _fw, out: [internet, vpn], service: [web, dns]}
    - {out: voice, source: 10.1.8.0/24, service: ssh, action: drop}
  default:
    - {in: internet-only, out: internet, action: accept}
    - {in: everybody, out: everybody, source: [10.1.80.0/24, "fd00:1:80::/64"], action: reject}
    - {in: vpn, out: vpn}
    - {in: management, action: drop}
"""


@pytest.mark.parametrize(
    "policy", [pytest.param(" {}", id="the default policy"), pytest.param(WRITTEN, id="rules of every kind")]
)
def test_what_the_evaluator_says_is_what_the_kernel_does(wires: Wires, policy: str) -> None:
    plan = site_plan(policy)
    wired = [port for port in ports(plan) if port.device != CHARON]
    packets = numbered(questions(wired))
    wrong = _differences(wires, plan, packets)
    assert len(packets) > 4000
    assert not wrong, f"{len(wrong)} of {len(packets)}:\n" + "\n".join(wrong[:30])


def test_gre_is_let_in_where_charon_gives_it(wires: Wires) -> None:
    plan = site_plan(" {}")
    wired = [port for port in ports(plan) if port.device in (CHARON, "eth0", "eth8")]
    packets = [(number, packet) for number, packet in numbered(questions(wired)) if packet.protocol == 47]
    assert not _differences(wires, plan, packets)
    rules = nft_policy.ruleset(plan)
    assert rules is not None
    accepted = {(one.device_in, one.device_out) for _, one in packets if judge(rules, one).verdict is Verdict.ACCEPT}
    assert {pair for pair in accepted if None in pair} == {
        (CHARON, None),
        (None, CHARON),
        (None, "eth0"),
        (None, "eth8"),
    }


def _wiki_ports(plan: Plan) -> list[Port]:
    """The router of the wiki's page. A host of the file's tests is behind the first uplink only."""
    made = [
        Port(
            lan.device, (lan.address.ip, IPv6Address(f"fd00:{at}::1")), (lan.prefix[77], IPv6Address(f"fd00:{at}::77"))
        )
        for at, lan in enumerate(plan.lans, 1)
    ]
    (cloud,) = plan.clouds
    tunnel = (IPv4Address("10.255.0.11"), IPv6Address("fd00:9::1"))
    made.append(Port(cloud.device, tunnel, (IPv4Address("10.255.255.225"), IPv6Address("fd00:9::77"))))
    outer = (IPv4Address("198.51.100.2"), IPv6Address("2001:db8:1::1"))
    made.append(Port(plan.uplinks[0].device, outer, (IPv4Address("203.0.113.77"), IPv6Address("2001:db8:1::77"))))
    return made


def test_the_tests_of_the_wikis_file_hold_in_a_kernel() -> None:
    """`dmvpn firewall test examples/wiki.yaml`, by packets between devices of the page's own names."""
    if os.geteuid() != 0:
        pytest.skip("needs root for namespaces")
    network = load(WIKI.read_text(), "wiki.yaml")
    plan = compile_plan(network, "vpnc", secrets={"secrets/isp2": b"of the ISP"})
    other = plan.uplinks[1].device
    asked = [
        (question.test.expect, replace(packet, source_port=10000 + 100 * question.index + at))
        for question in questions_of(network, plan)
        for at, packet in enumerate(question.packets)
        if other not in (packet.device_in, packet.device_out)
    ]
    wired = Wires(f"fwwiki{os.getpid()}", _wiki_ports(plan))
    try:
        wired.nft(rules_of(plan))
        fates = wired.send(list(enumerate((packet for _, packet in asked), 1)))
    finally:
        wired.close()
    seen = [_seen(packet, fates[number])[0].value for number, (_, packet) in enumerate(asked, 1)]
    assert seen == [expected for expected, _ in asked]
    assert {"accept", "drop"} == set(seen)
    assert len(asked) >= 11


def test_on_the_kernel_plane_gre_in_clear_comes_in_by_no_device(wires: Wires) -> None:
    """There an SA is what lets GRE in, wherever it came from; this kernel has none to give."""
    plan = site_plan(" {}", planes=(Plane.KERNEL,))
    wired = [port for port in ports(plan) if port.device != CHARON]
    packets = [
        (number, packet)
        for number, packet in numbered(questions(wired))
        if packet.device_out is None and packet.protocol in (47, 50)
    ]
    assert not _differences(wires, plan, packets)
    rules = nft_policy.ruleset(plan)
    assert rules is not None
    accepted = {(one.device_in, one.protocol) for _, one in packets if judge(rules, one).verdict is Verdict.ACCEPT}
    assert accepted == {("eth0", 50), ("eth1", 50)}, "ESP on uplinks, GRE nowhere"
    gre = next(packet for _, packet in packets if packet.protocol == 47 and packet.device_in == "eth0")
    assert judge(rules, replace(gre, protected_in=True)).verdict is Verdict.ACCEPT
