"""Extensions one by one: bounds, the compulsory bit, and what of them may be seen."""

import pytest

from dmvpn.nhrp.cursor import Cursor, Malformed
from dmvpn.nhrp.extensions import (
    EXTENSIONS,
    CiscoAuthentication,
    Extension,
    ForwardTransit,
    OnTransit,
    ResponderAddress,
    ReverseTransit,
    Unknown,
    VendorPrivate,
    decode_all,
    decode_one,
    encode_all,
    encode_one,
)

ENTRY = "00200000 05780258 04000400 c0000201 0aff0101"


@pytest.mark.parametrize(
    ("wire", "fault"),
    [
        pytest.param("", "octet 0: extension type: 2 octets needed, 0 left", id="no end"),
        pytest.param("80", "octet 0: extension type: 2 octets needed, 1 left", id="half a type"),
        pytest.param("0009 00", "octet 2: length of extension 9: 2 octets needed, 1 left", id="half a length"),
        pytest.param("0009 0004 aa", "octet 4: extension 9: 4 octets needed, 1 left", id="length lies"),
        pytest.param("8000 0001 00", "octet 0: the end of the extensions has 1 octets, not 0", id="end with a value"),
        pytest.param("8003 0004 00200000", "octet 8: CIE MTU: 2 octets needed, 0 left", id="responder cut"),
        pytest.param(f"8003 0028 {ENTRY} {ENTRY}", "octet 24: extension 3: 20 octets too many", id="two responders"),
        pytest.param(
            f"8004 0015 {ENTRY} 00", "octet 25: CIE prefix length: 1 octets needed, 0 left", id="transit runs on"
        ),
        pytest.param("8007 0000", "octet 4: authentication scheme: 4 octets needed, 0 left", id="authentication of 0"),
        pytest.param("8007 0003 000000", "octet 4: authentication scheme: 4 octets needed, 3 left", id="half a scheme"),
        pytest.param("0008 0002 0000", "octet 4: vendor OUI: 3 octets needed, 2 left", id="half an OUI"),
    ],
)
def test_a_malformed_extension_says_which_octet(wire: str, fault: str) -> None:
    with pytest.raises(Malformed) as caught:
        decode_one(Cursor(bytes.fromhex(wire)))
    assert str(caught.value) == fault


@pytest.mark.parametrize(
    ("wire", "extension"),
    [
        pytest.param("8003 0000", ResponderAddress(), id="responder of a request"),
        pytest.param("0004 0000", ForwardTransit(compulsory=False), id="transit that need not be understood"),
        pytest.param("8007 0009 00000001 41424344 45", CiscoAuthentication(b"ABCDE"), id="password without padding"),
        pytest.param("8007 0004 00000001", CiscoAuthentication(b""), id="empty password"),
        pytest.param("0008 0003 00000c", VendorPrivate(b"\0\0\x0c", b""), id="vendor without data"),
        pytest.param("8063 0001 ff", Unknown(0x63, compulsory=True, value=b"\xff"), id="unknown and compulsory"),
        pytest.param("0063 0000", Unknown(0x63, compulsory=False, value=b""), id="unknown and not compulsory"),
        pytest.param("bfff 0000", Unknown(0x3FFF, compulsory=True, value=b""), id="the highest type"),
    ],
)
def test_an_extension_is_read_and_written(wire: str, extension: Extension) -> None:
    octets = bytes.fromhex(wire)
    assert decode_one(Cursor(octets)) == extension
    assert encode_one(extension) == octets


def test_the_end_is_written_behind_the_last_and_only_behind_some() -> None:
    assert encode_all((ResponderAddress(),)).hex() == "8003000080000000"
    assert encode_all(()) == b""
    assert decode_all(Cursor(bytes.fromhex("80000000 ffff"))) == ()


def test_the_registry_is_in_the_order_of_types_and_transit_is_told_for_each() -> None:
    assert [extension.TYPE for extension in EXTENSIONS] == [3, 4, 5, 7, 8, 9]
    rules = {extension: extension.ON_TRANSIT for extension in EXTENSIONS if extension.ON_TRANSIT is not OnTransit.COPY}
    assert rules == {
        ForwardTransit: OnTransit.RECORD_ON_REQUEST,
        ReverseTransit: OnTransit.RECORD_ON_REPLY,
        CiscoAuthentication: OnTransit.REPLACE,
    }
    assert Unknown.ON_TRANSIT is OnTransit.COPY


@pytest.mark.parametrize(
    ("received", "expected"),
    [
        pytest.param(CiscoAuthentication(b"secret"), True, id="the same"),
        pytest.param(CiscoAuthentication(b"secret", compulsory=False), True, id="the compulsory bit does not matter"),
        pytest.param(CiscoAuthentication(b"secre"), False, id="a beginning of it"),
        pytest.param(CiscoAuthentication(b"secret\0"), False, id="padded"),
        pytest.param(CiscoAuthentication(b""), False, id="empty"),
        pytest.param(CiscoAuthentication(b"secret", scheme=2), False, id="another scheme"),
    ],
)
def test_a_password_matches_as_a_whole(received: CiscoAuthentication, *, expected: bool) -> None:
    assert received.matches(b"secret") is expected


def test_a_password_is_not_in_the_repr() -> None:
    assert "hunter" not in repr(CiscoAuthentication(b"hunter2"))
