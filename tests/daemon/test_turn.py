"""A turn's entries and packets, on a real device: their order, and what becomes of a refusal."""

import fcntl
import os
import select
import struct
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_network
from pathlib import Path

import pytest

from dmvpn.daemon.turn import WAITING_LIMIT, Turn
from dmvpn.errors import Fault
from dmvpn.linux import namespaces
from dmvpn.linux.neighbours import Change, LinkForm, Neighbours
from dmvpn.linux.nhrp_socket import NhrpSocket
from dmvpn.linux.routes import Shortcuts
from dmvpn.nhrp.events import BindNeighbour, InstallRoute, Refused, RemoveRoute, Send, UnbindNeighbour

pytestmark = pytest.mark.kernel

DEVICE = "tap0"
OURS = 79
NBMA = IPv4Address("100.64.0.12")
IMPOSSIBLE = IPv6Address("2001:db8::1")  # does not fit a MAC
PEER, OTHER = IPv4Address("10.255.1.12"), IPv4Address("10.255.1.13")
LAN = ip_network("10.1.12.0/24")
ELSEWHERE = IPv4Address("224.0.0.1")  # no gateway


def ip(line: str) -> str:
    return subprocess.run(("ip", *line.split()), check=True, capture_output=True, text=True, timeout=20).stdout


@dataclass
class Stand:
    turn: Turn
    neighbours: Neighbours
    shortcuts: Shortcuts
    packets: NhrpSocket
    frames: int

    def bound(self) -> dict[object, object]:
        return {row.protocol: row.nbma for row in self.neighbours.ours(DEVICE)}

    def went(self) -> list[bytes]:
        """NHRP that has left so far."""
        found = []
        while select.select([self.frames], [], [], 0)[0]:
            frame = os.read(self.frames, 2048)
            if frame[12:14] == b"\x20\x01":
                found.append(frame[14:])
        return found


@pytest.fixture
def stand() -> Iterator[Stand]:
    if os.geteuid() != 0 or not Path("/dev/net/tun").exists():
        pytest.skip("namespaces and TAPs need root and /dev/net/tun")
    home = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        namespaces.unshare(namespaces.CLONE_NEWNET)
        frames = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
        fcntl.ioctl(frames, 0x400454CA, struct.pack("16sH22x", DEVICE.encode(), 0x1002))  # IFF_TAP, IFF_NO_PI
        ip(f"link set {DEVICE} address 02:00:64:40:00:0b up")
        ip(f"address add 10.255.1.11/24 dev {DEVICE}")
        with Neighbours(OURS) as neighbours, Shortcuts((DEVICE,)) as shortcuts:
            packets = NhrpSocket(DEVICE, LinkForm.TAP)
            turn = Turn(LinkForm.TAP, neighbours, shortcuts, packets)
            yield Stand(turn, neighbours, shortcuts, packets, frames)
            packets.close()
        os.close(frames)
    finally:
        namespaces.join(Path(f"/proc/self/fd/{home}"))
        os.close(home)


def test_nothing_is_done_before_its_time_and_then_all_of_it(stand: Stand) -> None:
    stand.turn.change_later(BindNeighbour(PEER, NBMA))
    stand.turn.send_later(Send(b"first", NBMA))
    stand.turn.send_later(Send(b"second", NBMA))
    assert (stand.bound(), stand.went()) == ({}, [])
    assert stand.turn.enter() == []
    assert (stand.bound(), stand.went()) == ({PEER: NBMA}, [])
    assert stand.turn.send() == 0
    assert stand.went() == [b"first", b"second"]
    assert (stand.turn.enter(), stand.turn.send(), stand.went()) == ([], 0, []), "once"


@pytest.mark.parametrize(
    ("actions", "bound"),
    [
        pytest.param((BindNeighbour(PEER, NBMA), UnbindNeighbour(PEER)), {}, id="bound and let go"),
        pytest.param((UnbindNeighbour(PEER), BindNeighbour(PEER, NBMA)), {PEER: NBMA}, id="let go and bound"),
        pytest.param((BindNeighbour(PEER, NBMA), UnbindNeighbour(PEER, refused=True)), {}, id="bound and refused"),
        pytest.param(
            (BindNeighbour(PEER, IPv4Address("100.64.0.99")), BindNeighbour(PEER, NBMA)), {PEER: NBMA}, id="moved"
        ),
    ],
)
def test_entries_change_in_the_order_they_were_asked_for(
    stand: Stand, actions: tuple[BindNeighbour | UnbindNeighbour, ...], bound: dict[object, object]
) -> None:
    for action in actions:
        stand.turn.change_later(action)
    assert stand.turn.enter() == []
    assert stand.bound() == bound


def test_a_refusal_is_told_of_the_action_it_met_and_the_others_stand(stand: Stand) -> None:
    wrong = BindNeighbour(OTHER, IMPOSSIBLE)
    for action in (BindNeighbour(PEER, NBMA), wrong, UnbindNeighbour(IPv4Address("10.255.1.99"))):
        stand.turn.change_later(action)
    (refused,) = stand.turn.enter()
    assert refused == Refused(wrong, f"{IMPOSSIBLE}: an IPv6 NBMA address does not fit a MAC of the userspace plane")
    assert stand.bound() == {PEER: NBMA}


def test_without_its_device_every_binding_is_refused(stand: Stand) -> None:
    actions = [BindNeighbour(PEER, NBMA), BindNeighbour(OTHER, NBMA)]
    for action in (*actions, UnbindNeighbour(PEER)):
        stand.turn.change_later(action)
    ip(f"link set {DEVICE} name away")
    assert [one.action for one in stand.turn.enter()] == actions


def test_a_route_finds_the_entries_made_that_were_asked_for_before_it(stand: Stand) -> None:
    stand.turn.change_later(BindNeighbour(PEER, NBMA))
    assert stand.turn.route(InstallRoute(LAN, PEER, 1372)) == []
    assert stand.bound() == {PEER: NBMA}
    assert {row.prefix for row in stand.shortcuts.ours()} == {LAN}
    stand.turn.change_later(UnbindNeighbour(PEER))
    assert stand.turn.route(RemoveRoute(LAN)) == []
    assert stand.shortcuts.ours() == ()


def test_a_refused_route_is_told_behind_the_entries_that_were(stand: Stand) -> None:
    wrong, route = BindNeighbour(OTHER, IMPOSSIBLE), InstallRoute(LAN, ELSEWHERE, None)
    stand.turn.change_later(wrong)
    assert [one.action for one in stand.turn.route(route)] == [wrong, route]


def test_what_the_device_does_not_take_is_counted_and_the_rest_goes(stand: Stand) -> None:
    for octets in (b"one", bytes(2000), b"three"):
        stand.turn.send_later(Send(octets, NBMA))
    assert stand.turn.send() == 1
    assert stand.went() == [b"one", b"three"]


@pytest.mark.parametrize("kind", ["entries", "packets"])
def test_a_turn_says_when_it_holds_enough(stand: Stand, kind: str) -> None:
    for number in range(WAITING_LIMIT):
        assert not stand.turn.is_full
        if kind == "entries":
            stand.turn.change_later(BindNeighbour(IPv4Address(0x0AFF0200 + number), NBMA))
        else:
            stand.turn.send_later(Send(b"x", NBMA))
    assert stand.turn.is_full
    assert stand.turn.enter() == []
    stand.turn.send()
    assert not stand.turn.is_full
    assert len(stand.bound()) == (WAITING_LIMIT if kind == "entries" else 0)


def by_link_local(stand: Stand) -> Turn:
    overlay = (ip_network("10.255.1.0/24"), ip_network("fd00:255:1::/64"))
    return Turn(LinkForm.TAP, stand.neighbours, stand.shortcuts, stand.packets, named_by_link_local=overlay)


def test_an_address_of_another_cloud_has_none_here(stand: Stand) -> None:
    turn = by_link_local(stand)
    ip(f"address add fd00:255::11/32 dev {DEVICE} nodad")
    turn.change_later(BindNeighbour(IPv6Address("fd00:255:2::12"), NBMA))
    assert turn.enter() == []
    assert stand.bound() == {IPv6Address("fd00:255:2::12"): NBMA}


def test_of_two_entries_both_stand_or_none(stand: Stand) -> None:
    turn = by_link_local(stand)
    six, beside = IPv6Address("fd00:255:1::12"), IPv6Address("fe80::12")
    turn.change_later(BindNeighbour(six, NBMA))
    made = stand.neighbours.change_all

    def refusing(device: str, form: LinkForm, changes: Sequence[Change]) -> dict[int, Fault]:
        found = made(device, form, changes)
        wrong = [place for place, change in enumerate(changes) if change == Change(beside, NBMA)]
        return found | dict.fromkeys(wrong, Fault(str(beside), "the table is full"))

    stand.neighbours.change_all = refusing  # type: ignore[method-assign]
    (refused,) = turn.enter()
    assert (refused.action, refused.reason) == (BindNeighbour(six, NBMA), f"{beside}: the table is full")
    assert stand.bound() == {}


def test_where_routing_names_link_local_next_hops_each_ipv6_one_is_bound_twice(stand: Stand) -> None:
    turn = by_link_local(stand)
    ip(f"address add fd00:255:1::11/64 dev {DEVICE} nodad")
    six, beside = IPv6Address("fd00:255:1::12"), IPv6Address("fe80::12")
    for protocol in (PEER, six):
        turn.change_later(BindNeighbour(protocol, NBMA))
    assert turn.enter() == []
    assert stand.bound() == {PEER: NBMA, six: NBMA, beside: NBMA}
    turn.change_later(UnbindNeighbour(six))
    assert turn.enter() == []
    assert stand.bound() == {PEER: NBMA}


def test_a_binding_that_is_refused_twice_is_told_once(stand: Stand) -> None:
    turn = by_link_local(stand)
    wrong = BindNeighbour(IPv6Address("fd00:255:1::12"), IMPOSSIBLE)
    turn.change_later(wrong)
    (refused,) = turn.enter()
    assert refused.action == wrong
