import errno
import socket
from collections.abc import Iterator

import pytest

from dmvpn.linux.mmsg import SLOT_OCTETS, ReceiveBatch, SendBatch, address_word

LOOPBACK = socket.inet_aton("127.0.0.1")


@pytest.fixture
def receiver() -> Iterator[socket.socket]:
    """A UDP socket on port 0: SendBatch writes no port, so these tests give it one by connecting."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as opened:
        opened.bind(("127.0.0.1", 0))
        opened.settimeout(5)
        yield opened


def fill(batch: SendBatch, index: int, octets: bytes, start: int = 0) -> None:
    batch.slots[index][start : start + len(octets)] = octets
    batch.lengths[index] = len(octets)


def test_a_batch_arrives_in_order_with_its_lengths(receiver: socket.socket) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.connect(receiver.getsockname())
        for octets in (b"one", b"", b"three"):
            sender.send(octets)
    batch = ReceiveBatch(4)
    lengths = batch.receive(receiver.fileno())
    assert lengths == [3, 0, 5]
    assert [bytes(slot[:octets]) for slot, octets in zip(batch.slots, lengths, strict=False)] == [b"one", b"", b"three"]
    assert batch.receive(receiver.fileno()) == []


def test_a_batch_is_never_larger_than_its_slots(receiver: socket.socket) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.connect(receiver.getsockname())
        for number in range(5):
            sender.send(bytes(number))
    batch = ReceiveBatch(4)
    assert batch.receive(receiver.fileno()) == [0, 1, 2, 3]
    assert batch.receive(receiver.fileno()) == [4]


def test_what_does_not_fit_has_the_length_of_a_slot(receiver: socket.socket) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(bytes(SLOT_OCTETS + 1), receiver.getsockname())
    assert ReceiveBatch(1).receive(receiver.fileno()) == [SLOT_OCTETS]


def test_a_closed_socket_is_an_oserror(receiver: socket.socket) -> None:
    number = receiver.fileno()
    receiver.close()
    with pytest.raises(OSError, match="EBADF"):
        ReceiveBatch(1).receive(number)


@pytest.mark.kernel
def test_destination_ttl_tos_and_start_go_with_each_datagram(netns: None) -> None:
    """Protocol 253 is for experiments: RFC 3692."""
    with (
        socket.socket(socket.AF_INET, socket.SOCK_RAW, 253) as sender,
        socket.socket(socket.AF_INET, socket.SOCK_RAW, 253) as receiver,
    ):
        receiver.settimeout(5)
        batch = SendBatch(ttl=33, start=6, slots=3)
        for index, (address, tos) in enumerate((("127.0.0.1", 0x20), ("127.0.0.2", 0xB8), ("127.0.0.3", 0))):
            fill(batch, index, f"number {index}".encode(), start=6)
            batch.addresses[index] = address_word(socket.inet_aton(address))
            batch.tos[index] = tos
        assert batch.send(sender.fileno(), 0, 3) == 3
        seen = [receiver.recv(100) for _ in range(3)]
    assert [(packet[1], packet[8], socket.inet_ntoa(packet[16:20]), packet[20:]) for packet in seen] == [
        (0x20, 33, "127.0.0.1", b"number 0"),
        (0xB8, 33, "127.0.0.2", b"number 1"),
        (0x00, 33, "127.0.0.3", b"number 2"),
    ]


@pytest.mark.kernel
def test_a_refusal_in_the_middle_names_its_message(netns: None) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, 253) as sender:
        batch = SendBatch(ttl=1, start=0, slots=3)
        for index, address in enumerate(("127.0.0.1", "192.0.2.1", "127.0.0.1")):
            fill(batch, index, b"x")
            batch.addresses[index] = address_word(socket.inet_aton(address))
        assert batch.send(sender.fileno(), 0, 3) == 1
        assert batch.send(sender.fileno(), 1, 3) == -errno.ENETUNREACH
        assert batch.send(sender.fileno(), 2, 3) == 1
