"""Real packets through two loops, over a wire that stands for charon's tunnel."""

from ipaddress import IPv4Address

import pytest
from gre_routers import DEVICE, KEY, Router, wait_for

pytestmark = pytest.mark.kernel

Pair = tuple[Router, Router]
IPV4 = 0x0800
NHRP = 0x2001


def grown(router: Router, reason: str, packets: int = 1) -> None:
    wait_for(lambda: router.drops().get(reason, 0) >= packets, f"{packets} dropped as {reason}: {router.drops()}")


def test_a_ping_goes_there_and_back_and_is_counted(running: Pair) -> None:
    left, right = running
    assert left.pings(right.overlay)
    peer = left.state()["tunnels"][DEVICE]["peers"][right.transport]
    assert (peer["tx_packets"], peer["rx_packets"], peer["tx_data_packets"]) == (1, 1, 1)
    assert (peer["tx_octets"], peer["rx_octets"]) == (84, 84)
    assert peer["rx_age_s"] < 5


@pytest.mark.parametrize("key", [None, 0, 0xFFFFFFFF])
def test_any_key_and_none_carry_a_full_size_packet(pair: Pair, key: int | None) -> None:
    left, right = pair
    for router, other in ((left, right), (right, left)):
        router.write_settings(key=key)
        router.start()
        router.allow(other)
    assert left.pings(right.overlay, "-M", "do", "-s", str(1372 - 28))
    assert left.drops() == right.drops() == {}


def test_ipv6_inside_is_carried(running: Pair) -> None:
    for router, other in (running, running[::-1]):
        router.run("sysctl", "-qw", f"net.ipv6.conf.{DEVICE}.disable_ipv6=0")
        router.ip(f"address add fd00::{router.number}/64 dev {DEVICE} nodad")
        router.ip(f"neigh replace fd00::{other.number} lladdr {other.mac} dev {DEVICE} nud permanent")
        router.allow(other, f"{other.overlay}/32", f"fd00::{other.number}/128")
    left, _ = running
    for _ in range(2):  # the first is examined, the second remembered
        assert left.pings("fd00::2")


def test_another_key_is_nobodys_tunnel(pair: Pair) -> None:
    left, right = pair
    right.write_settings(key=KEY + 1)
    for router, other in ((left, right), (right, left)):
        router.start()
        router.allow(other)
    assert not left.pings(right.overlay)
    grown(right, "key")


def test_an_inner_source_outside_the_claims_is_dropped_and_counted(running: Pair) -> None:
    left, right = running
    assert left.pings(right.overlay)  # so that the sender is remembered: the check is made all the same
    left.ip(f"address add 10.255.1.99/32 dev {DEVICE}")
    assert not left.pings(right.overlay, "-I", "10.255.1.99")
    grown(right, "source")
    assert left.pings(right.overlay)


def test_a_sender_that_nobody_allowed_is_dropped_until_it_is(running: Pair) -> None:
    left, right = running
    assert left.pings(right.overlay)
    right.ask(op="forget", tunnel=DEVICE, nbma=left.transport)
    assert not left.pings(right.overlay)
    grown(right, "not-allowed")
    right.allow(left)
    assert left.pings(right.overlay)


def test_nhrp_passes_from_anybody_with_the_senders_mac(running: Pair) -> None:
    left, right = running
    right.ask(op="forget", tunnel=DEVICE, nbma=left.transport)
    with left.packet_socket(NHRP, DEVICE) as ours, right.packet_socket(NHRP, DEVICE) as theirs:
        mac = bytes.fromhex(right.mac.replace(":", ""))
        ours.sendto(b"\x00\x01" + bytes(30), (DEVICE, NHRP, 0, 0, mac))
        octets, sender = theirs.recvfrom(2000)
    assert octets == b"\x00\x01" + bytes(30)
    assert sender[4].hex(":") == left.mac
    peer = right.state()["tunnels"][DEVICE]["peers"][left.transport]
    assert (peer["rx_packets"], peer["rx_data_packets"]) == (1, 0)


@pytest.mark.parametrize(
    ("tos", "outer_tos"), [pytest.param("inherit", 0xB8, id="inherited"), pytest.param(0x20, 0x20, id="fixed")]
)
def test_tos_and_ttl_of_the_outer_header(pair: Pair, tos: int | str, outer_tos: int) -> None:
    left, right = pair
    left.write_settings(ttl=33, tos=tos)
    left.start()
    with right.packet_socket(IPV4, "ipsec0") as wire:
        left.pings(right.overlay, "-Q", "0xb8")
        outer = wire.recv(2000)
    assert (outer[8], outer[1], outer[9]) == (33, outer_tos, 47)
    assert outer[12:20] == IPv4Address(left.transport).packed + IPv4Address(right.transport).packed
    assert outer[20:28] == bytes.fromhex("2000 0800 00000001")


def test_packets_of_one_batch_keep_their_own_tos(running: Pair) -> None:
    left, right = running
    command = "for tos in 0x10 0x20 0x40 0x80; do ping -n -c 1 -W 1 -Q $tos 10.255.1.2 & done; wait"
    with right.packet_socket(IPV4, "ipsec0") as wire:
        left.run("sh", "-c", command)
        seen = [wire.recv(2000) for _ in range(4)]
    assert sorted(outer[1] for outer in seen) == [0x10, 0x20, 0x40, 0x80]
    assert all(outer[1] == outer[29] for outer in seen)


def test_multicast_is_flooded_to_the_list_and_to_nobody_without(running: Pair) -> None:
    left, right = running
    left.pings("224.0.0.5", "-I", DEVICE)
    grown(left, "no-flood")
    left.ask(op="flood", tunnel=DEVICE, nbmas=[right.transport, "100.64.0.3"])
    with right.packet_socket(IPV4, DEVICE) as delivered:
        left.pings("224.0.0.5", "-I", DEVICE)
        assert delivered.recv(2000)[16:20] == bytes((224, 0, 0, 5))
    peers = left.state()["tunnels"][DEVICE]["peers"]
    assert peers["100.64.0.3"]["tx_packets"] == peers[right.transport]["tx_packets"] == 1


def test_a_flood_list_longer_than_a_batch_is_served_whole(running: Pair) -> None:
    left, right = running
    others = [f"100.64.0.{number}" for number in range(3, 203)]
    left.ask(op="flood", tunnel=DEVICE, nbmas=[*others, right.transport])
    with right.packet_socket(IPV4, DEVICE) as delivered:
        left.pings("224.0.0.5", "-I", DEVICE)
        delivered.recv(2000)
    assert len(left.state()["tunnels"][DEVICE]["peers"]) == 201


def test_arp_and_foreign_macs_stay_at_home(running: Pair) -> None:
    left, _ = running
    left.pings("10.255.1.77")
    grown(left, "protocol")
    left.ip(f"neigh replace 10.255.1.78 lladdr 52:54:00:00:00:01 dev {DEVICE} nud permanent")
    left.pings("10.255.1.78")
    grown(left, "next-hop")


def test_what_the_rule_set_forbids_is_counted_and_the_rest_goes_on(running: Pair) -> None:
    left, right = running
    left.run("nft", "add table inet guard; add chain inet guard out { type filter hook output priority 0; }")
    left.run("nft", "add rule inet guard out meta l4proto gre drop")
    assert not left.pings(right.overlay)
    grown(left, "forbidden")
    assert left.state()["tunnels"][DEVICE]["peers"][right.transport]["tx_packets"] == 0
    left.run("nft", "delete", "table", "inet", "guard")
    assert left.pings(right.overlay)


def outer(left: Router, right: Router, gre: bytes, *, tos: int = 0) -> bytes:
    """An IPv4 header; the kernel fills in length, identification and checksum. raw(7)"""
    addresses = IPv4Address(left.transport).packed + IPv4Address(right.transport).packed
    return bytes((0x45, tos)) + bytes(6) + b"\x40\x2f\0\0" + addresses + gre


INNER = bytes.fromhex("45020014 00000000 4001 6eea 0aff0101 0aff0102")


@pytest.mark.parametrize(
    ("gre", "reason"),
    [
        pytest.param("", "malformed", id="nothing"),
        pytest.param("20000800", "malformed", id="no key"),
        pytest.param("2001880b00000001", "version", id="version 1"),
        pytest.param("6000080000000001", "routing", id="routing"),
        pytest.param("a0000800123400000000 0001", "checksum", id="checksum"),
        pytest.param("2000655800000001", "protocol", id="Ethernet"),
        pytest.param("2000080000000009" + INNER.hex(), "key", id="another key"),
        pytest.param("2000080000000001" + INNER[:19].hex(), "malformed", id="inner header cut"),
        pytest.param("2000080000000001" + (INNER[:3] + b"\x15" + INNER[4:]).hex(), "truncated", id="inner cut"),
        pytest.param("200086dd00000001" + INNER.hex(), "malformed", id="IPv4 that is called IPv6"),
        pytest.param("2000200100000001" + "00" * 19, "truncated", id="NHRP shorter than its header"),
        pytest.param("2000080000000001" + INNER.hex() + "00" * 12000, "oversized", id="larger than any slot"),
    ],
)
def test_bad_octets_are_counted_and_the_loop_goes_on(running: Pair, gre: str, reason: str) -> None:
    left, right = running
    with left.raw_socket() as raw:
        octets = outer(left, right, bytes.fromhex(gre))
        if len(octets) > 1500:
            for fragment in fragments(octets):
                raw.sendto(fragment, (right.transport, 0))
        else:
            raw.sendto(octets, (right.transport, 0))
    grown(right, reason)
    assert left.pings(right.overlay)


def fragments(octets: bytes) -> list[bytes]:
    """The same packet in pieces of 1480 octets: raw(7) does not fragment what brings its own header."""
    pieces = []
    for at in range(20, len(octets), 1480):
        more = 0x2000 if at + 1480 < len(octets) else 0
        head = octets[:4] + b"\x12\x34" + (more | (at - 20) // 8).to_bytes(2, "big") + octets[8:20]
        pieces.append(head + octets[at : at + 1480])
    return pieces


@pytest.mark.parametrize("gre", ["2000080000000001", "3000080000000001 00000009", "a0000800df040000 00000001"])
def test_key_sequence_number_and_checksum_are_accepted(running: Pair, gre: str) -> None:
    left, right = running
    packet = bytes.fromhex(gre) + INNER
    if packet[0] & 0x80:
        rest = sum(int.from_bytes(packet[at : at + 2], "big") for at in range(0, len(packet), 2) if at != 4)
        packet = packet[:4] + (0xFFFF - rest % 0xFFFF).to_bytes(2, "big") + packet[6:]
    with left.raw_socket() as raw, right.packet_socket(IPV4, DEVICE) as delivered:
        raw.sendto(outer(left, right, packet), (right.transport, 0))
        assert delivered.recv(2000) == INNER


def test_congestion_on_the_way_is_told_to_the_receiver(running: Pair) -> None:
    left, right = running
    gre = bytes.fromhex("2000080000000001")
    with left.raw_socket() as raw, right.packet_socket(IPV4, DEVICE) as delivered:
        raw.sendto(outer(left, right, gre + INNER, tos=3), (right.transport, 0))
        assert delivered.recv(2000)[1] == 3
        raw.sendto(outer(left, right, gre + INNER[:1] + b"\0" + INNER[2:], tos=3), (right.transport, 0))
    grown(right, "congestion")
