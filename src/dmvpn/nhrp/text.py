"""A packet in words and as JSON data, for an engineer's eyes. Pure: the faces print it.

Neither form ever holds the authentication value, nor the octets of an error indication's payload, which may hold it.
"""

from collections.abc import Iterator
from enum import IntEnum, IntFlag
from ipaddress import IPv4Address, IPv6Address
from typing import Final, assert_never

from dmvpn.nhrp.candidates import OUI, Candidates
from dmvpn.nhrp.cie import Cie
from dmvpn.nhrp.cursor import Cursor, Malformed
from dmvpn.nhrp.events import Address, Endpoint
from dmvpn.nhrp.extensions import (
    CLEAR_TEXT,
    CiscoAuthentication,
    CiscoNat,
    Extension,
    ForwardTransit,
    ResponderAddress,
    ReverseTransit,
    Unknown,
    VendorPrivate,
    type_of,
)
from dmvpn.nhrp.numbers import (
    PREFIX_WHOLE,
    CieCode,
    ErrorCode,
    IndicationCode,
    Kind,
    PurgeFlag,
    RegistrationFlag,
    ResolutionFlag,
)
from dmvpn.nhrp.packet import INDICATIONS, Packet, decode_head

CISCO_OUI: Final = bytes.fromhex("00000c")
CISCO_GROUP: Final = 1  # sub-type of Cisco's vendor extension: the NHRP group, which names a QoS policy
ABSENT: Final = "as in the header"
FLAGS: Final[dict[Kind, type[IntFlag]]] = {
    Kind.RESOLUTION_REQUEST: ResolutionFlag,
    Kind.RESOLUTION_REPLY: ResolutionFlag,
    Kind.REGISTRATION_REQUEST: RegistrationFlag,
    Kind.REGISTRATION_REPLY: RegistrationFlag,
    Kind.PURGE_REQUEST: PurgeFlag,
    Kind.PURGE_REPLY: PurgeFlag,
}
FLAG_WORDS: Final[dict[IntFlag, str]] = {
    ResolutionFlag.Q: "from a router",
    ResolutionFlag.A: "authoritative",
    ResolutionFlag.D: "destination stable",
    ResolutionFlag.U: "unique",
    ResolutionFlag.S: "source stable",
    ResolutionFlag.NAT: "NAT",
}
NAMES: Final[dict[type[Extension], str]] = {
    ResponderAddress: "responder address",
    ForwardTransit: "forward transit",
    ReverseTransit: "reverse transit",
    CiscoAuthentication: "authentication",
    VendorPrivate: "vendor private",
    CiscoNat: "Cisco NAT",
    Unknown: "unknown",
}


def describe(packet: Packet) -> list[str]:
    """Lines of plain text: the first says what it is, the others are indented by what they belong to."""
    source_nbma = _nbma_words(packet.source_nbma, packet.source_subaddress)
    lines = [
        f"NHRP {_words(packet.kind)}: {packet.source_protocol} -> {packet.destination_protocol}",
        f"  hop count {packet.hop_count}, {_number_line(packet)}",
        f"  flags 0x{packet.flags:04x}: {', '.join(flag_words(packet)) or 'none'}",
        f"  source protocol {packet.source_protocol}, source {source_nbma}",
        f"  destination protocol {packet.destination_protocol}",
    ]
    if packet.kind in INDICATIONS:
        lines.append(f"  about {_payload_words(packet)}")
    for number, cie in enumerate(packet.cies, 1):
        lines.append(f"  entry {number}: {cie_words(cie)}")
    if not packet.extensions:
        lines.append("  no extensions")
    for extension in packet.extensions:
        lines += _extension_lines(extension)
    return lines


def as_json(packet: Packet) -> dict[str, object]:
    """The same as data: strings, numbers, lists and dicts only. Units are in the names."""
    data: dict[str, object] = {
        "kind": _words(packet.kind).replace(" ", "-"),
        "hop_count": packet.hop_count,
        "flags": packet.flags,
        "flag_words": flag_words(packet),
        "source_nbma": str(packet.source_nbma),
        "source_nbma_subaddress": packet.source_subaddress.hex(),
        "source_protocol": str(packet.source_protocol),
        "destination_protocol": str(packet.destination_protocol),
    }
    if packet.kind in INDICATIONS:
        data |= {"code": packet.error_code, "code_words": _code_words(packet)}
        data |= {"error_offset": packet.error_offset, "payload_octets": len(packet.payload)}
        data["about"] = _payload_words(packet)
    else:
        data |= {"request_id": packet.request_id, "entries": [cie_json(cie) for cie in packet.cies]}
    data["extensions"] = [_extension_json(extension) for extension in packet.extensions]
    return data


def flag_words(packet: Packet) -> list[str]:
    """The flags that are set, in words; bits without a meaning for this kind as a number."""
    family = FLAGS.get(packet.kind)
    left = packet.flags
    words = []
    for flag in family or ():
        if packet.flags & flag:
            words.append("no reply wanted" if flag is PurgeFlag.N else _flag_word(flag))
            left &= ~flag
    return [*words, f"unused 0x{left:04x}"] if left else words


def cie_words(cie: Cie) -> str:
    """One entry on one line."""
    protocol = str(cie.protocol or ABSENT)
    return (
        f"protocol {protocol}, {_nbma_words(cie.nbma, cie.nbma_subaddress)}, {_prefix_words(cie)}, "
        f"holding time {cie.holding_time_s} s, MTU {cie.mtu_octets}, preference {cie.preference}, "
        f"code {cie.code} ({code_name(CieCode, cie.code)})"
    )


def cie_json(cie: Cie) -> dict[str, object]:
    return {
        "code": cie.code,
        "code_words": code_name(CieCode, cie.code),
        "prefix_length": cie.prefix_length,
        "mtu_octets": cie.mtu_octets,
        "holding_time_s": cie.holding_time_s,
        "preference": cie.preference,
        "nbma": str(cie.nbma) if cie.nbma else None,
        "nbma_subaddress": cie.nbma_subaddress.hex(),
        "protocol": str(cie.protocol) if cie.protocol else None,
    }


def _number_line(packet: Packet) -> str:
    if packet.kind is Kind.ERROR_INDICATION:
        return f"error {packet.error_code} ({_code_words(packet)}) at octet {packet.error_offset}"
    if packet.kind is Kind.TRAFFIC_INDICATION:
        return f"code {packet.error_code} ({_code_words(packet)})"
    return f"request id {packet.request_id}"


def _code_words(packet: Packet) -> str:
    return code_name(ErrorCode if packet.kind is Kind.ERROR_INDICATION else IndicationCode, packet.error_code)


def code_name(codes: type[IntEnum], code: int) -> str:
    """What a code of the wire means, in words; "unknown" where no RFC tells."""
    return _words(codes(code)) if code in set(codes) else "unknown"


def _words(member: IntEnum) -> str:
    return member.name.lower().replace("_", " ")


def _flag_word(flag: IntFlag) -> str:
    # U and NAT have the same letters in both families, not the same bits.
    return FLAG_WORDS[ResolutionFlag[str(flag.name)]]


def _nbma_words(nbma: Address | None, subaddress: bytes) -> str:
    return f"NBMA {nbma or ABSENT}" + (f" subaddress {subaddress.hex()}" if subaddress else "")


def _prefix_words(cie: Cie) -> str:
    if cie.prefix_length in (0, PREFIX_WHOLE):
        return f"prefix length {cie.prefix_length} (host)"
    return f"prefix length {cie.prefix_length}"


def _payload_words(packet: Packet) -> str:
    if packet.kind is Kind.TRAFFIC_INDICATION:
        return _ip_words(packet.payload)
    try:
        about = decode_head(packet.payload)
    except Malformed:
        return f"{len(packet.payload)} octets that do not begin with an NHRP header"
    number = "" if about.kind in INDICATIONS else f", request id {about.request_id}"
    source = f"{about.source_protocol} (NBMA {about.source_nbma})"
    return f"an NHRP {_words(about.kind)} from {source} to {about.destination_protocol}{number}"


def _ip_words(payload: bytes) -> str:
    source: Address
    destination: Address
    version = payload[0] >> 4 if payload else 0
    if version == 4 and len(payload) >= 20:
        protocol = payload[9]
        source, destination = IPv4Address(payload[12:16]), IPv4Address(payload[16:20])
    elif version == 6 and len(payload) >= 40:
        protocol = payload[6]
        source, destination = IPv6Address(payload[8:24]), IPv6Address(payload[24:40])
    else:
        return f"{len(payload)} octets that do not begin with an IP header"
    return f"an IPv{version} packet from {source} to {destination}, protocol {protocol}, {len(payload)} octets of it"


def _extension_lines(extension: Extension) -> Iterator[str]:
    title = f"  extension {type_of(extension)} {NAMES[type(extension)]}"
    title += " (compulsory)" if extension.compulsory else " (not compulsory)"
    match extension:
        case CiscoAuthentication():
            yield f"{title}: {_authentication_words(extension)}"
        case VendorPrivate(oui=oui):
            yield f"{title}: OUI {oui.hex('-')}"
            for line in _vendor_words(extension):
                yield f"    {line}"
        case Unknown(value=value):
            yield f"{title}: {len(value)} octets {value.hex(' ', -4)}".rstrip()
        case ResponderAddress() | ForwardTransit() | ReverseTransit() | CiscoNat():
            cies = _cies_of(extension)
            yield title if cies else f"{title}: empty"
            for number, cie in enumerate(cies, 1):
                yield f"    entry {number}: {cie_words(cie)}"
        case _:
            assert_never(extension)


def _extension_json(extension: Extension) -> dict[str, object]:
    data: dict[str, object] = {
        "type": type_of(extension),
        "name": NAMES[type(extension)],
        "compulsory": extension.compulsory,
    }
    match extension:
        case CiscoAuthentication(scheme=scheme, password=password):
            return data | {"scheme": scheme, "value_octets": len(password)}
        case VendorPrivate(oui=oui, data=octets):
            return data | {"oui": oui.hex("-"), "data": octets.hex(), "words": _vendor_words(extension)}
        case Unknown(value=value):
            return data | {"value": value.hex()}
        case ResponderAddress() | ForwardTransit() | ReverseTransit() | CiscoNat():
            return data | {"entries": [cie_json(cie) for cie in _cies_of(extension)]}
        case _:
            assert_never(extension)


def _authentication_words(authentication: CiscoAuthentication) -> str:
    scheme = "Cisco clear text" if authentication.scheme == CLEAR_TEXT else f"scheme {authentication.scheme}"
    return f"{scheme}, {len(authentication.password)} octets (not shown)"


def _cies_of(extension: ResponderAddress | ForwardTransit | ReverseTransit | CiscoNat) -> tuple[Cie, ...]:
    if isinstance(extension, ResponderAddress):
        return (extension.cie,) if extension.cie else ()
    return extension.cies


def _vendor_words(vendor: VendorPrivate) -> list[str]:
    try:
        if vendor.oui == OUI:
            return _candidate_words(Candidates.decode(Cursor(vendor.data)))
        if vendor.oui == CISCO_OUI:
            return _cisco_words(Cursor(vendor.data))
    except Malformed:
        pass  # shown raw below; only our own extension is a rule for others, and decode() has checked that one
    return [f"{len(vendor.data)} octets {vendor.data.hex(' ', -4)}".rstrip()]


def _candidate_words(candidates: Candidates) -> list[str]:
    lines = [f"public candidate {_endpoint_words(endpoint)}" for endpoint in candidates.public]
    lines += [f"private candidate {_endpoint_words(endpoint)}" for endpoint in candidates.private]
    if candidates.observed is not None:
        lines.append(f"the receiver is seen as {_endpoint_words(candidates.observed)}")
    return lines or ["no candidates"]


def _endpoint_words(endpoint: Endpoint) -> str:
    host = f"[{endpoint.address}]" if endpoint.address.version == 6 else str(endpoint.address)
    return f"{host}:{endpoint.port}"


def _cisco_words(data: Cursor) -> list[str]:
    lines = []
    while data.left:
        kind = data.number(1, "Cisco sub-type")
        value = data.take(data.number(1, "Cisco length"), "Cisco value")
        if kind == CISCO_GROUP:
            # A peer chose these octets: nothing of them may reach a terminal as a control sequence.
            lines.append("NHRP group " + value.decode("latin-1").encode("unicode_escape").decode("ascii"))
        else:
            lines.append(f"sub-type {kind}: {value.hex(' ', -4)}".rstrip())
    return lines
