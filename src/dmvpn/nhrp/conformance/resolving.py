"""Cases about resolution and purge. RFC 2332 5.2.1, 5.2.2, 5.2.5 and 5.2.6."""

from dmvpn.nhrp.conformance.asking import ask, purge, register, resolution
from dmvpn.nhrp.conformance.bench import Bench, Heard, Judged, Script, Verdict, Wait
from dmvpn.nhrp.conformance.judging import expect, first, passed, reply_of, silent
from dmvpn.nhrp.numbers import CieCode, ErrorCode, Kind, ResolutionFlag

REPLY = Kind.RESOLUTION_REPLY


def resolves_itself(bench: Bench) -> Script:
    yield from register(bench)
    packet = resolution(bench, bench.peer)
    reply = reply_of((yield ask(bench, packet)), REPLY)
    expect(bool(reply.cies), "the reply has no entry")
    cie = reply.cies[0]
    expect(cie.code == CieCode.OK, f"code {cie.code} for its own address")
    expect(reply.request_id == packet.request_id, f"id {reply.request_id}")
    expect(reply.source_protocol == packet.source_protocol, "source and destination were swapped")
    expect(bool(reply.flags & ResolutionFlag.A), "not authoritative about its own address")
    expect(cie.nbma in (None, bench.peer_nbma), f"says that it is at {cie.nbma}, not at {bench.peer_nbma}")
    return passed(f"{cie.protocol or bench.peer} is at {cie.nbma}, for {cie.holding_time_s} s")


def resolves_a_client(bench: Bench) -> Script:
    yield from register(bench)
    packet = resolution(bench, bench.registers, authoritative=False)
    heard = yield ask(bench, packet)
    if any(one.packet is not None and one.packet.kind is Kind.RESOLUTION_REQUEST for one in heard):
        raise Judged(Verdict.NOT_APPLICABLE, "it asks the registered station itself, as DMVPN's egress")
    reply = reply_of(heard, REPLY)
    expect(bool(reply.cies), "the reply has no entry")
    cie = reply.cies[0]
    expect(cie.code == CieCode.OK, f"code {cie.code} for an address that is registered there")
    expect(cie.nbma in (None, bench.nbma), f"at {cie.nbma}, but {bench.nbma} was registered")
    expect(0 < cie.holding_time_s <= bench.holding_time_s, f"for {cie.holding_time_s} s: not what is left of it")
    return passed(f"at {cie.nbma}, for {cie.holding_time_s} s")


def does_not_know_the_unknown(bench: Bench) -> Script:
    yield from register(bench)
    return passed(_negative((yield ask(bench, resolution(bench, bench.unknown))), "an address that nobody has"))


def _negative(heard: tuple[Heard, ...], what: str) -> str:
    """How it said no. Raises Judged when it said yes."""
    packet = first(heard, REPLY, Kind.ERROR_INDICATION)
    if packet.kind is Kind.ERROR_INDICATION:
        expect(packet.error_code == ErrorCode.UNREACHABLE, f"error {packet.error_code}, not 6, about {what}")
        return "error 6: protocol address unreachable"
    code = packet.cies[0].code if packet.cies else None
    expect(code == CieCode.NO_BINDING, f"code {code}, not 12, for {what}")
    expect(packet.cies[0].holding_time_s == 0, "code 12 with a holding time")
    return "code 12: no binding"


def answers_a_purge(bench: Bench) -> Script:
    yield from register(bench)
    packet = purge(bench)
    reply = reply_of((yield ask(bench, packet)), Kind.PURGE_REPLY)
    expect(reply.request_id == packet.request_id, f"id {reply.request_id}")
    same = (reply.source_protocol, reply.destination_protocol) == (packet.source_protocol, packet.destination_protocol)
    expect(same, "source and destination are not those of the request")
    told = [cie.protocol for cie in reply.cies]
    expect(told == [bench.registers], f"the entries are {told}, not those of the request")
    return passed("the same id and entry")


def forgets_what_is_purged(bench: Bench) -> Script:
    yield from register(bench)
    reply_of((yield ask(bench, purge(bench))), Kind.PURGE_REPLY)
    heard = yield ask(bench, resolution(bench, bench.registers, authoritative=False))
    answer = _negative(heard, "what was purged")
    return passed(f"asked for it: {answer}")


def purges_in_silence(bench: Bench) -> Script:
    yield from register(bench)
    heard = yield ask(bench, purge(bench, silent=True), Wait.SILENCE)
    return silent(heard, "no reply to a purge with N")
