"""Cases about what must not be believed: errors, damaged packets, passwords. RFC 2332 5.1, 5.2.7 and 5.3."""

from dataclasses import replace

from dmvpn.nhrp.conformance.asking import (
    COMPULSORY,
    ask,
    register,
    registration,
    resolution,
    spoilt,
)
from dmvpn.nhrp.conformance.bench import Ask, Bench, Judged, Script, Verdict, Wait
from dmvpn.nhrp.conformance.judging import error_of, expect, first, passed, reply_of, silent
from dmvpn.nhrp.extensions import CiscoAuthentication
from dmvpn.nhrp.numbers import HEADER_OCTETS, CieCode, ErrorCode, Kind, ResolutionFlag
from dmvpn.nhrp.packet import CHECKSUM_AT, EXTENSION_OFFSET_AT, SIZE_AT, VERSION_AT, Packet

OTHER_VERSION = b"\x02"
PADDING = bytes(18)
SHORT_OCTETS = 3


def refuses_the_unknown_compulsory(bench: Bench) -> Script:
    packet = registration(bench)
    packet = replace(packet, extensions=(*packet.extensions, COMPULSORY))
    error = error_of((yield ask(bench, packet)), ErrorCode.UNRECOGNISED_EXTENSION)
    return passed(f"error 1, at octet {error.error_offset}")


def builds_errors_as_told(bench: Bench) -> Script:
    packet = registration(bench)
    packet = replace(packet, extensions=(*packet.extensions, COMPULSORY))
    heard = yield ask(bench, packet)
    error = first(heard, Kind.ERROR_INDICATION)
    expect(error.destination_protocol == packet.source_protocol, f"it is for {error.destination_protocol}")
    expect(error.source_protocol == bench.peer, f"it is from {error.source_protocol}")
    others = [one for one in error.extensions if not isinstance(one, CiscoAuthentication)]
    expect(not others, f"it has {len(others)} extensions")
    expect(error.hop_count > 0, "its hop count is 0")
    begins = packet.encode()[HEADER_OCTETS:][: len(packet.source_nbma.packed) + 8]
    expect(begins in error.payload, "the head of the offending packet is not in it")
    return passed(f"to the source, without extensions, with {len(error.payload)} octets of the packet and padding")


def drops_a_bad_checksum(bench: Bench) -> Script:
    octets = bytearray(registration(bench).encode())
    octets[CHECKSUM_AT + 1] ^= 0xFF
    return silent((yield Ask(bytes(octets), bench.nbma, Wait.SILENCE)), "nothing came back")


def drops_another_version(bench: Bench) -> Script:
    octets = spoilt(registration(bench).encode(), VERSION_AT, OTHER_VERSION)
    heard = yield Ask(octets, bench.nbma, Wait.SILENCE)
    replied = any(one.packet is not None and one.packet.kind is Kind.REGISTRATION_REPLY for one in heard)
    expect(not replied, "a packet of version 2 was taken for one of version 1")
    return passed("not taken for version 1")


def drops_a_cut_packet(bench: Bench) -> Script:
    octets = registration(bench).encode()[:-SHORT_OCTETS]
    return silent((yield Ask(octets, bench.nbma, Wait.SILENCE)), "fewer octets than ar$pktsz: nothing came back")


def drops_a_wrong_length(bench: Bench) -> Script:
    """The length covers half of the addresses, so that entries and extensions lie outside."""
    octets = registration(bench).encode()
    octets = spoilt(octets, SIZE_AT, (HEADER_OCTETS + SHORT_OCTETS).to_bytes(2, "big"))
    heard = yield Ask(octets, bench.nbma, Wait.SILENCE)
    return silent(heard, "shorter than its addresses: nothing came back")


def drops_extensions_outside(bench: Bench) -> Script:
    octets = registration(bench).encode()
    octets = spoilt(octets, EXTENSION_OFFSET_AT, (len(octets) + 8).to_bytes(2, "big"))
    heard = yield Ask(octets, bench.nbma, Wait.SILENCE)
    replied = any(one.packet is not None and one.packet.kind is Kind.REGISTRATION_REPLY for one in heard)
    expect(not replied, "registered, although the extensions would begin behind the packet")
    return passed("not registered")


def ignores_padding(bench: Bench) -> Script:
    octets = registration(bench).encode() + PADDING
    reply = reply_of((yield Ask(octets, bench.nbma)), Kind.REGISTRATION_REPLY)
    expect(reply.cies[:1] != () and reply.cies[0].code == CieCode.OK, "refused for octets behind ar$pktsz")
    return passed("octets behind ar$pktsz are no part of the packet")


def sends_no_error_about_an_error(bench: Bench) -> Script:
    yield from register(bench)
    about = resolution(bench, bench.unknown)
    error = Packet(
        kind=Kind.ERROR_INDICATION,
        hop_count=0,  # and cannot be sent on either
        flags=0,
        request_id=0,
        source_nbma=bench.nbma,
        source_protocol=bench.registers,
        destination_protocol=bench.unknown,
        error_code=ErrorCode.UNREACHABLE,
        payload=about.encode(),
    )
    heard = yield Ask(error.encode(), bench.nbma, Wait.SILENCE)
    return silent(heard, "an error for a station that cannot be reached: nothing came back")


def drops_what_was_not_asked(bench: Bench) -> Script:
    yield from register(bench)
    asked = resolution(bench, bench.registers)
    flags = ResolutionFlag.Q | ResolutionFlag.A | ResolutionFlag.D
    reply = replace(asked, kind=Kind.RESOLUTION_REPLY, source_protocol=bench.peer, flags=flags)
    return silent((yield ask(bench, reply, Wait.SILENCE)), "a reply to nothing: nothing came back")


def wants_the_password(bench: Bench) -> Script:
    return (yield from _with_password(bench, None))


def compares_the_password(bench: Bench) -> Script:
    return (yield from _with_password(bench, (bench.password or b"") + b"!"))


def _with_password(bench: Bench, password: bytes | None) -> Script:
    if bench.password is None:
        raise Judged(Verdict.NOT_APPLICABLE, "no password is given; give its file with --authentication")
    packet = registration(bench).without_extension(CiscoAuthentication)
    if password is not None:
        packet = packet.with_extension(CiscoAuthentication(password))
    error_of((yield ask(bench, packet)), ErrorCode.AUTHENTICATION_FAILURE)
    return passed("error 11")


def sends_the_password(bench: Bench) -> Script:
    if bench.password is None:
        raise Judged(Verdict.NOT_APPLICABLE, "no password is given; give its file with --authentication")
    reply = reply_of((yield ask(bench, registration(bench))), Kind.REGISTRATION_REPLY)
    given = [one for one in reply.extensions if isinstance(one, CiscoAuthentication)]
    expect(len(given) == 1, f"{len(given)} authentication extensions in the reply")
    expect(given[0].matches(bench.password), "another password in the reply")
    return passed("the reply has it once")
