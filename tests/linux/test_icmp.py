import pytest

from dmvpn.linux import icmp
from dmvpn.nhrp.checksum import checksum


@pytest.mark.parametrize(
    "body", [b"", b"OpenDMVPN", bytes(1400), b"\xff" * 65535], ids=["none", "odd", "zeros", "large"]
)
def test_the_checksum_of_an_echo_holds_and_what_was_put_in_comes_out(body: bytes) -> None:
    sent = icmp.echo_request(4, 0xFFFE, 513, body)
    assert checksum(sent) == 0
    assert sent.endswith(body)
    assert icmp.echo_in(sent) == (8, 0xFFFE, 513)


def test_of_icmpv6_the_kernel_makes_the_checksum() -> None:
    assert icmp.echo_request(6, 1, 2, b"x") == bytes.fromhex("80 00 0000 0001 0002 78")


@pytest.mark.parametrize("octets", [b"", bytes(7)])
def test_what_is_cut_short_is_no_echo(octets: bytes) -> None:
    assert icmp.echo_in(octets) is None


def test_the_ip_header_of_a_raw_socket_goes() -> None:
    assert icmp.without_ip(b"\x46" + bytes(23) + b"icmp") == b"icmp"
    assert icmp.without_ip(b"") == b""
