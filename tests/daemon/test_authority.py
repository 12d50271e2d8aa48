"""Who may claim what, by the certificate that came with the SA."""

from ipaddress import ip_address, ip_network

import pytest

from dmvpn.daemon.authority import Authority
from dmvpn.identity.claims import Claims, Role

SPOKE = ip_address("100.64.0.12")
HUB = ip_address("100.64.0.1")
SIX = ip_address("100.64.0.66")
STRANGER = ip_address("100.64.0.99")


@pytest.fixture
def authority() -> Authority:
    known = Authority()
    known.learn(
        SPOKE,
        Claims("acme", "par1", Role.SPOKE, SPOKE, (ip_address("10.255.1.12"),), (ip_network("10.1.12.0/24"),), 65012),
    )
    known.learn(
        HUB,
        Claims(
            "acme",
            "hq1",
            Role.HUB,
            HUB,
            (ip_address("10.255.1.1"), ip_address("10.255.2.1")),
            (ip_network("10.0.0.0/8"),),
            65000,
        ),
    )
    known.learn(SIX, Claims("acme", "six1", Role.SPOKE, SIX, (ip_address("fd00:1::6"),), (), 65066))
    return known


@pytest.mark.parametrize(
    ("nbma", "protocol", "prefix", "allowed"),
    [
        pytest.param(SPOKE, "10.255.1.12", None, True, id="its own address"),
        pytest.param(SPOKE, "10.255.1.12", "10.1.12.0/24", True, id="its own network"),
        pytest.param(SPOKE, "10.255.1.12", "10.1.12.128/25", True, id="a part of its network"),
        pytest.param(SPOKE, "10.255.1.12", "10.1.0.0/16", False, id="more than its network"),
        pytest.param(SPOKE, "10.255.1.12", "10.1.13.0/24", False, id="another's network"),
        pytest.param(SPOKE, "10.255.1.13", None, False, id="another's address"),
        pytest.param(SPOKE, "10.255.1.13", "10.1.12.0/24", False, id="another's address before its network"),
        pytest.param(HUB, "10.255.2.1", "10.1.12.0/24", True, id="a hub relays for all"),
        pytest.param(STRANGER, "10.255.1.99", None, False, id="nobody we know"),
        pytest.param(STRANGER, "10.255.1.12", "10.1.12.0/24", False, id="nobody, with a claim of somebody"),
    ],
)
def test_a_claim_is_held_against_the_certificate(
    authority: Authority, nbma: object, protocol: str, prefix: str | None, *, allowed: bool
) -> None:
    network = ip_network(prefix) if prefix else None
    refusal = authority.refusal(ip_address(str(nbma)), ip_address(protocol), network)
    assert (refusal == "") is allowed, refusal


def test_a_stranger_is_refused_by_name_and_has_nothing(authority: Authority) -> None:
    assert authority.refusal(STRANGER, STRANGER, None) == "no certificate is known for 100.64.0.99"
    assert authority.name(STRANGER) == ""
    assert authority.claims(STRANGER) is None
    assert authority.inner_sources(STRANGER) == ()


def test_what_the_data_plane_may_let_in_is_addresses_and_networks(authority: Authority) -> None:
    assert set(authority.inner_sources(SPOKE)) == {ip_network("10.255.1.12/32"), ip_network("10.1.12.0/24")}


@pytest.mark.parametrize(
    ("overlay", "peers"),
    [
        pytest.param(["10.255.1.0/24"], (SPOKE, HUB), id="a cloud"),
        pytest.param(["10.255.2.0/24"], (HUB,), id="another cloud"),
        pytest.param(["fd00:1::/64"], (SIX,), id="IPv6"),
        pytest.param(["10.255.2.0/24", "fd00:1::/64"], (HUB, SIX), id="both families"),
        pytest.param([], (), id="none"),
    ],
)
def test_the_peers_of_a_cloud(authority: Authority, overlay: list[str], peers: tuple[object, ...]) -> None:
    assert authority.peers_in(ip_network(one) for one in overlay) == peers


def test_a_peer_without_an_sa_is_nobody(authority: Authority) -> None:
    assert authority.name(SPOKE) == "par1"
    authority.forget(SPOKE)
    authority.forget(SPOKE)
    assert authority.claims(SPOKE) is None
    assert authority.refusal(SPOKE, ip_address("10.255.1.12"), None)
    assert SPOKE not in authority.peers_in([ip_network("10.255.1.0/24")])
