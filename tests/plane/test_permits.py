from ipaddress import IPv4Address, ip_network

import pytest

from dmvpn.errors import WrongInput
from dmvpn.plane import permits
from dmvpn.plane.permits import Permits

PARIS = IPv4Address("100.64.0.12")


def packed(*octets: int) -> bytes:
    return bytes(octets)


@pytest.mark.parametrize(
    ("source", "covered"),
    [
        pytest.param(packed(10, 255, 1, 12), True, id="its tunnel address"),
        pytest.param(packed(10, 1, 12, 255), True, id="the last address of its network"),
        pytest.param(packed(10, 1, 13, 0), False, id="the next network"),
        pytest.param(packed(10, 255, 1, 1), False, id="the hub's address"),
        pytest.param(packed(0xFD, *[0] * 14, 1), True, id="its IPv6 network"),
        pytest.param(packed(0xFE, *[0] * 15), False, id="another IPv6 network"),
        pytest.param(bytes(12) + packed(10, 1, 12, 1), False, id="an IPv6 address with the octets of a good IPv4 one"),
    ],
)
def test_a_sender_may_use_what_it_was_given(source: bytes, *, covered: bool) -> None:
    table = Permits()
    table.allow(PARIS, tuple(map(ip_network, ("10.255.1.12/32", "10.1.12.0/24", "fd00::/64"))))
    assert table.covers(PARIS.packed, source) is covered
    assert not table.covers(IPv4Address("100.64.0.13").packed, source)


def test_allowing_again_replaces_and_forgetting_twice_is_fine() -> None:
    table = Permits()
    table.allow(PARIS, (ip_network("10.0.0.0/8"),))
    table.allow(PARIS, ())
    assert table.knows(PARIS.packed)
    assert not table.covers(PARIS.packed, packed(10, 0, 0, 1))
    table.forget(PARIS)
    table.forget(PARIS)
    assert not table.knows(PARIS.packed)


def test_a_hub_may_be_given_everything() -> None:
    table = Permits()
    table.allow(PARIS, (ip_network("0.0.0.0/0"),))
    assert table.covers(PARIS.packed, packed(192, 0, 2, 1))
    assert not table.covers(PARIS.packed, bytes(16))


def test_the_tables_have_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(permits, "SENDERS_LIMIT", 1)
    table = Permits()
    table.allow(PARIS, ())
    table.allow(PARIS, ())
    with pytest.raises(WrongInput, match="the table of 1 senders is full"):
        table.allow(IPv4Address("100.64.0.13"), ())
    with pytest.raises(WrongInput, match="at most 4096"):
        table.allow(PARIS, (ip_network("10.0.0.0/8"),) * 4097)
