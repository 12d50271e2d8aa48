"""The MTU inside GRE and ESP, row by row, as one adds it up by hand from RFC 4303 and RFC 2784."""

import pytest

from dmvpn.network.mtu import CIPHERS, cipher_of, tunnel_mtu_octets
from dmvpn.network.plan import Plane

TRANSPORT = {"tunnel_mode": False}
NO_NAT = {"nat_traversal": False}


@pytest.mark.parametrize(
    ("underlay", "esp", "plane", "options", "mtu"),
    [
        pytest.param(1500, "aes256gcm16", Plane.KERNEL, TRANSPORT | NO_NAT, 1438, id="GCM, transport"),
        pytest.param(1500, "aes256gcm16", Plane.KERNEL, TRANSPORT, 1430, id="GCM, transport, NAT-T"),
        pytest.param(1500, "aes256-sha256", Plane.KERNEL, TRANSPORT | NO_NAT, 1430, id="CBC, transport"),
        pytest.param(1500, "aes256-sha256", Plane.KERNEL, TRANSPORT, 1414, id="CBC, transport, NAT-T"),
        pytest.param(1492, "aes256gcm16", Plane.KERNEL, TRANSPORT | NO_NAT, 1430, id="GCM, transport, PPPoE"),
        pytest.param(1492, "aes256-sha256", Plane.KERNEL, TRANSPORT | NO_NAT, 1414, id="CBC, transport, PPPoE"),
        pytest.param(1500, "aes256gcm16", Plane.KERNEL, NO_NAT, 1418, id="GCM, tunnel mode"),
        pytest.param(1500, "aes256gcm16", Plane.KERNEL, {}, 1410, id="GCM, tunnel mode, NAT-T"),
        pytest.param(1500, "aes256gcm16", Plane.KERNEL, {"gre_key": False}, 1414, id="without a key"),
        pytest.param(1500, "aes256gcm16", Plane.KERNEL, NO_NAT | {"outer_octets": 40}, 1398, id="over IPv6"),
        pytest.param(9000, "aes256gcm16", Plane.KERNEL, {}, 8910, id="jumbo"),
        pytest.param(1500, "aes256gcm16", Plane.USERSPACE, {}, 1372, id="libipsec's 1400 decides"),
        pytest.param(1500, "aes256gcm16", Plane.USERSPACE, {"gre_key": False}, 1376, id="libipsec, without a key"),
        pytest.param(9000, "aes256gcm16", Plane.USERSPACE, {}, 1372, id="libipsec, jumbo is no use"),
        pytest.param(1500, "aes256gcm16", Plane.USERSPACE, NO_NAT, 1372, id="libipsec is always in UDP"),
        pytest.param(1464, "aes256gcm16", Plane.USERSPACE, {}, 1372, id="the smallest underlay that fits 1400"),
        pytest.param(1463, "aes256gcm16", Plane.USERSPACE, {}, 1370, id="one octet less"),
        pytest.param(1400, "aes256gcm16", Plane.USERSPACE, {}, 1310, id="the underlay decides"),
        pytest.param(1280, "aes256gcm16", Plane.USERSPACE, {"outer_octets": 40}, 1170, id="the narrowest IPv6"),
        pytest.param(1500, "chacha20poly1305", Plane.KERNEL, TRANSPORT, 1430, id="ChaCha20"),
    ],
)
def test_the_mtu_is_what_is_left(underlay: int, esp: str, plane: Plane, options: dict[str, int], mtu: int) -> None:
    assert tunnel_mtu_octets(underlay, cipher_of(esp), plane, **options) == mtu


@pytest.mark.parametrize("esp", [word if CIPHERS[word].icv else f"{word}-sha256" for word in CIPHERS])
@pytest.mark.parametrize("plane", Plane)
@pytest.mark.parametrize("underlay", [1280, 1400, 1463, 1492, 1500, 9000])
def test_a_full_packet_fits_the_underlay_and_one_octet_more_does_not(underlay: int, esp: str, plane: Plane) -> None:
    cipher = cipher_of(esp)

    def on_the_underlay(inner: int) -> int:
        packet = inner + 8 + 20 + 2  # GRE with key, its outer header, ESP's trailer
        padded = packet + -packet % cipher.block
        return 20 + 8 + 8 + cipher.iv + padded + cipher.icv

    mtu = tunnel_mtu_octets(underlay, cipher, plane)
    assert on_the_underlay(mtu) <= underlay
    if plane is Plane.KERNEL or mtu < 1372:
        assert on_the_underlay(mtu + 1) > underlay


@pytest.mark.parametrize("esp", ["3des-sha1", "aes256", "null", "aes256-md5"])
def test_a_proposal_that_is_not_known_or_not_protected_is_refused(esp: str) -> None:
    with pytest.raises(KeyError):
        cipher_of(esp)
