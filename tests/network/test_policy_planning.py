"""The file's policy on one router: its zones, what is derived, what a change is in sentences, what a test asks."""

from dataclasses import replace
from ipaddress import ip_network

import pytest

from dmvpn.firewall.policy import Action, Policy
from dmvpn.network.comparison import sentences
from dmvpn.network.compile import DMVPND_PORT, compile_plan
from dmvpn.network.loading import load
from dmvpn.network.plan import Plan
from dmvpn.network.policy_tests import questions

HEAD = """version: 1
network: acme
domain: example.net
prefixes: [10.0.0.0/8, "fd00::/8"]
clouds: {blue: {overlay: [10.255.1.0/24]}, green: {overlay: [10.255.2.0/24], gre-key: 2}}
sites:
  hq:
    asn: 65000
    networks: {lan: {port: eth1, prefix: 10.0.0.0/24}}
    routers:
      hq1:
        uplinks: {wan: {port: eth0, address: [192.0.2.2/30], gateway: [192.0.2.1]}}
        tunnels: {blue: {role: hub, address: [10.255.1.1]}, green: {role: hub, address: [10.255.2.1]}}
  paris:
    asn: 65001
    networks:
      management: {port: eth3, prefix: 10.1.3.0/24, zone: management}
      lan: {port: eth8, prefix: [10.1.8.0/24, "fd00:1:8::/64"]}
      dmz: {port: eth64, prefix: 10.1.64.0/24, zone: dmz}
      voice: {port: eth80, prefix: 10.1.80.0/24, zone: voice}
      guest: {port: eth96, prefix: 10.1.96.0/24, zone: internet-only}
      shop: {port: eth97, prefix: 10.1.97.0/24, zone: shop}
    routers:
      par1:
        uplinks:
          isp1: {port: eth0, address: [198.51.100.2/30], gateway: [198.51.100.1]}
          isp2: {port: eth2, dhcp: true}
        tunnels: {blue: {address: [10.255.1.11]}, green: {address: [10.255.2.11]}}
"""


def plan(policy: str | None = " {}", router: str = "par1", services: str = "") -> Plan:
    head = HEAD.replace("    routers:\n      par1:", f"    services: {{{services}}}\n    routers:\n      par1:")
    text = head if policy is None else f"{head}policy:{policy}\n"
    return compile_plan(load(text, "network.yaml"), router)


def policy_of(policy: str = " {}", router: str = "par1", services: str = "") -> Policy:
    found = plan(policy, router, services).policy
    assert found is not None
    return found


def test_without_a_section_there_is_no_policy() -> None:
    assert plan(None).policy is None


@pytest.mark.parametrize(
    ("router", "policy", "zones"),
    [
        pytest.param(
            "par1",
            " {}",
            {
                "management": ("eth3",),
                "lan": ("eth8",),
                "dmz": ("eth64",),
                "voice": ("eth80",),
                "internet-only": ("eth96",),
                "shop": ("eth97",),
                "vpn": ("acme-blue", "acme-green"),
                "internet": ("eth0", "eth2"),
            },
            id="what the file makes",
        ),
        pytest.param(
            "hq1", " {}", {"lan": ("eth1",), "vpn": ("acme-blue", "acme-green"), "internet": ("eth0",)}, id="another's"
        ),
        pytest.param(
            "hq1",
            " {zones: {lan: {networks: [dmz]}, vpn: {clouds: [blue]}, one: {uplinks: [isp1]},"
            " far: {prefixes: 10.9.0.0/16}}}",
            {"vpn": ("acme-blue",), "internet": ("eth0",), "far": None},
            id="zones of the policy stand instead, and only where there is something of them",
        ),
    ],
)
def test_the_zones_of_a_router(router: str, policy: str, zones: dict[str, tuple[str, ...] | None]) -> None:
    assert {zone.name: zone.devices for zone in policy_of(policy, router).zones} == zones


def test_a_hub_relays() -> None:
    assert [zone.name for zone in policy_of().zones if zone.route_back] == ["vpn"]
    own = policy_of(" {zones: {a: {clouds: [blue]}, b: {clouds: [blue], route-back: false}, c: {networks: [lan]}}}")
    assert {zone.name: zone.route_back for zone in own.zones if len(zone.name) == 1} == {
        "a": True,
        "b": False,
        "c": False,
    }


REACHES = {
    "_fw": {"anywhere"},
    "management": {"management", "lan", "dmz", "voice", "shop", "vpn", "internet"},
    "lan": {"lan", "shop", "dmz", "voice", "vpn", "internet"},
    "shop": {"lan", "shop", "dmz", "voice", "vpn", "internet"},
    "dmz": {"dmz", "vpn", "internet"},
    "voice": {"voice", "vpn", "internet"},
    "internet-only": {"internet"},
    "vpn": {"lan", "dmz", "voice", "shop", "vpn"},
}


def test_who_reaches_whom_without_a_line_of_policy() -> None:
    found: dict[str, set[str]] = {}
    for rule in policy_of().defaults:
        assert (rule.action, rule.match.services, rule.limit) == (Action.ACCEPT, None, None)
        for zone in rule.match.in_zones or ():
            found.setdefault(zone, set()).update(rule.match.out_zones or ("anywhere",))
    assert found == REACHES


GUESTS_TOO = {"lan", "dmz", "internet-only"}
NETWORKS = {"management", "lan", "dmz", "voice", "internet-only", "shop"}


@pytest.mark.parametrize(
    ("policy", "services", "expected"),
    [
        pytest.param(" {}", "", {"ssh": {"management", "lan", "vpn"}}, id="SSH stays where it was, inside"),
        pytest.param(" {}", "ssh: {}", {"ssh": {"management", "lan"}}, id="as the section says, and management"),
        pytest.param(" {}", "ssh: {zones: [vpn]}", {"ssh": {"management", "vpn"}}, id="the section's zones"),
        pytest.param(
            " {default: [{in: [management, lan, dmz, voice, internet-only, shop], out: internet}]}",
            "",
            {},
            id="who writes the defaults writes SSH",
        ),
        pytest.param(
            " {}",
            "ssh: {}, dns: {}, ntp: {}",
            {
                "ssh": {"management", "lan"},
                "dns": {"lan", "dmz", "internet-only"},
                "ntp": {"lan", "dmz", "internet-only"},
            },
            id="guests have DNS and time",
        ),
        pytest.param(
            " {}",
            "ssh: {}, dns-zone: {name: paris.example.net}",
            {
                "ssh": {"management", "lan"},
                "dns": {"management", "lan", "dmz", "voice", "internet-only", "shop", "vpn"},
            },
            id="a zone of the DNS is for other sites too",
        ),
    ],
)
def test_what_the_router_serves_and_to_whom(policy: str, services: str, expected: dict[str, set[str]]) -> None:
    found: dict[str, set[str]] = {}
    for rule in policy_of(policy, services=services).rules:
        assert rule.match.out_zones == ("_fw",)
        for service in rule.match.services or ():
            if service != "ping":
                found.setdefault(service.lower(), set()).update(rule.match.in_zones or ())
    assert found == expected


def test_an_ssh_port_of_ones_own_is_the_one_that_is_open() -> None:
    (service,) = [one for one in policy_of(services="ssh: {port: 2222}").services if one.name == "SSH"]
    assert service.traffic[0].ports[0].first == 2222


def test_a_rule_whose_zones_are_elsewhere_is_not_on_this_router() -> None:
    written = " {rules: [{in: voice, out: vpn}, {in: [voice, lan], out: vpn}, {in: lan, out: dmz}]}"
    found = [
        (rule.origin, rule.match.in_zones) for rule in policy_of(written, "hq1").rules if "derived" not in rule.origin
    ]
    assert found == [("policy.rules[1]", ("lan",))]


def test_internal_addresses_are_masqueraded_unless_the_file_says_otherwise() -> None:
    (nat,) = policy_of().source_nat
    assert (nat.match.out_zones, nat.match.source) == (("internet",), (ip_network("10.0.0.0/8"),))
    assert policy_of(" {source-nat: []}").source_nat == ()
    assert policy_of(" {clamp-mss: []}").clamps == ()


def test_both_directions_are_tracked() -> None:
    marks = policy_of(" {zones: {isp1: {uplinks: [isp1]}}, route-track: [{zone: isp1, mark: 1}]}").marks
    assert [(one.match.in_zones, one.match.out_zones, one.tracks) for one in marks] == [
        (("isp1",), None, True),
        (None, ("isp1",), True),
    ]


def test_the_port_of_dmvpnd_is_dmvpnds() -> None:
    from dmvpn.daemon.control import OVERLAY_PORT

    assert DMVPND_PORT == OVERLAY_PORT


# ---------------------------------------------------------------- a change in sentences

RULES = """
  rules:
    - {in: lan, out: _fw, service: ssh}
    - {in: dmz, out: vpn, action: reject}
"""


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        pytest.param(None, None, (), id="nothing"),
        pytest.param(
            " {}",
            None,
            ("par1 loses its zone policy: nothing is filtered any more but what is GRE in clear",),
            id="it goes",
        ),
        pytest.param(
            None,
            " {}",
            ("par1 gains a zone policy of 10 rules: what none of them lets through is dropped",),
            id="it comes",
        ),
        pytest.param(RULES, f"\n  # a line more\n{RULES}", (), id="only the lines move"),
        pytest.param(
            RULES,
            RULES + "    - {in: internet, out: _fw, service: https, limit: {count: 3, interval: 1m, log: default}}\n",
            (
                "par1: service https comes",
                "par1: rules: gains accept from internet to _fw service https, at most 3 connections in 60 s for each"
                " 32/128/-/- logged as default",
            ),
            id="a rule more",
        ),
        pytest.param(
            RULES,
            RULES.replace("{in: lan, out: _fw, service: ssh}", "X")
            .replace("{in: dmz, out: vpn, action: reject}", "{in: lan, out: _fw, service: ssh}")
            .replace("X", "{in: dmz, out: vpn, action: reject}"),
            ("par1: rules: their order changes",),
            id="their order",
        ),
        pytest.param(
            " {zones: {far: {prefixes: 10.9.0.0/16}}, sets: {s: 10.8.0.0/16}, logs: {l: {}}}",
            " {zones: {far: {prefixes: 10.9.0.0/16, ipsec: true}}, sets: {s: []}, logs: {l: {group: 5}}}",
            (
                "par1: zone far changes: 10.9.0.0/16 in ESP",
                "par1: address set s changes: 0 prefixes",
                "par1: log l changes: NFLOG group 5, at most 1 a second, prefix ''",
            ),
            id="what has a name",
        ),
        pytest.param(
            " {services: {a: {protocol: tcp, ports: 80}}, rules: [{in: lan, out: _fw, service: a}]}",
            " {services: {a: {protocol: [tcp, icmp]}}, rules: [{in: lan, out: _fw, service: a}]}",
            ("par1: service a changes: 6/ 1/@4",),
            id="a service",
        ),
        pytest.param(
            " {}",
            " {source-nat: [{out: internet, to: 192.0.2.9}, {out: internet, exclude: true}], clamp-mss: vpn,"
            " marks: [{in: lan, mark: 7}],"
            " destination-nat: [{in: internet, service: https, to: 10.1.64.5, to-port: 8443}]}",
            (
                "par1: service https comes",
                "par1: source NAT: gains from anywhere to internet",
                "par1: source NAT: gains no translation to internet",
            ),
            id="NAT, sizes and marks",
        ),
    ],
)
def test_a_change_of_the_policy_in_sentences(old: str | None, new: str | None, said: tuple[str, ...]) -> None:
    found = sentences(plan(old), plan(new))
    if "NAT" in "".join(said):
        kinds = {line.split(": ")[1] for line in found}
        assert kinds == {"service https comes", "source NAT", "destination NAT", "segment sizes", "marks"}
        assert "par1: marks: gains from lan: mark 0x7" in found
        return
    assert found == said


def test_the_order_of_zones_and_all_of_a_rule_is_said() -> None:
    old = plan()
    assert old.policy is not None
    turned = replace(old.policy, zones=tuple(reversed(old.policy.zones)))
    assert sentences(old, replace(old, policy=turned)) == ("par1: zones: their order changes",)
    first = old.policy.rules[0]
    for other in (
        replace(first, log="default"),
        replace(first, action=Action.REJECT),
        replace(first, match=replace(first.match, families=(4,))),
        replace(first, match=replace(first.match, services=None)),
    ):
        changed = replace(old.policy, rules=(other, *old.policy.rules[1:]))
        assert any("rules: gains" in line for line in sentences(old, replace(old, policy=changed))), other


# ---------------------------------------------------------------- tests of the file


def asked(test: str, router: str = "par1") -> list[tuple[str | None, str | None, str, str]]:
    network = load(f"{HEAD}policy: {{zones: {{far: {{prefixes: 10.9.0.0/16}}}}, tests: [{test}]}}\n", "network.yaml")
    found = list(questions(network, compile_plan(network, router)))
    ways = (
        (one.device_in, one.device_out, str(one.source), str(one.destination)) for each in found for one in each.packets
    )
    return list(dict.fromkeys(ways))


@pytest.mark.parametrize(
    ("test", "packets"),
    [
        pytest.param(
            "{in: lan, out: internet, service: https, expect: accept}",
            [("eth8", "eth0", "10.1.8.77", "203.0.113.77"), ("eth8", "eth2", "10.1.8.77", "203.0.113.77")],
            id="one for each pair of devices",
        ),
        pytest.param(
            '{in: lan, out: _fw, service: dns, source: "fd00:1:8::5", expect: accept}',
            [("eth8", None, "fd00:1:8::5", "fd00:1:8::1")],
            id="the family of the address that is given",
        ),
        pytest.param(
            "{in: _fw, out: dmz, service: ping, expect: accept}", [(None, "eth64", "10.1.64.1", "10.1.64.78")], id="own"
        ),
        pytest.param(
            "{in: far, out: dmz, service: ping, expect: accept}",
            [("acme-blue", "eth64", "10.9.0.77", "10.1.64.78"), ("acme-green", "eth64", "10.9.0.77", "10.1.64.78")],
            id="addresses that no network has are behind the clouds",
        ),
        pytest.param(
            "{in: lan, out: lan, service: ping, expect: drop}",
            [("eth8", "eth8", "10.1.8.77", "10.1.8.78")],
            id="back by the same device, where there is no other",
        ),
        pytest.param("{in: lan, out: dmz, service: ping, router: hq1, expect: drop}", [], id="another router's"),
        pytest.param(
            "{in: vpn, out: vpn, service: ping, router: par1, destination: 10.7.0.1, expect: accept}",
            [
                (come, go, "10.255.255.254", "10.7.0.1")
                for come in ("acme-blue", "acme-green")
                for go in ("acme-blue", "acme-green")
            ],
            id="a hub's way back",
        ),
    ],
)
def test_the_packets_that_a_test_means(test: str, packets: list[tuple[str | None, str | None, str, str]]) -> None:
    assert asked(test) == packets


def test_a_router_without_policy_is_not_asked() -> None:
    network = load(HEAD, "network.yaml")
    assert list(questions(network, compile_plan(network, "par1"))) == []
