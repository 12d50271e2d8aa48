"""NHRP packets on a TAP, one and many at a time."""

import os
import select
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address

import pytest

from dmvpn.errors import Fault
from dmvpn.linux.mmsg import SLOT_OCTETS
from dmvpn.linux.neighbours import LinkForm
from dmvpn.linux.nhrp_socket import AT_ONCE, NhrpDatagram, NhrpSocket

Run = Callable[..., str]

OWN = bytes.fromhex("02006440000b")
NHRP = b"\x20\x01"


def peer(number: int) -> IPv4Address:
    return IPv4Address(0x64400000 + number)


def mac(number: int) -> bytes:
    return b"\x02\0" + peer(number).packed


def next_frame(queue: int) -> bytes:
    """The next frame of NHRP; the kernel's own multicast is passed over."""
    frame = b""
    while frame[12:14] != NHRP:
        assert select.select([queue], [], [], 5)[0]
        frame = os.read(queue, 2048)
    return frame


@pytest.mark.kernel
def test_nhrp_goes_to_and_comes_from_an_nbma_address(tap: str, ip: Run, open_tap: Callable[[str], int]) -> None:
    queue = open_tap(tap)
    nhrp = NhrpSocket(tap, LinkForm.TAP)
    assert nhrp.receive() == ()
    assert nhrp.send(b"request", IPv4Address("100.64.0.1"))
    assert next_frame(queue) == bytes.fromhex("020064400001 02006440000b 2001") + b"request"
    os.write(queue, bytes.fromhex("02006440000b 020064400001 2001") + b"reply")
    os.write(queue, bytes.fromhex("0200644000ff 020064400001 2001") + b"for another")
    assert select.select([nhrp], [], [], 5)[0]
    assert nhrp.receive() == (NhrpDatagram(b"reply", IPv4Address("100.64.0.1")),)
    assert nhrp.receive() == ()
    with pytest.raises(Fault, match="exceeds the device's MTU"):
        nhrp.send(bytes(2000), IPv4Address("100.64.0.1"))
    ip("link", "set", tap, "down")
    assert not nhrp.send(b"request", IPv4Address("100.64.0.1"))
    assert nhrp.receive() == ()
    ip("link", "set", tap, "up")
    assert nhrp.send(b"request", IPv4Address("100.64.0.1"))
    nhrp.close()
    os.close(queue)


@pytest.mark.kernel
def test_nhrp_on_a_missing_device_is_a_fault(netns: None) -> None:
    with pytest.raises(Fault, match="acme-blue: there is no such network device"):
        NhrpSocket("acme-blue", LinkForm.TAP)


@pytest.mark.kernel
def test_many_packets_go_out_in_their_order_each_to_its_own(tap: str, open_tap: Callable[[str], int]) -> None:
    queue = open_tap(tap)
    nhrp = NhrpSocket(tap, LinkForm.TAP)
    count = 2 * AT_ONCE + 3
    assert nhrp.send_all([(bytes(number), peer(number)) for number in range(count)]) == {}
    for number in range(count):
        assert next_frame(queue) == mac(number) + OWN + NHRP + bytes(number)
    nhrp.close()
    os.close(queue)


@pytest.mark.kernel
@pytest.mark.parametrize("wrong", [[0], [2], [5], [0, 1], [1, 3, 4], [0, 1, 2, 3, 4, 5]])
def test_what_is_not_taken_is_told_by_its_place_and_all_else_goes(
    tap: str, open_tap: Callable[[str], int], wrong: list[int]
) -> None:
    queue = open_tap(tap)
    nhrp = NhrpSocket(tap, LinkForm.TAP)
    packets = [(bytes(2000 if place in wrong else place), peer(place)) for place in range(6)]
    failed = nhrp.send_all(packets)
    assert {place: str(fault) for place, fault in failed.items()} == {
        place: f"{tap}: an NHRP packet of 2000 octets exceeds the device's MTU" for place in wrong
    }
    assert not any(fault.ever for fault in failed.values())
    for place in range(6):
        if place not in wrong:
            assert next_frame(queue) == mac(place) + OWN + NHRP + bytes(place)
    nhrp.close()
    os.close(queue)


@pytest.mark.kernel
@pytest.mark.parametrize(
    ("packet", "why"),
    [
        pytest.param((bytes(SLOT_OCTETS + 1), peer(1)), "exceeds the device's MTU", id="longer than any device's"),
        pytest.param((b"", IPv6Address("2001:db8::1")), "does not fit a MAC", id="an address of another form"),
    ],
)
def test_what_can_never_go_holds_nothing_else_up(
    tap: str, open_tap: Callable[[str], int], packet: tuple[bytes, IPv4Address | IPv6Address], why: str
) -> None:
    queue = open_tap(tap)
    nhrp = NhrpSocket(tap, LinkForm.TAP)
    ((place, fault),) = nhrp.send_all([(b"one", peer(1)), packet, (b"two", peer(2))]).items()
    assert (place, fault.ever) == (1, False)
    assert why in str(fault)
    assert next_frame(queue)[14:] == b"one"
    assert next_frame(queue)[14:] == b"two"
    nhrp.close()
    os.close(queue)


@pytest.mark.kernel
def test_a_device_that_is_down_takes_nothing_now(tap: str, ip: Run) -> None:
    nhrp = NhrpSocket(tap, LinkForm.TAP)
    ip("link", "set", tap, "down")
    failed = nhrp.send_all([(b"one", peer(1)), (b"two", peer(2))])
    assert [fault.ever for fault in failed.values()] == [True, True]
    nhrp.close()


@pytest.mark.kernel
def test_many_packets_come_in_in_their_order_each_with_its_sender(tap: str, open_tap: Callable[[str], int]) -> None:
    queue = open_tap(tap)
    nhrp = NhrpSocket(tap, LinkForm.TAP)
    count = AT_ONCE + 3
    for number in range(count):
        os.write(queue, OWN + mac(number) + NHRP + bytes(number + 1))
        os.write(queue, mac(99) + mac(number) + NHRP + b"for another")
    found: list[NhrpDatagram] = []
    while select.select([nhrp], [], [], 0.2 if len(found) == count else 5)[0]:
        some = nhrp.receive()
        assert len(some) <= AT_ONCE
        found += some
    assert found == [NhrpDatagram(bytes(number + 1), peer(number)) for number in range(count)]
    nhrp.close()
    os.close(queue)
