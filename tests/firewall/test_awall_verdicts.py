"""awall's meaning, rule by rule: small policies, and what the kernel does with real packets under them."""

import os
from collections.abc import Iterator
from ipaddress import ip_address

import kernel_verdicts as kernel
import pytest
from awall_cases import CASES, DEVICES, DMZ, LAN, LAN6, US, WORLD, WORLD6, B, C, Case, E, assembled

from dmvpn.firewall import nft

pytestmark = pytest.mark.kernel


@pytest.fixture(scope="module")
def plain_router() -> Iterator[kernel.Router]:
    if os.geteuid() != 0:
        pytest.skip("network namespaces need root")
    with kernel.router(DEVICES, {}, {WORLD: E, WORLD6: E, LAN: B, DMZ: C}) as found:
        yield found


def rules_of(sections: dict[str, object]) -> str:
    return "table inet tried {\n" + "\n".join(nft.lines(assembled(sections))) + "\n}\n"


@pytest.mark.parametrize("one", CASES, ids=lambda one: one.name)
def test_packets_have_the_verdicts_that_awall_gives_them(plain_router: kernel.Router, one: Case) -> None:
    plain_router.load(rules_of(one.sections))
    wrong = [
        f"{device} {source} -> {destination} {service}: {found}, not {expected}"
        for device, source, destination, service, expected in one.rows
        if (found := plain_router.verdict(device, kernel.packet(source, destination, service))) != expected
    ]
    assert wrong == []


def verdicts(router: kernel.Router, device: str, packets: list[bytes]) -> str:
    return "".join(router.verdict(device, packet)[0] for packet in packets)


def syns(count: int, source: str = WORLD, destination: str = US[E]) -> list[bytes]:
    return [kernel.packet(source, destination, "tcp/22") for _ in range(count)]


def test_conn_limit_counts_connections_of_each_source(plain_router: kernel.Router) -> None:
    limit = {"count": 3, "interval": 600}
    plain_router.load(rules_of({"filter": [{"in": "E", "service": "ssh", "conn-limit": limit}]}))
    assert verdicts(plain_router, E, syns(5)) == "aaadd"
    assert verdicts(plain_router, E, syns(1, "192.0.2.10")) == "a"


def test_a_limit_of_none_drops_all(plain_router: kernel.Router) -> None:
    plain_router.load(rules_of({"filter": [{"in": "E", "service": "ssh", "conn-limit": 0}]}))
    assert verdicts(plain_router, E, syns(2)) == "dd"


@pytest.mark.parametrize(
    ("mask", "sources", "expected"),
    [
        pytest.param({"src-mask": 24}, ("192.0.2.9", "192.0.2.10", "198.51.100.9"), "ada", id="hosts of one prefix"),
        pytest.param({"src-mask": False}, ("192.0.2.9", "198.51.100.9"), "ad", id="all together"),
        pytest.param({"dest-mask": True}, ("192.0.2.9", "198.51.100.9"), "ad", id="each destination"),
        pytest.param({"src-mask": {"inet": 16}}, ("192.0.2.9", "192.0.3.9", "10.0.0.1"), "ada", id="by family"),
    ],
)
def test_whom_a_limit_tells_apart(
    plain_router: kernel.Router, mask: dict[str, object], sources: tuple[str, ...], expected: str
) -> None:
    limit = {"count": 1, "interval": 600, **mask}
    plain_router.load(rules_of({"filter": [{"in": "E", "service": "ssh", "conn-limit": limit}]}))
    assert verdicts(plain_router, E, [syns(1, source)[0] for source in sources]) == expected


def test_limits_of_one_name_are_one_count(plain_router: kernel.Router) -> None:
    limit = {"count": 2, "interval": 600, "name": "logins"}
    filters = [{"in": zone, "service": "ssh", "conn-limit": limit} for zone in ("E", "B")]
    plain_router.load(rules_of({"filter": filters}))
    assert verdicts(plain_router, E, syns(2)) == "aa"
    assert verdicts(plain_router, B, syns(1)) == "d"


def test_flow_limit_counts_packets_of_established_connections(plain_router: kernel.Router) -> None:
    limit = {"count": 3, "interval": 600}
    plain_router.load(rules_of({"filter": [{"in": "E", "service": "ping", "flow-limit": limit}]}))
    assert verdicts(plain_router, E, [kernel.packet(WORLD, US[E], "icmp/8")] * 5) == "aaadd"


NAT_RULES = {"filter": [{}], "policy": [{"action": "accept"}]}


def source_of(frame: bytes | None) -> str | None:
    return None if frame is None else ".".join(map(str, frame[12:16]))


@pytest.mark.parametrize(
    ("snat", "expected"),
    [
        pytest.param([{"out": "E"}], US[E], id="masquerade"),
        pytest.param([{"out": "E", "to-addr": "192.0.2.77"}], "192.0.2.77", id="an address"),
        pytest.param([{"out": "E", "to-addr": "192.0.2.77-192.0.2.77"}], "192.0.2.77", id="a range"),
        pytest.param([{"out": "C"}], LAN, id="another zone"),
        pytest.param([{"out": "E", "action": "exclude"}, {"out": "E"}], LAN, id="excluded before"),
        pytest.param([{"out": "E"}, {"out": "E", "action": "exclude"}], US[E], id="excluded too late"),
        pytest.param([{"out": "E", "src": "10.9.0.0/16"}], LAN, id="other sources"),
        pytest.param([{"out": "E", "family": "inet6"}], LAN, id="the other family"),
    ],
)
def test_source_nat(plain_router: kernel.Router, snat: list[dict[str, object]], expected: str) -> None:
    plain_router.load(rules_of({**NAT_RULES, "snat": snat}))
    assert plain_router.verdict(B, kernel.packet(LAN, WORLD, "tcp/80")) == "accept"
    assert source_of(plain_router.came_out(E)) == expected


def test_source_nat_leaves_ipv6_alone_unless_it_is_told(plain_router: kernel.Router) -> None:
    plain_router.load(rules_of({**NAT_RULES, "snat": [{"out": "E"}]}))
    assert plain_router.verdict(B, kernel.packet(LAN6, WORLD6, "tcp/80")) == "accept"
    out = plain_router.came_out(E)
    assert out is not None
    assert out[8:24] == ip_address(LAN6).packed


@pytest.mark.parametrize(
    ("dnat", "service", "out", "expected"),
    [
        pytest.param({"to-addr": DMZ}, "tcp/80", C, (DMZ, 80), id="to a host"),
        pytest.param({"to-addr": DMZ, "to-port": 8080}, "tcp/80", C, (DMZ, 8080), id="to its port"),
        pytest.param({"to-addr": DMZ}, "tcp/81", B, (LAN, 81), id="another service"),
    ],
)
def test_destination_nat(
    plain_router: kernel.Router, dnat: dict[str, object], service: str, out: str, expected: tuple[str, int]
) -> None:
    plain_router.load(rules_of({**NAT_RULES, "dnat": [{"in": "E", "service": "http", **dnat}]}))
    assert plain_router.verdict(E, kernel.packet(WORLD, LAN, service)) == "accept"
    found = plain_router.came_out(out)
    assert found is not None
    assert (".".join(map(str, found[16:20])), int.from_bytes(found[22:24], "big")) == expected


def test_destination_nat_without_an_address_is_to_the_router(plain_router: kernel.Router) -> None:
    filters = [{"in": "E", "out": "_fw", "service": "http-alt"}]
    plain_router.load(rules_of({"filter": filters, "dnat": [{"in": "E", "service": "http", "to-port": 8080}]}))
    assert plain_router.verdict(E, kernel.packet(WORLD, LAN, "tcp/80")) == "accept"


def test_the_segment_size_is_clamped_on_the_way_out(plain_router: kernel.Router) -> None:
    plain_router.load(rules_of({**NAT_RULES, "clamp-mss": [{"out": "E", "mss": 1300}]}))
    for device, host, mss in ((E, WORLD, 1300), (C, DMZ, 1460)):
        assert plain_router.verdict(B, kernel.packet(LAN, host, "tcp/80")) == "accept"
        out = plain_router.came_out(device)
        assert out is not None
        assert int.from_bytes(out[42:44], "big") == mss


def marked(router: kernel.Router, mark: int) -> int:
    listed = kernel.run("nft", "list", "counter", "inet", "marks", f"mark{mark}")
    return int(listed.split("packets ")[1].split()[0])


def with_marks(rules: str) -> str:
    """The rules, and counters of marks that packets leave with."""
    counters = "\n".join(f"counter mark{mark} {{ }}" for mark in (1, 2))
    counted = "\n".join(f"meta mark & 0xffff == {mark} counter name mark{mark}" for mark in (1, 2))
    chain = f"chain out {{ type filter hook postrouting priority 300\n{counted}\n}}"
    return f"{rules}table inet marks {{\n{counters}\n{chain}\n}}\n"


def test_route_track_marks_whole_connections(plain_router: kernel.Router) -> None:
    tracks = [{"out": "E", "mark": 1}, {"in": "C", "mark": 2}]
    plain_router.load(with_marks(rules_of({**NAT_RULES, "route-track": tracks})))
    assert plain_router.verdict(B, kernel.packet(LAN, WORLD, "tcp/80", own=1001)) == "accept"
    assert marked(plain_router, 1) == 1
    answer = kernel.packet(WORLD, LAN, "tcp/1001", own=80, flags=kernel.SYN | kernel.ACK)
    assert plain_router.verdict(E, answer) == "accept"
    assert marked(plain_router, 1) == 2
    assert plain_router.verdict(C, kernel.packet(DMZ, LAN, "tcp/80", own=1002)) == "accept"
    answer = kernel.packet(LAN, DMZ, "tcp/1002", own=80, flags=kernel.SYN | kernel.ACK)
    assert plain_router.verdict(B, answer) == "accept"
    assert (marked(plain_router, 1), marked(plain_router, 2)) == (2, 2)


def test_mark_marks_packets(plain_router: kernel.Router) -> None:
    plain_router.load(with_marks(rules_of({**NAT_RULES, "mark": [{"in": "B", "service": "http", "mark": 1}]})))
    for service in ("tcp/80", "tcp/81"):
        assert plain_router.verdict(B, kernel.packet(LAN, WORLD, service)) == "accept"
    assert marked(plain_router, 1) == 1


def test_an_ipset_is_filled_while_the_rules_are_in_force(plain_router: kernel.Router) -> None:
    sets = {"known": {"type": "hash:net", "family": "inet"}}
    filters = [{"in": "E", "ipset": {"name": "known", "args": "in"}, "service": "ssh"}]
    plain_router.load(rules_of({"ipset": sets, "filter": filters}))
    assert verdicts(plain_router, E, syns(1)) == "d"
    kernel.run("nft", "add", "element", "inet", "tried", "set.known.ip", "{ 192.0.2.0/28 }")
    assert verdicts(plain_router, E, syns(1)) == "a"
    assert verdicts(plain_router, E, syns(1, "192.0.2.99")) == "d"
