"""Cases about registration. RFC 2332 5.2.3 and 5.2.4."""

from dataclasses import replace

from dmvpn.nhrp.conformance.asking import OPTIONAL, ask, binding, purge, register, registration
from dmvpn.nhrp.conformance.bench import Ask, Bench, Judged, Judgement, Script, Verdict
from dmvpn.nhrp.conformance.judging import accepted, expect, first, passed, reply_of
from dmvpn.nhrp.extensions import ResponderAddress
from dmvpn.nhrp.numbers import CieCode, Kind, RegistrationFlag

REPLY = Kind.REGISTRATION_REPLY


def accepts(bench: Bench) -> Script:
    packet = registration(bench)
    reply = reply_of((yield ask(bench, packet)), REPLY)
    expect(bool(reply.cies), "the reply has no entry")
    expect(reply.cies[0].code == CieCode.OK, f"refused with code {reply.cies[0].code}")
    expect(
        (reply.source_protocol, reply.destination_protocol) == (packet.source_protocol, packet.destination_protocol),
        f"source and destination are {reply.source_protocol} and {reply.destination_protocol}: must be the request's",
    )
    expect(reply.source_nbma == packet.source_nbma, f"the source NBMA address became {reply.source_nbma}")
    expect(reply.cies[0].holding_time_s > 0, "accepted for 0 seconds")
    return passed(f"code 0 for {reply.cies[0].holding_time_s} s, addresses as in the request")


def keeps_the_id(bench: Bench) -> Script:
    packet = registration(bench)
    for again in ("", ", asked again"):
        reply = reply_of((yield ask(bench, packet)), REPLY)
        expect(reply.request_id == packet.request_id, f"id {reply.request_id}{again}")
    other = registration(bench)
    reply = reply_of((yield ask(bench, other)), REPLY)
    expect(reply.request_id == other.request_id, f"id {reply.request_id}, not {other.request_id}")
    return passed("a repeated request has its old id in the reply, a new one its own")


def keeps_unique(bench: Bench) -> Script:
    reply = accepted(reply_of((yield ask(bench, registration(bench))), REPLY))
    expect(bool(reply.flags & RegistrationFlag.U), f"flags {reply.flags:#06x}: U is gone")
    return passed("U of the request is in the reply")


def sends_its_own_hop_count(bench: Bench) -> Script:
    packet = replace(registration(bench), hop_count=1)
    reply = reply_of((yield ask(bench, packet)), REPLY)
    expect(reply.hop_count > 0, "the reply's hop count is 0")
    return passed(f"hop count {reply.hop_count} in the reply to a request that arrived with 1")


def names_the_responder(bench: Bench) -> Script:
    reply = reply_of((yield ask(bench, registration(bench))), REPLY)
    responder = reply.extension(ResponderAddress)
    if responder is None:
        raise Judged(Verdict.FAIL, "no Responder Address extension, which was asked for")
    cie = responder.cie
    expect(cie is not None, "the Responder Address extension came back empty")
    names = cie is not None and (cie.nbma is not None or cie.protocol is not None)
    expect(names, "the Responder Address extension names nobody")
    return passed(f"{cie and cie.protocol} at {cie and cie.nbma}")


def knows_a_client_without_its_server(bench: Bench) -> Script:
    packet = replace(registration(bench), destination_protocol=bench.registers)
    reply = accepted(reply_of((yield ask(bench, packet)), REPLY))
    return passed(f"accepted, with destination {reply.destination_protocol}")


def refuses_a_second_place(bench: Bench) -> Script:
    if bench.second_nbma is None:
        raise Judged(Verdict.NOT_APPLICABLE, "this station has one NBMA address; give another with --second-nbma")
    yield from register(bench)
    moved = replace(registration(bench), source_nbma=bench.second_nbma)
    reply = reply_of((yield Ask(moved.encode(), bench.second_nbma)), REPLY)
    code = reply.cies[0].code if reply.cies else None
    if code == CieCode.ADMINISTRATIVELY_PROHIBITED:
        return Judgement(Verdict.NOT_APPLICABLE, "prohibited at the second NBMA address anyway (code 4)")
    expect(code == CieCode.ALREADY_REGISTERED, f"code {code}, not 14: the unique binding was replaced")
    expect(reply.cies[0].holding_time_s == 0, "refused, but with a holding time")
    return passed("code 14; the first binding stands")


def registers_a_network_or_refuses(bench: Bench) -> Script:
    length = bench.registers.max_prefixlen - 1
    packet = replace(registration(bench, prefix_length=length), flags=RegistrationFlag.NAT)
    reply = first((yield ask(bench, packet)), REPLY)
    expect(bool(reply.cies), "the reply has no entry")
    cie = reply.cies[0]
    if cie.code != CieCode.OK:
        expect(cie.holding_time_s == 0, f"refused with code {cie.code}, but for {cie.holding_time_s} s")
        return passed(f"refused with code {cie.code}")
    expect(cie.prefix_length == length, f"a /{length} was accepted as a /{cie.prefix_length}")
    entry = binding(bench, bench.registers, prefix_length=length, holding_time_s=0)
    yield ask(bench, replace(purge(bench), cies=(entry,)))
    return passed(f"accepted as a /{length}")


def answers_without_holding_time(bench: Bench) -> Script:
    reply = reply_of((yield ask(bench, registration(bench, holding_time_s=0))), REPLY)
    expect(bool(reply.cies), "the reply has no entry")
    cie = reply.cies[0]
    if cie.code != CieCode.OK:
        return passed(f"refused with code {cie.code}")
    return passed(f"accepted for {cie.holding_time_s} s")


def skips_what_is_optional(bench: Bench) -> Script:
    packet = registration(bench)
    packet = replace(packet, extensions=(OPTIONAL, *packet.extensions))
    reply = reply_of((yield ask(bench, packet)), REPLY)
    codes = [cie.code for cie in reply.cies]
    expect(codes == [CieCode.OK], f"codes {codes} instead of 0")
    return passed("registered as if the extension were not there")
