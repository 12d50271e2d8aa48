"""The fixed header, the entries and the helpers of a packet, row by row."""

from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address, ip_network

import pytest
from codec_cases import reseal, wire

from dmvpn.nhrp.candidates import OUI, Candidates
from dmvpn.nhrp.checksum import checksum
from dmvpn.nhrp.cie import Cie
from dmvpn.nhrp.cursor import Malformed
from dmvpn.nhrp.events import DropReason, Endpoint
from dmvpn.nhrp.extensions import (
    CiscoAuthentication,
    CiscoNat,
    ForwardTransit,
    ResponderAddress,
    ReverseTransit,
    Unknown,
    VendorPrivate,
)
from dmvpn.nhrp.numbers import CieCode, ErrorCode, Kind
from dmvpn.nhrp.packet import Packet, decode, decode_head, offending

REQUEST = wire("registration-request-ios")
PURGE = wire("purge-request")
SPOKE = IPv4Address("10.255.1.11")
HUB = IPv4Address("10.255.1.1")
NBMA = IPv4Address("192.0.2.11")
ENTRY = Cie(CieCode.OK, 32, 1400, 600, 0, None, b"", None)
PACKET = Packet(Kind.REGISTRATION_REQUEST, 255, 0x8002, 7, NBMA, SPOKE, HUB, (ENTRY,))


def patched(octets: bytes, at: int, value: str) -> bytes:
    new = bytes.fromhex(value)
    return octets[:at] + new + octets[at + len(new) :]


@pytest.mark.parametrize(
    ("at", "value", "reason", "fault"),
    [
        pytest.param(0, "0003", "unsupported", "octet 0: address family 3, not 1 (IPv4) or 2 (IPv6)", id="NSAP"),
        pytest.param(
            2, "0806", "unsupported", "octet 2: protocol type 0x0806, not 0x0800 (IPv4) or 0x86dd (IPv6)", id="ARP"
        ),
        pytest.param(16, "00", "version", "octet 16: version 0, not 1", id="NARP, the predecessor"),
        pytest.param(17, "09", "unsupported", "octet 17: packet type 9, not 1 to 8", id="kind above the last"),
        pytest.param(17, "00", "unsupported", "octet 17: packet type 0, not 1 to 8", id="kind below the first"),
        pytest.param(18, "10", "malformed", "octet 18: source NBMA address: length 16, not 4", id="NBMA IPv6 in IPv4"),
        pytest.param(18, "00", "malformed", "octet 18: source NBMA address: length 0, not 4", id="no NBMA address"),
        pytest.param(20, "10", "malformed", "octet 20: source protocol address: length 16, not 4", id="source IPv6"),
        pytest.param(21, "00", "malformed", "octet 21: destination protocol address: length 0, not 4", id="nowhere"),
        pytest.param(
            14, "0027", "malformed", "octet 14: extension offset 39, not from 40 to 105", id="extensions in addresses"
        ),
        pytest.param(
            14, "006a", "malformed", "octet 14: extension offset 106, not from 40 to 105", id="beyond the end"
        ),
        pytest.param(
            14, "0069", "malformed", "octet 105: extension type: 2 octets needed, 0 left", id="no end of extensions"
        ),
        pytest.param(41, "21", "malformed", "octet 41: CIE prefix length 33: longer than the address", id="prefix 33"),
        pytest.param(
            41, "fe", "malformed", "octet 41: CIE prefix length 254: longer than the address", id="prefix 254"
        ),
        pytest.param(48, "05", "malformed", "octet 52: CIE NBMA address: length 5, not 4 or 16", id="NBMA of 5 octets"),
        pytest.param(50, "20", "malformed", "octet 52: CIE protocol address: length 32, not 4 or 16", id="32 octets"),
    ],
)
def test_a_field_that_is_wrong_is_named_with_its_octet(at: int, value: str, reason: str, fault: str) -> None:
    with pytest.raises(Malformed) as caught:
        decode(reseal(patched(REQUEST, at, value)))
    assert (str(caught.value), caught.value.reason) == (fault, DropReason(reason))


@pytest.mark.parametrize(
    ("octets", "reason", "fault"),
    [
        pytest.param(b"", "malformed", "octet 0: fixed header: 20 octets needed, 0 left", id="nothing"),
        pytest.param(REQUEST[:19], "malformed", "octet 0: fixed header: 20 octets needed, 19 left", id="half a header"),
        pytest.param(REQUEST[:-1], "malformed", "octet 10: packet length 105, but 104 octets arrived", id="one short"),
        pytest.param(
            patched(REQUEST, 10, "2401"), "oversized", "octet 10: packet length 9217, above 9216", id="too long"
        ),
        pytest.param(patched(REQUEST, 12, "0000"), "checksum", "octet 12: the checksum is wrong", id="no checksum"),
        pytest.param(
            reseal(REQUEST[:27]), "malformed", "octet 24: request id: 4 octets needed, 3 left", id="mandatory part cut"
        ),
        pytest.param(
            reseal(REQUEST[:20]),
            "malformed",
            "octet 20: source protocol length: 1 octets needed, 0 left",
            id="only a header",
        ),
        pytest.param(
            reseal(PURGE[:47]), "malformed", "octet 46: CIE holding time: 2 octets needed, 1 left", id="entry cut"
        ),
        pytest.param(
            reseal(PURGE + bytes(8)),
            "malformed",
            "octet 68: CIE NBMA address length: 1 octets needed, 0 left",
            id="octets behind the last entry",
        ),
    ],
)
def test_a_packet_that_is_cut_or_too_long_says_so(octets: bytes, reason: str, fault: str) -> None:
    with pytest.raises(Malformed) as caught:
        decode(octets)
    assert (str(caught.value), caught.value.reason) == (fault, DropReason(reason))


@pytest.mark.parametrize(
    ("name", "at", "value"),
    [
        pytest.param("registration-request-ios", 4, "0102030405", id="SNAP is ignored"),
        pytest.param("registration-request-ios", 18, "44", id="E.164 bit of the source's NBMA length"),
        pytest.param("registration-request-ios", 18, "c4", id="both upper bits of the source's NBMA length"),
        pytest.param("registration-request-ios", 19, "40", id="type bit of an empty subaddress"),
        pytest.param("purge-request", 48, "44", id="type bit of an entry's NBMA length"),
        pytest.param("registration-request-ios", 42, "ffff", id="unused field of an entry"),
        pytest.param("registration-request-ios", 52, "c003", id="unused bit of an extension's type"),
    ],
)
def test_what_means_nothing_is_ignored_and_sent_as_zero(name: str, at: int, value: str) -> None:
    packet = decode(reseal(patched(wire(name), at, value)))
    assert packet == decode(wire(name))
    assert packet.encode() == wire(name)


def test_octets_behind_the_end_of_the_extensions_are_let_go() -> None:
    assert decode(reseal(REQUEST + bytes(16))) == decode(REQUEST)


@pytest.mark.parametrize(
    ("octets", "expected"),
    [
        pytest.param("", 0xFFFF, id="nothing"),
        pytest.param("0001f203f4f5f6f7", 0x220D, id="the example of RFC 1071"),
        pytest.param("01", 0xFEFF, id="odd: a zero octet follows"),
        pytest.param("ffff", 0x0000, id="minus zero"),
        pytest.param("0000", 0xFFFF, id="plus zero"),
        pytest.param("fffe0001", 0x0000, id="carries into minus zero"),
    ],
)
def test_the_checksum_is_the_internet_checksum(octets: str, expected: int) -> None:
    assert checksum(bytes.fromhex(octets)) == expected


@pytest.mark.parametrize(
    ("prefix_length", "protocol", "expected"),
    [
        pytest.param(0, None, "10.255.1.11/32", id="0 is a host"),
        pytest.param(32, None, "10.255.1.11/32", id="32 is a host"),
        pytest.param(255, None, "10.255.1.11/32", id="255 is a host"),
        pytest.param(24, None, "10.255.1.0/24", id="a network of the header's address"),
        pytest.param(24, "10.1.12.5", "10.1.12.0/24", id="a network of its own address"),
        pytest.param(128, "10.1.12.5", "10.1.12.5/32", id="128 is a host of IPv4 as well"),
        pytest.param(0, "fd00::1", "fd00::1/128", id="IPv6: 0 is a host"),
        pytest.param(128, "fd00::1", "fd00::1/128", id="IPv6: 128 is a host"),
        pytest.param(255, "fd00::1", "fd00::1/128", id="IPv6: 255 is a host"),
        pytest.param(32, "fd00:1:2::1", "fd00:1::/32", id="IPv6: 32 is a network"),
    ],
)
def test_an_entry_covers_a_host_or_a_network(prefix_length: int, protocol: str | None, expected: str) -> None:
    address = None
    if protocol:
        address = IPv6Address(protocol) if ":" in protocol else IPv4Address(protocol)
    cie = replace(ENTRY, prefix_length=prefix_length, protocol=address)
    assert cie.network(SPOKE) == ip_network(expected)


@pytest.mark.parametrize(
    ("cie", "fault"),
    [
        pytest.param(
            replace(ENTRY, nbma=IPv6Address("::1")),
            "octet 40: CIE NBMA address: not of the packet's address family",
            id="IPv6 NBMA address in an IPv4 underlay",
        ),
        pytest.param(
            replace(ENTRY, protocol=IPv6Address("::1")),
            "octet 40: CIE protocol address: not of the packet's protocol type",
            id="IPv6 address in an IPv4 overlay",
        ),
    ],
)
def test_an_entry_of_another_family_is_refused(cie: Cie, fault: str) -> None:
    with pytest.raises(Malformed, match=fault):
        decode(replace(PACKET, cies=(cie,)).encode())


def test_a_packet_above_the_limit_is_not_built() -> None:
    with pytest.raises(Malformed) as caught:
        replace(PACKET, cies=(ENTRY,) * 800).encode()
    assert caught.value.reason is DropReason.OVERSIZED


def test_an_indication_ends_where_its_extensions_begin() -> None:
    packet = decode(wire("traffic-indication"))
    assert len(packet.payload) == 28  # although the packet in it says 84
    assert (packet.request_id, packet.cies) == (0, ())


def test_an_error_indication_holds_all_octets_to_its_end() -> None:
    packet = decode(wire("error-indication-authentication"))
    assert (packet.error_code, packet.error_offset) == (ErrorCode.AUTHENTICATION_FAILURE, 52)
    about = decode_head(packet.payload)
    assert (about.kind, about.request_id, about.source_protocol) == (Kind.REGISTRATION_REQUEST, 7, SPOKE)


def test_an_error_about_a_packet_has_its_head_and_what_ios_wants_behind_it() -> None:
    assert offending(REQUEST) == REQUEST + bytes(16)
    assert len(offending(bytes(9000))) == 528


def test_an_error_about_an_indication_keeps_its_code() -> None:
    about = decode_head(wire("error-indication-authentication"))
    assert (about.error_code, about.request_id) == (11, 0)


def test_an_extension_is_found_by_its_class() -> None:
    packet = decode(REQUEST)
    nat = packet.extension(CiscoNat)
    assert nat is not None
    assert nat.cies[0].protocol == HUB
    assert packet.extension(VendorPrivate) is None


def test_an_extension_is_replaced_in_its_place() -> None:
    packet = decode(REQUEST).with_extension(ForwardTransit((ENTRY,)))
    kinds = [type(extension) for extension in packet.extensions]
    assert kinds == [ResponderAddress, ForwardTransit, ReverseTransit, CiscoAuthentication, CiscoNat]
    assert packet.extension(ForwardTransit) == ForwardTransit((ENTRY,))


def test_an_extension_that_was_not_there_is_the_last() -> None:
    new = Unknown(77, compulsory=False, value=b"x")
    assert decode(REQUEST).with_extension(new).extensions[-1] == new


def test_a_duplicated_authentication_is_sent_once() -> None:
    twice = replace(PACKET, extensions=(CiscoAuthentication(b"a"), ForwardTransit(), CiscoAuthentication(b"b")))
    assert twice.with_extension(CiscoAuthentication(b"c")).extensions == (CiscoAuthentication(b"c"), ForwardTransit())


def test_an_extension_is_taken_away_by_its_class() -> None:
    assert PACKET.with_extension(CiscoNat()).without_extension(CiscoNat) == PACKET


def test_candidates_replace_ours_and_leave_another_vendors_alone() -> None:
    cisco = VendorPrivate(b"\0\0\x0c", b"\x01\x01a")
    first = Candidates(public=(Endpoint(NBMA, 4500),))
    second = Candidates(private=(Endpoint(SPOKE, 4500),), observed=Endpoint(IPv6Address("::1"), 500))
    packet = replace(PACKET, extensions=(cisco,)).with_candidates(first).with_candidates(second)
    assert packet.extensions == (cisco, second.to_vendor())
    assert decode(packet.encode()).candidates() == second
    assert replace(PACKET, extensions=(cisco,)).candidates() is None


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        pytest.param("01", "octet 60: candidate length: 1 octets needed, 0 left", id="type without length"),
        pytest.param("0106 1194 c0", "octet 61: candidate 1: 6 octets needed, 3 left", id="length lies"),
        pytest.param("0101 11", "octet 61: candidate port: 2 octets needed, 1 left", id="half a port"),
        pytest.param("0104 1194 c000", "octet 63: candidate address: length 2, not 4 or 16", id="half an address"),
        pytest.param(
            "0306 01f4 c0000201 0306 01f4 c0000202", "octet 67: more than 1 candidates of type 3", id="seen twice"
        ),
        pytest.param(
            "0206 1194 c0000201" * 9, "octet 123: more than 8 candidates of type 2", id="too many to be tried"
        ),
    ],
)
def test_malformed_candidates_say_which_octet_of_the_packet(data: str, fault: str) -> None:
    packet = replace(PACKET, cies=(), extensions=(ForwardTransit((ENTRY,)), VendorPrivate(OUI, bytes.fromhex(data))))
    octets = replace(packet, extensions=packet.extensions[1:], cies=(ENTRY,)).encode()
    with pytest.raises(Malformed) as caught:
        decode(octets)
    assert str(caught.value) == fault
    with pytest.raises(Malformed, match="candidate"):
        decode(packet.encode())


def test_candidates_above_the_limit_are_not_sent_and_unknown_kinds_are_skipped() -> None:
    many = tuple(Endpoint(NBMA, port) for port in range(9))
    vendor = Candidates(many, many).to_vendor()
    extended = VendorPrivate(vendor.oui, b"\x7f\x02ab" + vendor.data)
    assert Candidates.from_vendor(extended) == Candidates(many[:8], many[:8])
    assert Candidates.from_vendor(VendorPrivate(b"\0\0\x0c", b"")) is None
