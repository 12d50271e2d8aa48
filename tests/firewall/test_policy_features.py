"""What a policy does beyond a verdict, in a kernel: limits, NAT, marks, segment sizes, logs, and a reload."""

import struct
import time
from collections.abc import Iterable
from dataclasses import replace
from ipaddress import ip_address

import pytest
from firewall_questions import rules_of, site_plan
from firewall_wires import ICMP, TCP, UDP, Wires, number_of, octets_of, run

from dmvpn.firewall.ruleset import State
from dmvpn.firewall.verdicts import Packet
from dmvpn.linux.nflog import LoggedPackets

pytestmark = pytest.mark.kernel

LAN, DMZ, WEB = "10.1.8.77", "10.1.64.77", "203.0.113.77"
OWN = "198.51.100.2"  # on eth0, which 203.0.113.77 and the 29 after it are behind


def packet(come: str | None, source: str, go: str | None, destination: str, protocol: int, port: int) -> Packet:
    kind = port if protocol == ICMP else None
    return Packet(
        come, go, ip_address(source), ip_address(destination), protocol, None if kind is not None else port, type=kind
    )


def several(one: Packet, count: int, first: int = 1) -> list[tuple[int, Packet]]:
    """The same from other ports: so many connections."""
    return [(number, replace(one, source_port=10000 + number)) for number in range(first, first + count)]


def passed(wires: Wires, packets: Iterable[tuple[int, Packet]]) -> list[int]:
    return [number for number, fate in wires.send(packets).items() if fate.out is not None]


def load(wires: Wires, policy: str) -> None:
    wires.nft(rules_of(site_plan(policy)))


# ---------------------------------------------------------------- limits

SSH = """
  rules: [{in: internet, out: _fw, service: ssh, limit: {count: 3, interval: 60s%s}}]
"""


def test_a_source_gets_as_many_connections_as_the_limit_says(wires: Wires) -> None:
    load(wires, SSH % "")
    one = packet("eth0", WEB, None, OWN, TCP, 22)
    assert passed(wires, several(one, 6)) == [1, 2, 3]
    assert passed(wires, several(one, 3, 10)) == [], "nothing more for this source"
    other = replace(one, source=ip_address("203.0.113.78"))
    assert passed(wires, several(other, 5, 20)) == [20, 21, 22], "each source has its own count"
    assert wires.counters("dmvpn_fw")["dropped.policy.rules.0"] == 3 + 3 + 2


def test_a_limit_over_ipv6_counts_the_prefix(wires: Wires) -> None:
    load(wires, SSH % ", ipv6-length: 64")
    one = packet("eth0", "2001:db8:1::77", None, "2001:db8:1::2", TCP, 22)
    hosts = [(n, replace(each, source=ip_address("2001:db8:1::77") + n)) for n, each in several(one, 6)]
    assert passed(wires, hosts) == [1, 2, 3]


def test_a_limit_for_all_together(wires: Wires) -> None:
    load(wires, SSH % ", each: all")
    one = packet("eth0", WEB, None, OWN, TCP, 22)
    hosts = [(number, replace(each, source=ip_address(WEB) + number)) for number, each in several(one, 6)]
    assert passed(wires, hosts) == [1, 2, 3]


def test_a_limit_on_packets_counts_those_of_a_connection_too(wires: Wires) -> None:
    load(
        wires,
        "\n  rules: [{in: internet, out: _fw, service: ping, limit: {count: 10, interval: 60s, counts: packets}}]",
    )
    ping = packet("eth0", WEB, None, OWN, ICMP, 8)
    # One number is one identifier, so these are one connection, which is established once it was answered.
    for _ in range(15):
        wires._send(octets_of(1, ping, answer=False), "eth0", ping.destination)
    wires.collect()
    assert wires.counters("dmvpn_fw")["dropped.policy.rules.0"] == 5


def test_a_limit_lets_in_again_as_time_goes_on(wires: Wires) -> None:
    """The documented difference to awall's xt_recent: refused attempts do not prolong the block."""
    load(wires, (SSH % "").replace("count: 3, interval: 60s", "count: 2, interval: 2s"))
    one = packet("eth0", WEB, None, OWN, TCP, 22)
    assert passed(wires, several(one, 4)) == [1, 2]
    let_in, number, end = 0, 100, time.monotonic() + 3.0
    while time.monotonic() < end:
        let_in += len(passed(wires, several(one, 1, number)))
        number += 1
    assert 1 <= let_in <= 4, "one a second, though it never stopped trying"


# ---------------------------------------------------------------- NAT


def sent(wires: Wires, number: int, one: Packet, within_s: float = 10.0) -> bytes | None:
    """A packet's octets as they came out on a wire."""
    wires.collect()
    wires._send(octets_of(number, one, answer=one.state is State.ESTABLISHED), one.device_in, one.destination)
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        for opened in wires.sockets.values():
            try:
                frame, address = opened.recvfrom(2048)
            except BlockingIOError:
                continue
            if address[2] != 4 and number_of(frame[14:]) == number:
                return frame[14:]
        time.sleep(0.005)
    return None


def addresses(octets: bytes | None) -> tuple[str, str]:
    assert octets is not None, "it came out nowhere"
    if octets[0] >> 4 == 4:
        return str(ip_address(octets[12:16])), str(ip_address(octets[16:20]))
    return str(ip_address(octets[8:24])), str(ip_address(octets[24:40]))


def ports_of(octets: bytes | None) -> tuple[int, int]:
    assert octets is not None
    return struct.unpack("!HH", octets[20:24])


def test_internal_addresses_go_out_by_the_uplinks_own_and_stay_inside_otherwise(wires: Wires) -> None:
    load(wires, " {}")
    out = packet("eth8", LAN, "eth0", WEB, TCP, 443)
    assert addresses(sent(wires, 1, out)) == (OWN, WEB)
    inside = packet("eth8", LAN, "fw-blue", "10.9.9.77", TCP, 443)
    assert addresses(sent(wires, 2, inside)) == (LAN, "10.9.9.77")
    six = packet("eth8", "fd00:1:8::4d", "eth0", "2001:db8:1::77", TCP, 443)
    assert addresses(sent(wires, 3, six)) == ("fd00:1:8::4d", "2001:db8:1::77"), "IPv6 is not translated"


def test_internal_addresses_never_leave_by_an_uplink(wires: Wires) -> None:
    """The tunnel's route is gone, and the default route takes over."""
    load(wires, " {}")
    run("ip", "-n", wires.router, "route", "replace", "10.9.9.77/32", "via", "203.0.113.77", "dev", "eth0", "onlink")
    lost = packet("eth8", LAN, "fw-blue", "10.9.9.77", TCP, 443)
    fate = wires.send([(1, lost)])[1]
    assert (fate.out, fate.refused) == (None, True)
    forged = packet("eth0", "10.1.64.99", "eth8", LAN, TCP, 443)
    assert wires.send([(2, forged)])[2].out is None
    counters = wires.counters("dmvpn_fw")
    assert (counters["dropped.lost"], counters["dropped.forged"]) == (1, 1)


FORWARDED = """
  destination-nat:
    - {in: internet, service: https, to: [10.1.64.77, "fd00:1:64::4d"], to-port: 8443}
    - {in: internet, service: smtp, destination: 203.0.113.200/32, to: 10.1.64.78}
  source-nat:
    - {out: internet, source: 10.1.9.0/24, exclude: true}
    - {out: internet, source: 10.1.8.0/24, to: 198.51.100.99}
    - {out: internet}
"""


def test_a_forwarded_port_reaches_the_inner_host_and_nothing_else_does(wires: Wires) -> None:
    load(wires, FORWARDED)
    asked = replace(packet("eth0", WEB, "eth64", OWN, TCP, 443), source_port=10001)
    octets = sent(wires, 1, asked)
    assert (addresses(octets), ports_of(octets)) == ((WEB, DMZ), (10001, 8443))
    answered = replace(packet("eth64", DMZ, "eth0", WEB, TCP, 10001), source_port=8443, state=State.ESTABLISHED)
    back = sent(wires, 2, answered)
    assert (addresses(back), ports_of(back)) == ((OWN, WEB), (443, 10001))
    straight = packet("eth0", WEB, "eth64", DMZ, TCP, 8443)
    assert sent(wires, 3, replace(straight, source_port=10003), 1.0) is None, "the inner host itself is not open"
    six = replace(packet("eth0", "2001:db8:1::77", "eth64", "2001:db8:1::2", TCP, 443), source_port=10004)
    assert addresses(sent(wires, 4, six)) == ("2001:db8:1::77", "fd00:1:64::4d")
    mail = replace(packet("eth0", WEB, "eth64", "203.0.113.200", TCP, 25), source_port=10005)
    assert addresses(sent(wires, 5, mail)) == (WEB, "10.1.64.78")


def test_source_nat_takes_the_first_that_fits(wires: Wires) -> None:
    load(wires, FORWARDED)
    for number, device, source, seen in (
        (1, "eth8", LAN, "198.51.100.99"),
        (2, "eth9", "10.1.9.77", "10.1.9.77"),
        (3, "eth64", DMZ, OWN),
    ):
        out = replace(packet(device, source, "eth0", WEB, TCP, 443), source_port=10000 + number)
        assert addresses(sent(wires, number, out)) == (seen, WEB)


# ---------------------------------------------------------------- marks, sizes, logs

TRACKED = """
  zones: {isp1: {uplinks: [isp1]}, isp2: {uplinks: [isp2]}}
  destination-nat: [{in: internet, service: https, to: 10.1.64.77}]
  marks: [{in: voice, mark: 7}]
  route-track: [{zone: isp1, mark: 1}, {zone: isp2, mark: 2}]
"""
SEEN = """
table inet marks {
    counter seven { }
    counter kept { }
    chain seen {
        type filter hook postrouting priority 400; policy accept;
        iifname "eth80" meta mark & 0xffff == 7 counter name seven
        meta mark & 0xff0000 == 0x420000 counter name kept
    }
    chain before {
        type filter hook prerouting priority raw; policy accept;
        iifname "eth80" meta mark set 0x420000
    }
}
"""


def test_an_answer_leaves_where_its_question_came_in(wires: Wires) -> None:
    """route-track in both directions, as awall's documentation says and its rules do not."""
    load(wires, TRACKED)
    ip = ("ip", "-n", wires.router)
    far = "203.0.113.117"  # behind eth1, by the main table
    for mark, device in ((1, "eth0"), (2, "eth1")):
        run(*ip, "route", "add", far, "via", "203.0.113.77", "dev", device, "table", str(mark), "onlink")
        run(*ip, "rule", "add", "fwmark", f"{mark}/0xffff", "lookup", str(mark))
    run(*ip, "neigh", "add", "203.0.113.77", "lladdr", "02:00:00:00:bb:00", "dev", "eth1", "nud", "permanent")
    asked = replace(packet("eth0", far, "eth64", OWN, TCP, 443), source_port=10001)
    assert addresses(sent(wires, 1, asked)) == (far, DMZ)
    answer = replace(packet("eth64", DMZ, "eth1", far, TCP, 10001), source_port=443, state=State.ESTABLISHED)
    assert wires.send([(2, answer)])[2].out == "eth0", "it came in there"
    fresh = replace(packet("eth64", DMZ, "eth1", far, TCP, 443), source_port=10003)
    assert wires.send([(3, fresh)])[3].out == "eth1", "a connection of our own takes the main table"


def test_a_mark_leaves_other_bits_alone(wires: Wires) -> None:
    load(wires, TRACKED)
    wires.nft(SEEN)
    assert wires.send([(1, packet("eth80", "10.1.80.77", "fw-blue", "10.9.9.77", TCP, 443))])[1].out == "fw-blue"
    assert wires.counters("marks") == {"seven": 1, "kept": 1}


def test_segments_fit_the_uplink(wires: Wires) -> None:
    load(wires, " {}")
    run("ip", "-n", wires.router, "link", "set", "eth0", "mtu", "1400")
    one = octets_of(1, replace(packet("eth8", LAN, "eth0", WEB, TCP, 443), source_port=10001), answer=False)
    syn = _with_mss(one, 1460)
    wires.collect()
    wires._send(syn, "eth8", ip_address(WEB))
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            frame = wires.sockets["eth0"].recv(2048)
        except BlockingIOError:
            time.sleep(0.005)
            continue
        if number_of(frame[14:]) == 1:
            assert struct.unpack("!H", frame[14 + 42 : 14 + 44])[0] == 1360
            return
    pytest.fail("the SYN did not come out")


def _with_mss(octets: bytes, mss: int) -> bytes:
    """A SYN with TCP's option of the largest segment, and sums that fit. RFC 9293 3.2."""
    from firewall_wires import _checksum

    head, tcp = octets[:20], octets[20:40] + struct.pack("!BBH", 2, 4, mss)
    tcp = tcp[:12] + bytes((0x60,)) + tcp[13:16] + b"\0\0" + tcp[18:]
    sum_ = _checksum(head[12:20] + struct.pack("!II", len(tcp), TCP) + tcp)
    tcp = tcp[:16] + sum_.to_bytes(2, "big") + tcp[18:]
    head = head[:2] + (20 + len(tcp)).to_bytes(2, "big") + head[4:10] + b"\0\0" + head[12:]
    return head[:10] + _checksum(head).to_bytes(2, "big") + head[12:] + tcp


def test_a_log_has_what_was_dropped(wires: Wires) -> None:
    load(
        wires,
        """
  logs: {watch: {group: 77, rate: 1000, prefix: "out: "}, over: {group: 78, rate: 1000}}
  rules:
    - {in: voice, out: internet, service: smtp, action: drop, log: watch}
    - {in: internet, out: _fw, service: ssh, limit: {count: 2, interval: 60s, log: over}}
""",
    )
    with wires.within(wires.router):
        dropped, over = LoggedPackets(77), LoggedPackets(78)
    try:
        mail = packet("eth80", "10.1.80.77", "eth0", WEB, TCP, 25)
        assert passed(wires, several(mail, 2)) == []
        assert [number_of(one.head) for one in dropped.read()] == [1, 2]
        ssh = packet("eth0", WEB, None, OWN, TCP, 22)
        assert passed(wires, several(ssh, 4, 10)) == [10, 11]
        assert [number_of(one.head) for one in over.read()] == [12, 13]
    finally:
        dropped.close()
        over.close()


# ---------------------------------------------------------------- reload


def test_a_reload_drops_nothing_of_a_flow_that_is_allowed(wires: Wires) -> None:
    """What goes on is let through by its state, and new rules count for what begins after them."""
    load(wires, " {}")
    flow = replace(packet("eth8", LAN, "eth0", WEB, UDP, 5000), source_port=10001)
    answer = replace(packet("eth0", WEB, "eth8", OWN, UDP, 10001), source_port=5000)
    first = sent(wires, 1, flow)
    # Masqueraded, so an answer is for the router's own address and port.
    answer = replace(answer, port=ports_of(first)[0])
    files = [rules_of(site_plan(policy)) for policy in (" {}", "\n  rules: [{in: lan, out: internet, service: smtp}]")]
    shut = rules_of(site_plan("\n  default: [{in: [management, lan, dmz, voice, internet-only, research], out: vpn}]"))
    count = 0
    for turn in range(12):
        for _ in range(10):
            count += 2
            wires._send(octets_of(count, flow, answer=False), "eth8", flow.destination)
            wires._send(octets_of(count + 1, answer, answer=False), "eth0", answer.destination)
        wires.nft(files[turn % 2])
    wires.nft(shut)
    wires._send(octets_of(count + 2, flow, answer=False), "eth8", flow.destination)
    wires.identities = {number: (UDP, 10001 if number % 2 == 0 else 5000) for number in range(2, count + 3)}
    out, _ = wires.collect()
    assert sorted(out) == list(range(2, count + 3)), "every packet came through, each way"
    fresh = replace(flow, source_port=10002)
    assert wires.send([(900, fresh)])[900].out is None, "a new one is not allowed any more"
