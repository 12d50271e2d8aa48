"""NHRP in GRE between two addresses of one namespace, over raw sockets."""

import select
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address

import pytest

from dmvpn.errors import Fault
from dmvpn.linux.gre_socket import GreSocket

pytestmark = pytest.mark.kernel
ONE, OTHER = IPv4Address("192.0.2.1"), IPv4Address("192.0.2.2")
KEY = 42
PDU = b"a PDU"


@pytest.fixture
def addresses(netns: None, ip: Callable[..., str]) -> None:
    for address in (ONE, OTHER):
        ip("address", "add", f"{address}/32", "dev", "lo")


@contextmanager
def opened(own: IPv4Address, key: int | None) -> Iterator[GreSocket]:
    one = GreSocket(own, key)
    try:
        yield one
    finally:
        one.close()


@pytest.mark.parametrize("key", [None, KEY])
def test_a_pdu_gets_there_whole(addresses: None, key: int | None) -> None:
    with opened(ONE, key) as sender, opened(OTHER, key) as receiver:
        assert receiver.receive() is None
        assert sender.send(PDU, OTHER)
        assert select.select([receiver], [], [], 5)[0]
        assert receiver.receive() == PDU
        assert receiver.receive() is None


def test_another_key_is_not_ours(addresses: None) -> None:
    with opened(ONE, KEY + 1) as stranger, opened(ONE, KEY) as sender, opened(OTHER, KEY) as receiver:
        assert stranger.send(b"not for us", OTHER)
        assert sender.send(PDU, OTHER)
        assert select.select([receiver], [], [], 5)[0]
        assert receiver.receive() == PDU


def test_what_has_no_way_is_not_sent(addresses: None) -> None:
    with opened(ONE, KEY) as sender:
        assert not sender.send(PDU, IPv4Address("198.51.100.1"))


def test_an_address_of_another_machine_is_a_fault(netns: None) -> None:
    with pytest.raises(Fault, match=r"198\.51\.100\.1"):
        GreSocket(IPv4Address("198.51.100.1"), None)
