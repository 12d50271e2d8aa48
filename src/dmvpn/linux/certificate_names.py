"""What charon knows a certificate by: subject and alternative names in its DER. RFC 5280 4.1, 4.2.1.6; X.690.

Only as much as vici does not tell; whoever judges a certificate reads it with a library.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from ipaddress import ip_address

_SEQUENCE = 0x30
_OBJECT_IDENTIFIER = 0x06
_OCTET_STRING = 0x04
_UTC_TIME = 0x17
_EXTENSIONS = 0xA3
_SUBJECT_ALTERNATIVE_NAME = bytes.fromhex("551d11")  # 2.5.29.17
_TEXT_NAMES = (0x81, 0x82)  # rfc822Name, dNSName
_IP_NAME = 0x87
_ATTRIBUTES = {  # as charon abbreviates them (libstrongswan, utils/identification.c)
    "550403": "CN",
    "550404": "SN",
    "550405": "serialNumber",
    "550406": "C",
    "550407": "L",
    "550408": "ST",
    "55040a": "O",
    "55040b": "OU",
    "55040c": "T",
    "55042a": "G",
    "0992268993f22c640101": "UID",
    "0992268993f22c640119": "DC",
    "2a864886f70d010901": "E",
}


@dataclass(frozen=True, slots=True)
class CertificateNames:
    """Names as charon writes identities; `not_before` is Unix time, 0 when the octets are no certificate."""

    subject: str
    alternatives: tuple[str, ...]
    not_before: float


def names_of(der: bytes) -> CertificateNames:
    """The names in a certificate; octets that are none have no names."""
    fields = list(_elements(_inside(_inside(der, _SEQUENCE), _SEQUENCE)))
    alternatives: tuple[str, ...] = ()
    for tag, value in fields:
        if tag == _EXTENSIONS:
            alternatives = tuple(_alternatives(_inside(value, _SEQUENCE)))
    not_before, subject = 0.0, ""
    for at, (tag, value) in enumerate(fields):
        # The validity is the one sequence of the body that begins with a time; the subject follows it.
        moment = _moment(*next(_elements(value), (0, b""))) if tag == _SEQUENCE else 0.0
        if moment:
            not_before = moment
            subject = ", ".join(_parts(fields[at + 1][1])) if at + 1 < len(fields) else ""
            break
    return CertificateNames(subject, alternatives, not_before)


def _parts(name: bytes) -> Iterator[str]:
    """The relative names of a distinguished name in charon's notation, in the order of the certificate."""
    for _tag, relative in _elements(name):
        for _inner_tag, pair in _elements(relative):
            parts = [value for _, value in _elements(pair)]
            if len(parts) == 2:
                key = _ATTRIBUTES.get(parts[0].hex())
                yield f"{key or parts[0].hex(':')}={parts[1].decode(errors='replace')}"


def _elements(octets: bytes) -> Iterator[tuple[int, bytes]]:
    """Tag and content of each element, until one is cut short."""
    offset = 0
    while offset + 2 <= len(octets):
        tag, length = octets[offset], octets[offset + 1]
        offset += 2
        if length & 0x80:
            size = length & 0x7F
            length = int.from_bytes(octets[offset : offset + size], "big")
            offset += size
        if offset + length > len(octets):
            return
        yield tag, octets[offset : offset + length]
        offset += length


def _inside(octets: bytes, wanted: int) -> bytes:
    tag, value = next(_elements(octets), (0, b""))
    return value if tag == wanted else b""


def _alternatives(extensions: bytes) -> Iterator[str]:
    for _tag, extension in _elements(extensions):
        parts = list(_elements(extension))
        if not parts or parts[0] != (_OBJECT_IDENTIFIER, _SUBJECT_ALTERNATIVE_NAME) or parts[-1][0] != _OCTET_STRING:
            continue
        for tag, value in _elements(_inside(parts[-1][1], _SEQUENCE)):
            if tag in _TEXT_NAMES:
                yield value.decode("ascii", errors="replace")
            elif tag == _IP_NAME and len(value) in (4, 16):
                yield str(ip_address(value))


def _moment(tag: int, value: bytes) -> float:
    """UTCTime (two digits of the year, 50 and above are the last century's) or GeneralizedTime, both ending in Z."""
    form = "%y%m%d%H%M%SZ" if tag == _UTC_TIME else "%Y%m%d%H%M%SZ"
    try:
        moment = datetime.strptime(value.decode("ascii"), form).replace(tzinfo=UTC)
    except ValueError:
        return 0.0
    return moment.timestamp()
