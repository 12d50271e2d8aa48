"""Cases about a station on the way: hop count, loop, records, order. RFC 2332 5.1 and 5.3.

A station beyond the peer that refuses a compulsory extension sends back what reached it: the only sight of what the
peer made of the packet.
"""

from collections.abc import Generator
from dataclasses import replace

from dmvpn.nhrp.cie import Cie
from dmvpn.nhrp.conformance.asking import COMPULSORY, HOP_COUNT, OPTIONAL, ask, register, resolution, spoilt
from dmvpn.nhrp.conformance.bench import Ask, Bench, Heard, Judged, Script, Verdict
from dmvpn.nhrp.conformance.judging import expect, first, passed
from dmvpn.nhrp.cursor import Malformed
from dmvpn.nhrp.extensions import CiscoAuthentication, ForwardTransit, Unknown, VendorPrivate, type_of
from dmvpn.nhrp.numbers import ErrorCode, Kind
from dmvpn.nhrp.packet import CHECKSUM_AT, Packet, decode

NO_PLACE = "no station beyond the peer is known; give one with --beyond"
UNUSED_OUI = bytes.fromhex("02fffe")


def stops_at_hop_count_zero(bench: Bench) -> Script:
    packet = yield from _to_be_forwarded(bench)
    heard = yield ask(bench, replace(packet, hop_count=0))
    return passed(_said_no(bench, heard, ErrorCode.HOP_COUNT_EXCEEDED))


def finds_a_loop(bench: Bench) -> Script:
    packet = yield from _to_be_forwarded(bench)
    own = Cie(0, bench.peer.max_prefixlen, 0, bench.holding_time_s, 0, bench.peer_nbma, b"", bench.peer)
    heard = yield ask(bench, packet.with_extension(ForwardTransit((own,))))
    return passed(_said_no(bench, heard, ErrorCode.LOOP))


def _to_be_forwarded(bench: Bench) -> Generator[Ask, tuple[Heard, ...], Packet]:
    yield from register(bench)
    return resolution(bench, bench.beyond or bench.unknown)


def _said_no(bench: Bench, heard: tuple[Heard, ...], code: ErrorCode) -> str:
    """Raises Judged. Without a way onward error 6 may come before what is tried."""
    packet = first(heard, Kind.ERROR_INDICATION)
    if packet.error_code == ErrorCode.UNREACHABLE and bench.beyond is None:
        raise Judged(Verdict.NOT_APPLICABLE, f"error 6 before all else: {NO_PLACE}")
    expect(packet.error_code == code, f"error {packet.error_code}, not {int(code)}")
    return f"error {int(code)}"


def takes_one_hop(bench: Bench) -> Script:
    _sent, got = yield from _mirrored(bench)
    expect(got.hop_count == HOP_COUNT - 1, f"{HOP_COUNT} became {got.hop_count}")
    return passed(f"{HOP_COUNT} became {got.hop_count}")


def records_itself(bench: Bench) -> Script:
    _sent, got = yield from _mirrored(bench)
    record = got.extension(ForwardTransit)
    cies = () if record is None else record.cies
    mine = any(cie.protocol == bench.peer or cie.nbma == bench.peer_nbma for cie in cies)
    expect(mine, f"its own entry is not among the {len(cies)} of the Forward Transit NHS Record")
    return passed(f"entry {len(cies)} of the record")


def keeps_the_order(bench: Bench) -> Script:
    sent, got = yield from _mirrored(bench)
    # The password belongs to one hop, and may be written anew anywhere.
    before, after = (
        [type_of(one) for one in packet.extensions if not isinstance(one, CiscoAuthentication)]
        for packet in (sent, got)
    )
    expect(before == after, f"types {before} became {after}")
    return passed(f"types {after}")


def copies_what_it_does_not_know(bench: Bench) -> Script:
    sent, got = yield from _mirrored(bench)
    before, after = (
        [one for one in packet.extensions if isinstance(one, Unknown | VendorPrivate)] for packet in (sent, got)
    )
    expect(before == after, "an extension that it need not know was changed or left out")
    return passed("unknown and vendor's extensions as they were, compulsory ones too")


def _mirrored(bench: Bench) -> Generator[Ask, tuple[Heard, ...], tuple[Packet, Packet]]:
    """A request as it was sent, and as it came out behind the peer. Raises Judged."""
    if bench.beyond is None:
        raise Judged(Verdict.NOT_APPLICABLE, NO_PLACE)
    yield from register(bench)
    packet = resolution(bench, bench.beyond)
    vendor = VendorPrivate(UNUSED_OUI, b"keep me")
    packet = replace(packet, extensions=(OPTIONAL, *packet.extensions, vendor, COMPULSORY))
    heard = yield ask(bench, packet)
    error = first(heard, Kind.ERROR_INDICATION, Kind.RESOLUTION_REPLY)
    if error.kind is Kind.RESOLUTION_REPLY or error.source_protocol == bench.peer:
        raise Judged(Verdict.NOT_APPLICABLE, "the station beyond does not send back what it cannot answer")
    return packet, _inside(error)


def _inside(error: Packet) -> Packet:
    """The offending packet. Its checksum counts for nothing here: some senders leave it as 0."""
    octets = spoilt(error.payload, CHECKSUM_AT, bytes(2))
    try:
        return decode(octets)
    except Malformed as fault:
        raise Judged(Verdict.NOT_APPLICABLE, f"too little of the packet comes back: {fault}") from fault
