"""What a certificate lets its router be and announce."""

from dataclasses import replace
from datetime import UTC, datetime
from ipaddress import ip_address, ip_network

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from dmvpn.errors import WrongInput
from dmvpn.identity import authority, der
from dmvpn.identity.claims import OID, Claims, Role, identities
from dmvpn.identity.der import Malformed

NOW = datetime(2025, 6, 1, tzinfo=UTC)
SPOKE = Claims(
    network="acme",
    router="hel1",
    role=Role.SPOKE,
    transport=ip_address("100.64.0.11"),
    overlay=(ip_address("10.255.1.11"), ip_address("fd00:255:1::11")),
    prefixes=(ip_network("10.1.8.0/24"), ip_network("10.1.9.0/24"), ip_network("fd00:1::/48")),
    asn=65001,
)
HUB = replace(
    SPOKE,
    router="hub1",
    role=Role.HUB,
    transport=ip_address("100.64.0.1"),
    overlay=(ip_address("10.255.1.1"),),
    prefixes=(ip_network("10.0.0.0/8"), ip_network("10.255.1.0/24")),
)
CA = authority.create_authority("acme", ip_network("100.64.0.0/16"), now=NOW)


def certificate(claims: Claims) -> bytes:
    pem, _ = authority.issue(*CA, claims, "hel1.example.net", now=NOW)
    return x509.load_pem_x509_certificate(pem).public_bytes(Encoding.DER)


@pytest.mark.parametrize(
    "claims",
    [
        pytest.param(SPOKE, id="spoke"),
        pytest.param(HUB, id="hub"),
        pytest.param(replace(SPOKE, overlay=(), prefixes=()), id="nothing but itself"),
        pytest.param(replace(SPOKE, asn=4294967295), id="largest ASN"),
        pytest.param(replace(SPOKE, prefixes=tuple(ip_network("10.0.0.0/8").subnets(8))[:256]), id="many prefixes"),
    ],
)
def test_claims_come_back_as_they_were_certified(claims: Claims) -> None:
    octets = certificate(claims)
    assert Claims.from_certificate(octets) == claims
    assert identities(octets) == ("hel1.example.net",)


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        pytest.param("10.255.1.11", None, id="its own"),
        pytest.param("fd00:255:1::11", None, id="its own, IPv6"),
        pytest.param("10.255.1.12", "hel1 claims 10.255.1.11, fd00:255:1::11, not 10.255.1.12", id="another's"),
        pytest.param("10.1.8.1", "hel1 claims 10.255.1.11, fd00:255:1::11, not 10.1.8.1", id="in its LAN"),
    ],
)
def test_a_binding_is_permitted_for_own_overlay_addresses(address: str, reason: str | None) -> None:
    assert SPOKE.permits_binding(ip_address(address)) == reason


@pytest.mark.parametrize(
    ("claims", "prefix", "permitted"),
    [
        pytest.param(SPOKE, "10.1.8.0/24", True, id="claimed"),
        pytest.param(SPOKE, "10.1.8.128/25", True, id="a part of a claimed one"),
        pytest.param(SPOKE, "10.255.1.11/32", True, id="its overlay address"),
        pytest.param(SPOKE, "10.1.8.0/23", False, id="more than claimed, though both halves are"),
        pytest.param(SPOKE, "0.0.0.0/0", False, id="everything"),
        pytest.param(SPOKE, "fd00:1:0:5::/64", True, id="IPv6"),
        pytest.param(SPOKE, "::/0", False, id="everything in IPv6"),
        pytest.param(HUB, "10.1.8.0/24", True, id="a hub, for another site"),
        pytest.param(HUB, "192.168.0.0/16", False, id="a hub, outside the network"),
    ],
)
def test_a_prefix_is_permitted_within_the_claims(claims: Claims, prefix: str, permitted: bool) -> None:  # noqa: FBT001
    assert (claims.permits_prefix(ip_network(prefix)) is None) is permitted


def test_inner_sources_are_the_router_and_what_is_behind_it() -> None:
    assert [str(prefix) for prefix in SPOKE.inner_sources()] == [
        "10.255.1.11/32",
        "fd00:255:1::11/128",
        "10.1.8.0/24",
        "10.1.9.0/24",
        "fd00:1::/48",
    ]


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"router": "hel1\nlocal"}, id="line break"),
        pytest.param({"router": "hel1 "}, id="space"),
        pytest.param({"router": "-rf"}, id="an option"),
        pytest.param({"network": ""}, id="no name"),
        pytest.param({"network": "a" * 64}, id="label too long"),
        pytest.param({"asn": 4294967296}, id="ASN too large"),
        pytest.param({"asn": -1}, id="ASN negative"),
        pytest.param({"prefixes": (ip_network("10.0.0.0/8"),) * 513}, id="too many prefixes"),
    ],
)
def test_claims_that_no_certificate_should_carry_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(WrongInput):
        replace(SPOKE, **change)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("extension", "fault"),
    [
        pytest.param("", "certificate: octet 0: 1 octets needed, 0 left", id="empty"),
        pytest.param(
            "3003 020102", "certificate: claims of version 2; this program reads version 1", id="a later version"
        ),
        pytest.param("3003 0201ff", "certificate: integer ff is not DER, or negative", id="negative"),
        pytest.param("3004 02020001", "certificate: integer 0001 is not DER, or negative", id="not minimal"),
        pytest.param("308103 020101", "certificate: octet 3: length 03 is not DER", id="long form of a short length"),
        pytest.param("3080 020101 0000", "certificate: octet 2: length indefinite is not DER", id="BER"),
        pytest.param("3003 040101", "certificate: octet 3: tag 0x04 where 0x02 belongs", id="another type"),
    ],
)
def test_a_malformed_extension_is_a_fault_that_says_where(extension: str, fault: str) -> None:
    with pytest.raises(Malformed) as caught:
        Claims._decode(der.Reader(bytes.fromhex(extension)), SPOKE.transport, SPOKE.overlay)
    assert str(caught.value) == fault


@given(st.data())
def test_no_octets_raise_anything_but_malformed(data: st.DataObject) -> None:
    octets = bytearray(SPOKE.extension())
    for _ in range(data.draw(st.integers(1, 3))):
        octets[data.draw(st.integers(0, len(octets) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(octets)))
    for wire in (bytes(octets), bytes(octets[:cut])):
        try:
            read = Claims._decode(der.Reader(wire), SPOKE.transport, SPOKE.overlay)
        except (Malformed, WrongInput):
            continue
        assert read.extension() == wire


@pytest.mark.parametrize("cut", range(0, 600, 37))
def test_a_truncated_certificate_is_a_fault(cut: int) -> None:
    with pytest.raises(Malformed):
        Claims.from_certificate(certificate(SPOKE)[:cut])


def test_a_certificate_without_claims_says_so() -> None:
    with pytest.raises(Malformed, match="certificate: has no DMVPN claims"):
        Claims.from_certificate(x509.load_pem_x509_certificate(CA[0]).public_bytes(Encoding.DER))


def test_our_extension_is_not_critical() -> None:
    extensions = x509.load_der_x509_certificate(certificate(SPOKE)).extensions
    assert not extensions.get_extension_for_oid(x509.ObjectIdentifier(OID)).critical
