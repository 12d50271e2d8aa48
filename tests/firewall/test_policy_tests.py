"""What `dmvpn firewall test` answers: every port, family and plane that a test means, held against real packets."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from firewall_questions import SITE, rules_of
from firewall_wires import Wires

from dmvpn.errors import Problems
from dmvpn.firewall.ruleset import Verdict
from dmvpn.firewall.verdicts import judge
from dmvpn.network.compile import compile_plan
from dmvpn.network.loading import load
from dmvpn.network.policy_tests import questions, way
from dmvpn.operations import firewall
from dmvpn.render import nft_policy

WRITTEN = """
  services:
    web: {protocol: tcp, ports: [80, 443]}
    many: {protocol: udp, ports: 5000-5010}
  rules:
    - {in: internet, out: _fw, service: http}
    - {in: lan, out: dmz, service: many, action: drop}
    - {in: guarded, out: _fw, service: ntp}
  zones:
    guarded: {clouds: [blue], ipsec: true}
  destination-nat:
    - {in: internet, service: imap, to: 10.1.64.77}
    - {in: internet, service: imaps, to: 10.1.64.77, to-port: 1993}
"""
AT_EDGE = "destination: 198.51.100.2"
SAID = {
    f"in: internet, out: _fw, service: web, {AT_EDGE}": "drop by no rule fits, for tcp 443",
    "in: lan, out: internet, service: ping, source: 'fd00:1:8::4d', destination: '2001:db8:1::77'": "accept",
    "in: lan, out: _fw, service: ping, source: 'fd00:1:8::4d'": "accept",
    "in: lan, out: dmz, service: many": "drop",
    "in: internet-only, out: internet-only, service: https": "drop",
    "in: dmz, out: dmz, service: https": "drop",
    f"in: internet, out: _fw, service: imap, {AT_EDGE}": "accept by policy.destination-nat[0], translated to",
    f"in: internet, out: _fw, service: imaps, {AT_EDGE}": "accept",
    f"in: internet, out: _fw, service: pop3, {AT_EDGE}": "drop",
}


def written(tests: list[str], expect: str = "accept") -> str:
    asked = "".join(f"    - {{{test}, router: par1, expect: {expect}}}\n" for test in tests)
    return f"{SITE}policy:{WRITTEN}  tests:\n{asked}"


def answers(tmp_path: Path, tests: list[str], expect: str = "accept") -> list[str]:
    file = tmp_path / "network.yaml"
    file.write_text(written(tests, expect))
    return [f"{one.verdict} by {one.by}" for one in firewall.ask(file)]


def test_each_port_family_and_way_is_asked_about(tmp_path: Path) -> None:
    for said, expected in zip(answers(tmp_path, list(SAID)), SAID.values(), strict=True):
        assert said.startswith(expected)


def test_the_answers_hold_for_real_packets(wires: Wires) -> None:
    """Each on the first uplink: the wires have one host of the Internet behind it."""
    network = load(written(list(SAID)), "site.yaml")
    plan = compile_plan(network, "par1")
    rules = nft_policy.ruleset(plan)
    assert rules is not None
    asked = [
        replace(packet, source_port=10000 + 100 * question.index + at)
        for question in questions(network, plan)
        for at, packet in enumerate(question.packets)
        if "eth1" not in (packet.device_in, packet.device_out)
    ]
    wires.nft(rules_of(plan))
    fates = wires.send(list(enumerate(asked, 1)))
    outcomes = [judge(rules, packet, partial(way, plan)) for packet in asked]
    seen = [Verdict.DROP if fates[number].out is None else Verdict.ACCEPT for number in range(1, len(asked) + 1)]
    assert seen == [outcome.verdict for outcome in outcomes]
    led = [outcome.packet.device_out for outcome in outcomes if outcome.packet is not None]
    assert led == ["eth64", "eth64"], "the zone follows the translated address"
    assert [fates[number].out for number, outcome in enumerate(outcomes, 1) if outcome.packet is not None] == led


def test_where_planes_differ_that_is_said(tmp_path: Path) -> None:
    """The machine decides on the plane of this router: a zone of what came out of ESP is empty on one of them."""
    guarded = "in: guarded, out: _fw, service: ntp, protected: true"
    assert answers(tmp_path, [guarded]) == ["drop by no rule fits, on the userspace plane"]
    assert answers(tmp_path, [guarded], "drop") == ["accept by policy.rules[2], on the kernel plane"]
    gre = "in: internet, out: _fw, service: gre, protected: true, destination: 198.51.100.2"
    assert answers(tmp_path, [gre]) == ["accept by derived: GRE that came out of ESP"]


def test_every_test_without_its_zones_is_named(tmp_path: Path) -> None:
    file = tmp_path / "network.yaml"
    file.write_text(written(["in: lan, out: dmz, service: ssh"]).replace("router: par1", "router: hq1"))
    with pytest.raises(Problems, match="no router has both zones, lan and dmz; name zones of one site"):
        firewall.ask(file)
