"""What an engineer reads: nothing secret, nothing that a terminal would obey, nothing that fails on odd values."""

import json
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address

import pytest
from codec_cases import wire

from dmvpn.nhrp.candidates import OUI, Candidates
from dmvpn.nhrp.cie import Cie
from dmvpn.nhrp.events import Endpoint
from dmvpn.nhrp.extensions import CiscoAuthentication, Extension, Unknown, VendorPrivate
from dmvpn.nhrp.numbers import Kind
from dmvpn.nhrp.packet import Packet, offending
from dmvpn.nhrp.text import as_json, cie_words, describe

HUB = IPv4Address("10.255.1.1")
SPOKE = IPv4Address("10.255.1.11")
NBMA = IPv4Address("192.0.2.11")
REQUEST = Packet(Kind.REGISTRATION_REQUEST, 255, 0x8002, 7, NBMA, SPOKE, HUB)
CISCO = bytes.fromhex("00000c")


@pytest.mark.parametrize(
    ("extension", "lines"),
    [
        pytest.param(
            CiscoAuthentication(b"hunter2"),
            ["  extension 7 authentication (compulsory): Cisco clear text, 7 octets (not shown)"],
            id="password",
        ),
        pytest.param(
            CiscoAuthentication(b"hunter2", 0x00010003, compulsory=False),
            ["  extension 7 authentication (not compulsory): scheme 65539, 7 octets (not shown)"],
            id="another scheme",
        ),
        pytest.param(
            VendorPrivate(CISCO, b"\x01\x05a\x1b[2J"),
            ["  extension 8 vendor private (not compulsory): OUI 00-00-0c", "    NHRP group a\\x1b[2J"],
            id="a group that would clear the screen",
        ),
        pytest.param(
            VendorPrivate(CISCO, b"\x02\x00\x03\x02ab"),
            [
                "  extension 8 vendor private (not compulsory): OUI 00-00-0c",
                "    sub-type 2:",
                "    sub-type 3: 6162",
            ],
            id="other sub-types of Cisco",
        ),
        pytest.param(
            VendorPrivate(CISCO, b"\x01\x05a"),
            ["  extension 8 vendor private (not compulsory): OUI 00-00-0c", "    3 octets 010561"],
            id="Cisco's, cut short",
        ),
        pytest.param(
            VendorPrivate(bytes.fromhex("00000f"), b""),
            ["  extension 8 vendor private (not compulsory): OUI 00-00-0f", "    0 octets"],
            id="another vendor, without data",
        ),
        pytest.param(
            Candidates().to_vendor(),
            ["  extension 8 vendor private (not compulsory): OUI 02-44-4d", "    no candidates"],
            id="one of ours, without candidates",
        ),
        pytest.param(
            Candidates(public=(Endpoint(IPv6Address("2001:db8::1"), 4500),)).to_vendor(),
            [
                "  extension 8 vendor private (not compulsory): OUI 02-44-4d",
                "    public candidate [2001:db8::1]:4500",
            ],
            id="IPv6 candidate",
        ),
        pytest.param(
            Unknown(99, compulsory=False, value=b""),
            ["  extension 99 unknown (not compulsory): 0 octets"],
            id="unknown, empty",
        ),
    ],
)
def test_an_extension_in_words(extension: Extension, lines: list[str]) -> None:
    packet = replace(REQUEST, extensions=(extension,))
    assert describe(packet)[5:] == lines
    assert json.loads(json.dumps(as_json(packet)))["extensions"][0]["compulsory"] is extension.compulsory


@pytest.mark.parametrize(
    ("packet", "line"),
    [
        pytest.param(replace(REQUEST, flags=0), "  flags 0x0000: none", id="no flags"),
        pytest.param(replace(REQUEST, flags=0xC001), "  flags 0xc001: unique, unused 0x4001", id="unknown flags"),
        pytest.param(
            replace(REQUEST, kind=Kind.PURGE_REQUEST, flags=0x8000),
            "  flags 0x8000: no reply wanted",
            id="purge without reply",
        ),
        pytest.param(
            replace(REQUEST, kind=Kind.TRAFFIC_INDICATION, flags=1), "  flags 0x0001: unused 0x0001", id="indication"
        ),
        pytest.param(
            replace(REQUEST, source_subaddress=b"\x0a\x0b"),
            "  source protocol 10.255.1.11, source NBMA 192.0.2.11 subaddress 0a0b",
            id="subaddress",
        ),
        pytest.param(
            replace(REQUEST, kind=Kind.ERROR_INDICATION, error_code=2, error_offset=9),
            "  hop count 255, error 2 (unknown) at octet 9",
            id="an error that RFC 2332 does not have",
        ),
        pytest.param(
            replace(REQUEST, kind=Kind.TRAFFIC_INDICATION, error_code=1),
            "  hop count 255, code 1 (unknown)",
            id="an indication nobody has seen",
        ),
        pytest.param(
            replace(REQUEST, kind=Kind.ERROR_INDICATION, payload=b"junk"),
            "  about 4 octets that do not begin with an NHRP header",
            id="error about junk",
        ),
        pytest.param(
            replace(REQUEST, kind=Kind.ERROR_INDICATION, payload=wire("traffic-indication")),
            "  about an NHRP traffic indication from 10.255.1.1 (NBMA 192.0.2.1) to 10.1.11.5",
            id="error about an indication",
        ),
        pytest.param(
            replace(REQUEST, kind=Kind.TRAFFIC_INDICATION),
            "  about 0 octets that do not begin with an IP header",
            id="indication about nothing",
        ),
        pytest.param(
            replace(REQUEST, kind=Kind.TRAFFIC_INDICATION, payload=b"\x45" + bytes(18)),
            "  about 19 octets that do not begin with an IP header",
            id="IPv4 header cut",
        ),
        pytest.param(
            replace(REQUEST, kind=Kind.TRAFFIC_INDICATION, payload=b"\x60" + bytes(38)),
            "  about 39 octets that do not begin with an IP header",
            id="IPv6 header cut",
        ),
        pytest.param(
            replace(
                REQUEST,
                kind=Kind.TRAFFIC_INDICATION,
                payload=bytes.fromhex("6000000000083a40")
                + IPv6Address("fd00::1").packed
                + IPv6Address("fd00::2").packed
                + bytes(8),
            ),
            "  about an IPv6 packet from fd00::1 to fd00::2, protocol 58, 48 octets of it",
            id="IPv6 packet",
        ),
    ],
)
def test_a_field_in_words(packet: Packet, line: str) -> None:
    assert line in describe(packet)
    assert json.dumps(as_json(packet))


def test_a_code_that_rfc_2332_does_not_have_is_unknown() -> None:
    words = cie_words(Cie(11, 255, 0, 0, 0, None, b"\x01", SPOKE))
    assert words == (
        "protocol 10.255.1.11, NBMA as in the header subaddress 01, prefix length 255 (host), holding time 0 s, MTU 0, "
        "preference 0, code 11 (unknown)"
    )


def test_no_form_of_a_packet_shows_a_password() -> None:
    asked = replace(REQUEST, extensions=(CiscoAuthentication(b"hunter2"),))
    error = replace(REQUEST, kind=Kind.ERROR_INDICATION, request_id=0, payload=offending(asked.encode()))
    for packet in (asked, error):
        for form in (repr(packet), "\n".join(describe(packet)), json.dumps(as_json(packet))):
            assert "hunter2" not in form
            assert b"hunter2".hex() not in form.replace(" ", "")


def test_json_has_the_entries_of_a_reply_and_the_code_of_an_indication() -> None:
    entry = Cie(0, 24, 1400, 600, 0, NBMA, b"", None)
    reply = as_json(replace(REQUEST, kind=Kind.RESOLUTION_REPLY, cies=(entry,)))
    assert reply["kind"] == "resolution-reply"
    assert reply["entries"] == [
        {
            "code": 0,
            "code_words": "ok",
            "prefix_length": 24,
            "mtu_octets": 1400,
            "holding_time_s": 600,
            "preference": 0,
            "nbma": "192.0.2.11",
            "nbma_subaddress": "",
            "protocol": None,
        }
    ]
    error = as_json(replace(REQUEST, kind=Kind.ERROR_INDICATION, error_code=6, error_offset=20, payload=b"x"))
    assert (error["code"], error["code_words"], error["payload_octets"]) == (6, "unreachable", 1)
    assert "request_id" not in error


def test_an_extension_of_ours_that_was_never_decoded_is_shown_raw() -> None:
    assert describe(replace(REQUEST, extensions=(VendorPrivate(OUI, b"\x01"),)))[-1] == "    1 octets 01"
