"""A policy as entries and as nft's words, without a kernel: chains, order, families, limits."""

from dataclasses import replace
from ipaddress import ip_network

import pytest
from firewall_policies import policy, rule

from dmvpn.firewall import nft
from dmvpn.firewall.assembly import assemble
from dmvpn.firewall.limits import rate
from dmvpn.firewall.policy import (
    Action,
    Counts,
    InSet,
    Limit,
    Log,
    Rule,
    Side,
)
from dmvpn.firewall.ruleset import Hook, Ruleset


def stands(*rules: Rule) -> dict[str, list[str]]:
    """In which chains rules stand, and as which lines."""
    found = {}
    for hook in (Hook.FILTER_IN, Hook.FILTER_THROUGH, Hook.FILTER_OUT):
        rules_of = assemble(policy(*rules))
        text = nft.lines(Ruleset({hook: tuple(one for one in rules_of.chains[hook] if one.origin == "here")}))
        lines = [line.strip().removesuffix(' comment "here"') for line in text if 'comment "here"' in line]
        if lines:
            found[hook.value.removeprefix("filter_")] = lines
    return found


@pytest.mark.parametrize(
    ("come", "go", "chains"),
    [
        pytest.param(("lan",), ("net",), {"through"}, id="zones both: what passes"),
        pytest.param(("lan",), ("_fw",), {"in"}, id="to the router"),
        pytest.param(("_fw",), ("net",), {"out"}, id="from the router"),
        pytest.param(("lan",), None, {"in", "through"}, id="from a zone: the router is meant too"),
        pytest.param(None, ("net",), {"out", "through"}, id="to a zone: the router's own too"),
        pytest.param(("_fw",), None, {"out"}, id="the router's own, anywhere"),
        pytest.param(None, ("_fw",), {"in"}, id="from anywhere to the router"),
        pytest.param(None, None, {"in", "out", "through"}, id="everything"),
        pytest.param(("_fw",), ("_fw",), set(), id="the router to itself: nothing"),
        pytest.param(("_fw", "lan"), ("_fw", "net"), {"in", "out", "through"}, id="lists of both"),
        pytest.param((), ("net",), set(), id="an empty list is nothing"),
        pytest.param(("lan",), (), set(), id="to an empty list"),
        pytest.param(("nothing",), ("net",), set(), id="a zone of nothing"),
        pytest.param((), None, set(), id="from nothing to anywhere"),
    ],
)
def test_the_chains_that_a_rule_stands_in(
    come: tuple[str, ...] | None, go: tuple[str, ...] | None, chains: set[str]
) -> None:
    assert set(stands(rule(come, go))) == chains


@pytest.mark.parametrize(
    ("written", "lines"),
    [
        pytest.param(
            rule(("lan",), ("lan",)),
            ['iifname . oifname { "eth1" . "eth2", "eth2" . "eth1" } accept'],
            id="not back by the same device",
        ),
        pytest.param(rule(("net",), ("net",)), [], id="one device, no way back"),
        pytest.param(rule(("hub",), ("hub",)), ['iifname "gre1" oifname "gre1" accept'], id="a hub has one"),
        pytest.param(rule(("everywhere",), ("net",)), ['oifname "eth0" accept'], id="a zone without devices is any"),
        pytest.param(
            rule(("lan", "hub"), ("net",)),
            ['iifname { "eth1", "eth2" } oifname "eth0" accept', 'iifname "gre1" oifname "eth0" accept'],
            id="zones that differ in more than devices",
        ),
        pytest.param(
            rule(("dmz",), ("net",)),
            ['iifname "eth3" oifname "eth0" ip saddr 10.3.0.0/24 accept'],
            id="prefixes of a zone",
        ),
        pytest.param(
            rule(("dmz",), ("net",), source=(ip_network("10.3.0.128/25"), ip_network("10.4.0.0/16"))),
            ['iifname "eth3" oifname "eth0" ip saddr 10.3.0.128/25 accept'],
            id="both the zone's and the rule's",
        ),
        pytest.param(
            rule(("dmz",), ("net",), source=(ip_network("10.4.0.0/16"),)), [], id="prefixes that have nothing in common"
        ),
        pytest.param(
            rule(("lan",), ("net",), source=(ip_network("10.0.0.0/8"), ip_network("fd00::/8"))),
            [
                'iifname { "eth1", "eth2" } oifname "eth0" ip saddr 10.0.0.0/8 accept',
                'iifname { "eth1", "eth2" } oifname "eth0" ip6 saddr fd00::/8 accept',
            ],
            id="a line for each family",
        ),
        pytest.param(
            rule(("lan",), ("net",), source=(ip_network("10.0.0.0/8"),), destination=(ip_network("fd00::/8"),)),
            [],
            id="families that do not meet",
        ),
        pytest.param(
            rule(("net",), ("dmz",), services=("ssh", "dns", "https")),
            [
                'iifname "eth0" oifname "eth3" ip daddr 10.3.0.0/24'
                " meta l4proto . th dport { 6 . 22, 6 . 53, 6 . 443, 17 . 53 } accept"
            ],
            id="ports of two protocols in one set",
        ),
        pytest.param(
            rule(("lan",), ("net",), services=("ping", "ipsec")),
            [
                'iifname { "eth1", "eth2" } oifname "eth0" icmp type 8 accept',
                'iifname { "eth1", "eth2" } oifname "eth0" icmpv6 type 128 accept',
                'iifname { "eth1", "eth2" } oifname "eth0" meta l4proto { 50, 51 } accept',
                'iifname { "eth1", "eth2" } oifname "eth0" udp dport { 500, 4500 } accept',
            ],
            id="types, protocols and ports",
        ),
        pytest.param(
            rule(("lan",), ("net",), services=("ping",), families=(6,)),
            ['iifname { "eth1", "eth2" } oifname "eth0" icmpv6 type 128 accept'],
            id="a service of the other family is left out",
        ),
        pytest.param(
            rule(("lan",), ("net",), families=(4,)),
            ['iifname { "eth1", "eth2" } oifname "eth0" meta nfproto ipv4 accept'],
            id="one family",
        ),
        pytest.param(
            rule(("lan",), ("net",), services=("any",)), ['iifname { "eth1", "eth2" } oifname "eth0" accept'], id="any"
        ),
        pytest.param(
            rule(("lan",), ("net",), sets=(InSet("bad", Side.SOURCE),), action=Action.DROP),
            [
                f'iifname {{ "eth1", "eth2" }} oifname "eth0" {family} saddr @set.bad.{family}'
                " counter name dropped.here drop"
                for family in ("ip", "ip6")
            ],
            id="a set has both families",
        ),
    ],
)
def test_the_lines_that_a_rule_becomes(written: Rule, lines: list[str]) -> None:
    assert stands(written).get("through", []) == lines


@pytest.mark.parametrize(
    ("count", "interval_s", "text"),
    [
        pytest.param(3, 60, (3, "minute", 3), id="3 in a minute"),
        pytest.param(10, 6, (100, "minute", 10), id="10 in 6 s"),
        pytest.param(1, 10, (6, "minute", 1), id="1 in 10 s"),
        pytest.param(5, 1, (5, "second", 5), id="5 a second"),
        pytest.param(1, 7, (12343, "day", 1), id="no unit divides: the next higher number a day"),
        pytest.param(3, 864000, (1, "day", 3), id="3 in ten days: one a day"),
    ],
)
def test_a_limit_as_a_rate(count: int, interval_s: int, text: tuple[int, str, int]) -> None:
    found = rate(Limit(count, interval_s))
    assert (found.packets, found.unit, found.burst) == text


def _limited(limit: Limit) -> list[str]:
    one = replace(rule(("net",), ("_fw",), services=("ssh",)), limit=limit)
    return [line.strip() for line in nft.lines(assemble(policy(one, logs=(Log("l", "p: "),))))]


def test_a_limit_stands_before_what_it_limits() -> None:
    lines = _limited(Limit(3, 60))
    at = next(index for index, line in enumerate(lines) if line.startswith('iifname "eth0" tcp dport 22'))
    assert lines[at : at + 3] == [
        'iifname "eth0" tcp dport 22 update @limit.here.ip { ip saddr limit rate over 3/minute burst 3 packets }'
        ' counter name dropped.here drop comment "here"',
        'iifname "eth0" tcp dport 22 update @limit.here.ip6 { ip6 saddr limit rate over 3/minute burst 3 packets }'
        ' counter name dropped.here drop comment "here"',
        'iifname "eth0" tcp dport 22 accept comment "here"',
    ]
    assert at > lines.index('ct state established accept comment "derived: established"')


def test_a_limit_on_packets_stands_before_established_connections_the_last_one_first() -> None:
    first = replace(rule(("net",), ("_fw",)), limit=Limit(1, 1, Counts.PACKETS), origin="first")
    second = replace(first, origin="second")
    lines = nft.lines(assemble(policy(first, second)))
    entries = [
        line for line in lines if 'comment "first"' in line or 'comment "second"' in line or "established" in line
    ]
    order = [line.rpartition('comment "')[2].rstrip('"') for line in entries]
    assert order[:5] == ["second", "second", "first", "first", "derived: established"]


@pytest.mark.parametrize(
    ("limit", "key"),
    [
        pytest.param(Limit(3, 60, source_v4=24), "ip saddr & 255.255.255.0", id="a prefix counts together"),
        pytest.param(Limit(3, 60, source_v6=64), "ip6 saddr & ffff:ffff:ffff:ffff::", id="IPv6"),
        pytest.param(Limit(3, 60, destination_v4=32), "ip saddr . ip daddr", id="each pair"),
        pytest.param(
            Limit(3, 60, source_v4=None, source_v6=None, destination_v4=32), "{ ip daddr limit", id="destination"
        ),
        pytest.param(Limit(3, 60, source_v4=None, source_v6=None), "limit name limit.here", id="all together"),
        pytest.param(Limit(3, 60, name="shared"), "@limit.named.shared.ip ", id="one count for several rules"),
        pytest.param(Limit(3, 60, log="l"), "jump over.limit.here", id="logged"),
        pytest.param(Limit(0, 60), 'tcp dport 22 counter name dropped.here drop comment "here"', id="nothing at all"),
        pytest.param(
            Limit(0, 60, log="l"), 'limit rate 1/second log prefix "p: " level info comment "here"', id="and logged"
        ),
    ],
)
def test_what_a_limit_counts_by(limit: Limit, key: str) -> None:
    assert any(key in line for line in _limited(limit))
