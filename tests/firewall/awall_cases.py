"""Small policies of awall's, and packets with the verdicts that awall gives them: derived by hand, one rule each."""

import json
from dataclasses import dataclass

from dmvpn.firewall.assembly import assemble
from dmvpn.firewall.awall.translation import Source, translate
from dmvpn.firewall.ruleset import Ruleset

DEVICES = {
    "eth0": ("192.0.2.2/24", "2001:db8::2/64"),
    "eth1": ("10.1.0.1/24", "fd00:1::1/64"),
    "eth2": ("10.2.0.1/24", "fd00:2::1/64"),
}
WORLD, WORLD6 = "192.0.2.9", "2001:db8::9"
LAN, LAN6 = "10.1.0.9", "fd00:1::9"
DMZ, DMZ6 = "10.2.0.9", "fd00:2::9"
US = {"eth0": "192.0.2.2", "eth1": "10.1.0.1", "eth2": "10.2.0.1"}
E, B, C, FW = "eth0", "eth1", "eth2", "_fw"
ZONES = {"E": {"iface": E}, "B": {"iface": B}, "C": {"iface": C}}
Row = tuple[str, str, str, str, str]


@dataclass(frozen=True)
class Case:
    """A policy's sections beside ZONES, and packets: device, source, destination, service, verdict."""

    name: str
    sections: dict[str, object]
    rows: tuple[Row, ...]


def case(name: str, *rows: Row, **sections: object) -> Case:
    return Case(name, {word.replace("_", "-"): value for word, value in sections.items()}, rows)


ACCEPT, DROP, REJECT = "accept", "drop", "reject"
IN_HTTP = (E, WORLD, US[E], "tcp/80")
THROUGH_HTTP = (E, WORLD, LAN, "tcp/80")
OUT_HTTP = (FW, US[E], WORLD, "tcp/80")

CASES = [
    # ---- which chains a rule stands in
    case("nothing is let through by itself", (*IN_HTTP, DROP), (*THROUGH_HTTP, DROP), (*OUT_HTTP, DROP)),
    case(
        "in alone is for the router and through it",
        (*IN_HTTP, ACCEPT),
        (*THROUGH_HTTP, ACCEPT),
        (*OUT_HTTP, DROP),
        (B, LAN, US[B], "tcp/80", DROP),
        filter=[{"in": "E", "service": "http"}],
    ),
    case(
        "out alone is the router's own and through it",
        (*IN_HTTP, DROP),
        (*OUT_HTTP, ACCEPT),
        (B, LAN, WORLD, "tcp/80", ACCEPT),
        (*THROUGH_HTTP, DROP),
        filter=[{"out": "E", "service": "http"}],
    ),
    case(
        "neither is everywhere",
        (*IN_HTTP, ACCEPT),
        (*THROUGH_HTTP, ACCEPT),
        (*OUT_HTTP, ACCEPT),
        (E, WORLD, US[E], "tcp/81", DROP),
        filter={"service": "http"},
    ),
    case(
        "_fw as out is for the router only",
        (*IN_HTTP, ACCEPT),
        (*THROUGH_HTTP, DROP),
        filter=[{"in": "E", "out": "_fw", "service": "http"}],
    ),
    case(
        "_fw as in is the router's own only",
        (*OUT_HTTP, ACCEPT),
        (B, LAN, WORLD, "tcp/80", DROP),
        filter=[{"in": "_fw", "out": "E", "service": "http"}],
    ),
    case(
        "_fw in a list of zones",
        (*IN_HTTP, ACCEPT),
        (*THROUGH_HTTP, ACCEPT),
        (E, WORLD, DMZ, "tcp/80", DROP),
        filter=[{"in": "E", "out": ["_fw", "B"], "service": "http"}],
    ),
    case("_fw to _fw is nothing", (*IN_HTTP, DROP), (*OUT_HTTP, DROP), filter=[{"in": "_fw", "out": "_fw"}]),
    case(
        "zone to zone is forwarded only",
        (*THROUGH_HTTP, ACCEPT),
        (*IN_HTTP, DROP),
        (B, LAN, WORLD, "tcp/80", DROP),
        filter=[{"in": "E", "out": "B", "service": "http"}],
    ),
    # ---- zones
    case(
        "from a device to the same one only with route-back",
        (B, LAN, "10.1.0.8", "tcp/80", DROP),
        (C, DMZ, "10.2.0.8", "tcp/80", ACCEPT),
        zone={"C": {"iface": C, "route-back": True}},
        filter=[{"in": "B", "out": "B"}, {"in": "C", "out": "C"}],
    ),
    case(
        "the out zone decides about route-back, where zones overlap",
        (B, LAN, WORLD, "tcp/80", ACCEPT),
        (E, WORLD, "192.0.2.8", "tcp/80", DROP),
        (C, DMZ, "10.2.0.8", "tcp/80", DROP),
        zone={"all": {"iface": [E, B, C]}, "C": {"iface": C, "route-back": True}},
        filter=[{"in": ["all", "C"], "out": ["E", "all"]}],
    ),
    case(
        "route-back is no question without a zone to go to",
        (B, LAN, "10.1.0.8", "tcp/80", ACCEPT),
        filter=[{"in": "B"}],
    ),
    case(
        "a zone's addresses are the source coming and the destination going",
        (B, LAN, WORLD, "tcp/80", ACCEPT),
        (B, "10.1.0.200", WORLD, "tcp/80", DROP),
        (B, LAN6, WORLD6, "tcp/80", ACCEPT),
        (E, WORLD, LAN, "tcp/80", ACCEPT),
        (E, WORLD, "10.1.0.200", "tcp/80", DROP),
        zone={"B": {"iface": B, "addr": ["10.1.0.0/25", "fd00:1::/64"]}},
        filter=[{"in": "B", "out": "E"}, {"in": "E", "out": "B"}],
    ),
    case(
        "addresses of one family keep the rule to that family",
        (B, LAN, WORLD, "tcp/80", ACCEPT),
        (B, LAN6, WORLD6, "tcp/80", DROP),
        zone={"B": {"addr": "10.1.0.0/24"}},
        filter=[{"in": "B", "out": "E"}],
    ),
    case(
        "a zone that is an empty list is nothing",
        (B, LAN, WORLD, "tcp/80", DROP),
        zone={"B": {"iface": []}},
        filter=[{"in": "B"}, {"in": ["B"], "out": "E"}],
    ),
    case(
        "all devices that begin so",
        (B, LAN, US[B], "tcp/80", ACCEPT),
        (E, WORLD, US[E], "tcp/80", ACCEPT),
        zone={"any": {"iface": "eth+"}},
        filter=[{"in": "any", "out": "_fw", "service": "http"}],
    ),
    case(
        "what begins so does not go back to what begins so",
        (B, LAN, WORLD, "tcp/80", DROP),
        zone={"any": {"iface": "eth+"}},
        filter=[{"in": "any", "out": "any"}],
    ),
    case(
        "devices that begin so, and others, to zones that share one of them",
        (E, WORLD, LAN, "tcp/80", ACCEPT),
        (C, DMZ, LAN, "tcp/80", ACCEPT),
        (C, DMZ, WORLD, "tcp/80", DROP),
        zone={"some": {"iface": ["eth+", "ppp0"]}, "B": {"iface": [B, "ppp0"]}},
        filter=[{"in": "some", "out": "B"}],
    ),
    # ---- order
    case(
        "the first filter that fits decides",
        (*IN_HTTP, DROP),
        (E, WORLD, US[E], "tcp/81", ACCEPT),
        filter=[{"in": "E", "service": "http", "action": "drop"}, {"in": "E", "action": "accept"}],
    ),
    case(
        "policies are behind all filters",
        (*IN_HTTP, ACCEPT),
        (E, WORLD, US[E], "tcp/81", REJECT),
        policy=[{"in": "E", "action": "reject"}],
        filter=[{"in": "E", "service": "http"}],
    ),
    case(
        "pass leaves it to the next",
        (*IN_HTTP, REJECT),
        filter=[{"in": "E", "action": "pass"}, {"in": "E", "service": "http", "action": "reject"}],
    ),
    case(
        "reject is port unreachable, for TCP and IPv6 too",
        (*IN_HTTP, REJECT),
        (*THROUGH_HTTP, REJECT),
        (E, WORLD6, LAN6, "udp/53", REJECT),
        (B, LAN, US[B], "tcp/80", DROP),
        filter=[{"in": "E", "action": "reject"}],
    ),
    # ---- ICMP by itself
    case(
        "ICMP errors pass by themselves, pings do not",
        (E, WORLD, US[E], "icmp/3", ACCEPT),
        (E, WORLD, LAN, "icmp/11", ACCEPT),
        (E, WORLD, LAN, "icmp/12", ACCEPT),
        (E, WORLD, US[E], "icmp/8", DROP),
        (E, WORLD, LAN, "icmp/5", DROP),
        (E, WORLD6, LAN6, "icmpv6/2", ACCEPT),
        (E, WORLD6, LAN6, "icmpv6/128", DROP),
        (E, WORLD6, "2001:db8::2", "icmpv6/128", ACCEPT),
    ),
    case(
        "a filter may stop ICMP errors, a policy cannot",
        (E, WORLD, US[E], "icmp/3", DROP),
        (B, LAN, US[B], "icmp/3", ACCEPT),
        filter=[{"in": "E", "service": "icmp", "action": "drop"}],
        policy=[{"in": "B", "action": "drop"}],
    ),
    # ---- services
    case(
        "a service is all its definitions, a list all its services",
        (E, WORLD, US[E], "tcp/53", ACCEPT),
        (E, WORLD, US[E], "udp/53", ACCEPT),
        (E, WORLD, US[E], "tcp/22", ACCEPT),
        (E, WORLD, US[E], "udp/22", DROP),
        (E, WORLD, US[E], "esp", ACCEPT),
        (E, WORLD, US[E], "udp/4500", ACCEPT),
        (E, WORLD, US[E], "gre", DROP),
        filter=[{"in": "E", "service": ["dns", "ssh", "ipsec"]}],
    ),
    case(
        "ports, ranges, numbers of protocols, types, families",
        (E, WORLD, US[E], "tcp/8001", ACCEPT),
        (E, WORLD, US[E], "tcp/8011", DROP),
        (E, WORLD, US[E], "tcp/9000", ACCEPT),
        (E, WORLD, US[E], "ospf", ACCEPT),
        (E, WORLD, US[E], "icmp/13", ACCEPT),
        (E, WORLD, US[E], "icmp/14", DROP),
        (E, WORLD, US[E], "udp/7000", DROP),
        (E, WORLD6, "2001:db8::2", "udp/7000", ACCEPT),
        service={
            "mine": [
                {"proto": "tcp", "port": ["8000-8010", 9000]},
                {"proto": 89},
                {"proto": "icmp", "type": 13},
                {"proto": "udp", "port": 7000, "family": "inet6"},
            ]
        },
        filter=[{"in": "E", "out": "_fw", "service": "mine"}],
    ),
    case(
        "a definition replaces the service that awall brings",
        (*IN_HTTP, DROP),
        (E, WORLD, US[E], "tcp/8080", ACCEPT),
        service={"http": {"proto": "tcp", "port": 8080}},
        filter=[{"in": "E", "service": "http"}],
    ),
    # ---- addresses of rules
    case(
        "src and dest, one or several, of both families",
        (B, LAN, WORLD, "tcp/80", ACCEPT),
        (B, "10.1.0.8", WORLD, "tcp/80", DROP),
        (B, LAN, "192.0.2.8", "tcp/80", DROP),
        (B, LAN6, WORLD6, "tcp/80", ACCEPT),
        (B, LAN6, "2001:db8::8", "tcp/80", DROP),
        filter=[{"in": "B", "src": [LAN, LAN6], "dest": [WORLD, WORLD6]}],
    ),
    case(
        "an address of the rule and of the zone must both fit",
        (B, LAN, WORLD, "tcp/80", ACCEPT),
        (B, "10.1.0.200", WORLD, "tcp/80", DROP),
        (B, "10.1.0.100", WORLD, "tcp/80", DROP),
        zone={"B": {"iface": B, "addr": "10.1.0.0/25"}},
        filter=[{"in": "B", "src": ["10.1.0.0/26", "10.1.0.192/26"]}],
    ),
    # ---- IPsec
    case(
        "what must come out of ESP does not come in clear",
        (E, WORLD, US[E], "gre", DROP),
        (B, LAN, US[B], "gre", ACCEPT),
        (C, DMZ, US[C], "gre", DROP),
        zone={"E": {"iface": E, "ipsec": True}, "B": {"iface": B, "ipsec": False}},
        filter=[{"in": ["E", "B"], "service": "gre"}, {"in": "C", "ipsec": "in", "service": "gre"}],
    ),
    # ---- NAT by a filter
    case(
        "dnat of a filter: IPv4 to the host inside, IPv6 as it was",
        (E, WORLD, US[E], "tcp/80", ACCEPT),
        (E, WORLD, DMZ, "tcp/80", ACCEPT),
        (E, WORLD, LAN, "tcp/80", ACCEPT),  # whatever address it was for
        (E, WORLD6, LAN6, "tcp/80", ACCEPT),
        (E, WORLD, US[E], "tcp/443", DROP),
        filter=[{"in": "E", "service": "http", "dnat": DMZ}],
    ),
    case(
        "dnat of a filter to another port",
        (E, WORLD, US[E], "tcp/80", ACCEPT),
        (E, WORLD, DMZ, "tcp/8080", ACCEPT),
        filter=[{"in": "E", "out": "C", "service": "http", "dnat": {"addr": DMZ, "port": 8080}}],
    ),
    case(
        "variables, whole and inside of strings, defined behind their use",
        (E, WORLD, US[E], "tcp/8001", ACCEPT),
        (E, WORLD, US[E], "tcp/80", DROP),
        service={"mine": {"proto": "tcp", "port": "$first-8010"}},
        filter=[{"in": "$from", "service": "mine"}],
        variable={"first": 8000, "from": ["E", "$other"], "other": "B"},
    ),
]


def assembled(sections: dict[str, object]) -> Ruleset:
    zones = sections.get("zone")
    whole = {**sections, "zone": {**ZONES, **(zones if isinstance(zones, dict) else {})}}
    return assemble(translate([Source("case.json", json.dumps(whole, indent=1))]).policy)
