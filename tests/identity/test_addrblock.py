"""RFC 3779 blocks, against the RFC's own arithmetic and against OpenSSL."""

from ipaddress import ip_network

import pytest

from dmvpn.identity import addrblock
from dmvpn.identity.der import Malformed


@pytest.mark.parametrize(
    ("prefixes", "wire"),
    [
        pytest.param(["100.64.0.11/32"], "300f 300d 0402 0001 3007 0305 00 6440000b", id="a transport address"),
        pytest.param(["100.64.0.0/16"], "300d 300b 0402 0001 3005 0303 00 6440", id="whole octets"),
        pytest.param(["10.64.0.0/12"], "300d 300b 0402 0001 3005 0303 04 0a40", id="RFC 3779 2.1.1: 10.64/12"),
        pytest.param(["10.64.0.0/20"], "300e 300c 0402 0001 3006 0304 04 0a4000", id="RFC 3779 2.1.1: 10.64/20"),
        pytest.param(["0.0.0.0/0"], "300b 3009 0402 0001 3003 0301 00", id="everything"),
        pytest.param(["10.0.1.0/24", "10.0.0.0/24"], "300e 300c 0402 0001 3006 0304 01 0a0000", id="neighbours merge"),
        pytest.param(
            ["2001:db8::/32", "10.0.0.0/8"],
            "301b 300a 0402 0001 3004 0302 00 0a 300d 0402 0002 3007 0305 00 20010db8",
            id="IPv4 before IPv6",
        ),
    ],
)
def test_blocks_are_the_octets_of_the_rfc(prefixes: list[str], wire: str) -> None:
    networks = [ip_network(prefix) for prefix in prefixes]
    octets = addrblock.encode(networks)
    assert octets.hex() == wire.replace(" ", "")
    assert addrblock.encode(addrblock.decode(octets)) == octets


@pytest.mark.parametrize(
    "wire",
    [
        pytest.param("", id="nothing"),
        pytest.param("3080 0000", id="indefinite length"),
        pytest.param("3008 3006 0402 0001 0500", id="inherit"),
        pytest.param("300e 300c 0402 0003 3006 0304 00 0a0000", id="no such family"),
        pytest.param("300f 300d 0403 000101 3006 0304 00 0a0000", id="a SAFI"),
        pytest.param("3010 300e 0402 0001 3008 0306 00 6440000b0c", id="five octets of IPv4"),
        pytest.param("300d 300b 0402 0001 3005 0303 08 0a40", id="eight unused bits"),
        pytest.param("300d 300b 0402 0001 3005 0303 04 0a41", id="bits beyond the length"),
        pytest.param("300d 300b 0402 0001 3005 0303 00 6440 00", id="an octet left over"),
    ],
)
def test_what_we_would_not_write_is_malformed(wire: str) -> None:
    with pytest.raises(Malformed):
        addrblock.decode(bytes.fromhex(wire))
