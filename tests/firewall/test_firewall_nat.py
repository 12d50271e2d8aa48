"""Marks, NAT, segment sizes, logs, sets and IPsec of a policy as nft's words, without a kernel."""

from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest
from firewall_policies import LAN, lines_of, policy, rule

from dmvpn.errors import Fault
from dmvpn.firewall import nft
from dmvpn.firewall.assembly import assemble
from dmvpn.firewall.catalogue import SERVICES
from dmvpn.firewall.policy import (
    Action,
    AddressSet,
    Clamp,
    Log,
    MarkRule,
    Match,
    Nat,
    Policy,
    PortRange,
    Service,
    Traffic,
    Translation,
    Zone,
)
from dmvpn.firewall.ruleset import Hook, Packets, Ruleset, State, Verdict
from dmvpn.firewall.verdicts import Packet, entry_of, judge


def test_marks_are_restored_before_they_are_given() -> None:
    marks = (
        MarkRule(Match(("lan",)), 7, "from"),
        MarkRule(Match(None, ("net",)), 1, "track out", tracks=True),
        MarkRule(Match(("net",)), 1, "track in", tracks=True),
        MarkRule(Match(("lan",), ("net",)), 3, "between"),
        MarkRule(Match(("_fw",), ("net",)), 4, "own"),
        MarkRule(Match(("lan",), ("_fw",)), 5, "to the router"),
        MarkRule(Match(), 6, "everything"),
    )
    chains = assemble(policy(marks=marks)).chains
    assert {
        hook.value: [entry.origin for entry in found] for hook, found in chains.items() if "mark" in hook.value
    } == {
        "mark_before": ["derived: the connection's mark", "from", "track in", "everything"],
        "mark_out": ["derived: the connection's mark", "own", "everything"],
        "mark_after": ["track out"],
        "mark_through": ["between"],
        "mark_in": ["to the router"],
    }
    line = next(line for line in nft.lines(assemble(policy(marks=marks))) if "track out" in line)
    assert line.strip() == (
        'oifname "eth0" meta mark & 0xffff == 0 meta mark set meta mark & 0xffff0000 | 0x1'
        ' ct mark set ct mark & 0xffff0000 | 0x1 comment "track out"'
    )


WEB = PortRange(8080, 8080)


@pytest.mark.parametrize(
    ("nat", "lines"),
    [
        pytest.param(
            Nat(Match(None, ("net",), families=(4,)), (Translation(),), "here"),
            ['oifname "eth0" meta nfproto ipv4 masquerade comment "here"'],
            id="masquerade",
        ),
        pytest.param(
            Nat(Match(("lan",), ("net",)), (Translation(ip_address("192.0.2.1"), ip_address("192.0.2.9")),), "here"),
            [
                'iifname { "eth1", "eth2" } oifname "eth0" meta nfproto ipv4'
                ' snat ip to 192.0.2.1-192.0.2.9 comment "here"'
            ],
            id="a range of addresses",
        ),
        pytest.param(
            Nat(Match(None, ("net",)), None, "here"), ['oifname "eth0" accept comment "here"'], id="not translated"
        ),
    ],
)
def test_source_nat(nat: Nat, lines: list[str]) -> None:
    assert lines_of(Hook.NAT_AFTER, policy(source_nat=(nat,))) == lines


def test_destination_nat_stands_where_packets_come_in_and_lets_them_through() -> None:
    to = (
        Translation(ip_address("10.3.0.5"), None, WEB),
        Translation(ip_address("fd00::5"), ip_address("fd00::7"), WEB),
    )
    nat = Nat(Match(("net",), services=("https",)), to, "here", accepts=True, own_address=True)
    written = policy(destination_nat=(nat,))
    assert lines_of(Hook.NAT_BEFORE, written) == [
        'iifname "eth0" meta nfproto ipv4 fib daddr type local tcp dport 443 dnat ip to 10.3.0.5:8080 comment "here"',
        'iifname "eth0" meta nfproto ipv6 fib daddr type local tcp dport 443'
        ' dnat ip6 to [fd00::5]-[fd00::7]:8080 comment "here"',
    ]
    through = [line for line in lines_of(Hook.FILTER_THROUGH, written) if "here" in line]
    assert through[0] == 'iifname "eth0" ct status dnat ip daddr 10.3.0.5/32 tcp dport 8080 accept comment "here"'
    packet = Packet("eth0", "eth3", ip_address("192.0.2.7"), ip_address("192.0.2.2"), 6, 443, own_address=True)
    outcome = judge(assemble(written), packet)
    assert (outcome.verdict, outcome.origin) == (Verdict.ACCEPT, "here")
    assert outcome.packet is not None
    assert (str(outcome.packet.destination), outcome.packet.port) == ("10.3.0.5", 8080)
    assert judge(assemble(written), replace(packet, state=State.INVALID)).verdict is Verdict.DROP
    assert judge(assemble(written), replace(packet, port=80)).verdict is Verdict.DROP


def test_a_redirect_is_for_the_router_itself() -> None:
    nat = Nat(Match(services=("http",)), (Translation(ports=WEB),), "here")
    written = policy(rule(("net",), ("_fw",), services=("http-alt",)), destination_nat=(nat,))
    assert len(lines_of(Hook.NAT_OUT, written)) == 2
    assert "redirect to :8080" in lines_of(Hook.NAT_BEFORE, written)[0]
    packet = Packet("eth0", None, ip_address("192.0.2.7"), ip_address("192.0.2.2"), 6, 80)
    assert judge(assemble(written), packet).origin == "here"


@pytest.mark.parametrize(
    ("written", "fault"),
    [
        pytest.param(
            policy(destination_nat=(Nat(Match(("net",), ("lan",)), (Translation(),), "x:1"),)),
            "x:1: destination NAT to a zone; leave the zone it goes to out: where a packet goes is decided after"
            " destination NAT",
            id="a destination before routing",
        ),
        pytest.param(
            policy(source_nat=(Nat(Match(("_fw",), ("net",)), (Translation(),), "x:1"),)),
            "x:1: source NAT from or to the router itself; name the zones it passes between",
            id="the router's own",
        ),
        pytest.param(
            policy(destination_nat=(Nat(Match(("net",), services=("ping",)), (Translation(ports=WEB),), "x:1"),)),
            "x:1: NAT to a port of what may have none; name a service of TCP or UDP",
            id="a port for pings",
        ),
        pytest.param(
            policy(services=(Service("ftp", (Traffic(6, (PortRange(21, 21),), helper="ftp"),)),)),
            "ftp: service ftp wants the connection tracking helper ftp; leave it out: helpers are not loaded, so"
            " related connections are dropped",
            id="a helper",
        ),
    ],
)
def test_what_cannot_be_had_is_refused(written: Policy, fault: str) -> None:
    with pytest.raises(Fault) as caught:
        assemble(written)
    assert str(caught.value) == fault


def test_segment_sizes_stand_after_routing_or_on_the_way_through() -> None:
    written = policy(clamps=(Clamp(Match(None, ("net",)), None, "out"), Clamp(Match(("lan",)), 1300, "in")))
    assert lines_of(Hook.CLAMP_AFTER, written) == [
        'oifname "eth0" meta l4proto 6 tcp flags & (syn | rst) == syn tcp option maxseg size set rt mtu comment "out"'
    ]
    assert lines_of(Hook.CLAMP_THROUGH, written) == [
        'iifname { "eth1", "eth2" } meta l4proto 6'
        ' tcp flags & (syn | rst) == syn tcp option maxseg size set 1300 comment "in"'
    ]


def test_a_log_and_a_set_as_nft_has_them() -> None:
    logged = replace(rule(("net",), action=Action.PASS), log="watch")
    logs = (Log("watch", 'say "it": ', None, 7, snaplen_octets=64),)
    sets = (AddressSet("bad", (ip_network("192.0.2.0/25"), ip_network("192.0.2.128/25"), ip_network("fd00::/8"))),)
    text = "\n".join(nft.lines(assemble(policy(logged, logs=logs, sets=sets))))
    assert 'log prefix "say ?it?: " group 7 snaplen 64' in text
    assert "elements = { 192.0.2.0/24 }" in text
    assert "elements = { fd00::/8 }" in text


def test_ipsec_is_asked_of_the_way_in_and_the_way_out() -> None:
    safe, clear = Zone("safe", ("eth0",), ipsec=True), Zone("clear", ("eth0",), ipsec=False)
    written = replace(
        policy(rule(("safe",), ("_fw",)), rule(("_fw",), ("clear",)), rule(("safe",), ("lan",))),
        zones=(safe, clear, LAN),
    )
    text = "\n".join(nft.lines(assemble(written)))
    assert 'iifname "eth0" meta ipsec exists accept' in text
    assert 'oifname "eth0" rt ipsec missing accept' in text
    packet = Packet("eth0", None, ip_address("192.0.2.7"), ip_address("192.0.2.2"), 6, 22)
    assert judge(assemble(written), packet).verdict is Verdict.DROP
    assert judge(assemble(written), replace(packet, protected_in=True)).verdict is Verdict.ACCEPT


def test_devices_that_begin_alike() -> None:
    phones = Zone("phones", ("ppp*",))
    written = replace(policy(rule(("phones",), ("_fw",))), zones=(phones,))
    assert 'iifname "ppp*" accept' in "\n".join(nft.lines(assemble(written)))
    packet = Packet("ppp7", None, ip_address("192.0.2.7"), ip_address("192.0.2.2"), 6, 22)
    assert judge(assemble(written), packet).verdict is Verdict.ACCEPT
    assert judge(assemble(written), replace(packet, device_in="eth7")).verdict is Verdict.DROP


def test_the_rest_is_counted_by_zone() -> None:
    chains = assemble(policy()).chains
    packet = Packet("eth1", "eth0", ip_address("10.1.0.1"), ip_address("192.0.2.1"), 6, 80)
    entry = entry_of(assemble(policy()), Hook.FILTER_THROUGH, packet)
    assert entry is not None
    assert entry.counter == "dropped.through.lan"
    assert chains[Hook.FILTER_IN][-1].packets == Packets()
    assert judge(Ruleset({Hook.FILTER_IN: ()}), replace(packet, device_out=None)).verdict is Verdict.DROP


def test_no_two_services_have_one_name() -> None:
    names = [service.name for service in SERVICES]
    assert len(names) == len(set(names)) >= 68
