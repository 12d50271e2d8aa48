"""Every case, in the order of the run; and the run."""

from collections.abc import Callable, Iterator
from typing import Final

from dmvpn.nhrp.conformance import forwarding, refusing, registering, resolving
from dmvpn.nhrp.conformance.asking import purge, registration
from dmvpn.nhrp.conformance.bench import Ask, Bench, Case, Finding, Heard, Judged, Judgement, Turn, Verdict, Wait

Exchange = Callable[[Ask], tuple[Heard, ...]]

CASES: Final[tuple[Case, ...]] = (
    Case("registration", "5.2.4", "a registration is answered in kind", registering.accepts),
    Case("request-id", "5.2.4", "a reply has the request's id", registering.keeps_the_id),
    Case("unique-flag", "5.2.4", "a reply has the request's U flag", registering.keeps_unique),
    Case("reply-hop-count", "5.1", "a reply starts with a hop count of its own", registering.sends_its_own_hop_count),
    Case("responder", "5.3.1", "the responder names itself when asked", registering.names_the_responder),
    Case("server-unknown", "5.2.3", "a client may register with itself", registering.knows_a_client_without_its_server),
    Case("second-place", "5.2.4", "a unique binding is not replaced: code 14", registering.refuses_a_second_place),
    Case("prefix", "6.3", "a network is registered, or refused", registering.registers_a_network_or_refuses),
    Case("holding-time-0", "5.2.0.1", "a holding time of 0 is answered", registering.answers_without_holding_time),
    Case("optional-extension", "5.3", "what is not compulsory may be unknown", registering.skips_what_is_optional),
    Case("resolve-itself", "5.2.2", "the peer's own address is answered for", resolving.resolves_itself),
    Case("resolve-client", "5.2.2", "a registered address is resolved", resolving.resolves_a_client),
    Case("resolve-unknown", "5.2.2", "no binding: code 12, or error 6", resolving.does_not_know_the_unknown),
    Case("purge", "5.2.6", "a purge is answered in kind", resolving.answers_a_purge),
    Case("purge-forgets", "5.2.5", "what is purged is forgotten", resolving.forgets_what_is_purged),
    Case("purge-silent", "5.2.5", "N: no reply", resolving.purges_in_silence),
    Case("hop-count-0", "5.1", "not sent on with hop count 0: error 15", forwarding.stops_at_hop_count_zero),
    Case("loop", "5.3.2", "its own address in the record: error 3", forwarding.finds_a_loop),
    Case("transit-hop-count", "5.1", "one hop less", forwarding.takes_one_hop),
    Case("transit-record", "5.3.2", "the record grows by the station on the way", forwarding.records_itself),
    Case("transit-order", "5.3", "the order of extensions stays", forwarding.keeps_the_order),
    Case("transit-copy", "5.3", "unknown extensions are passed on", forwarding.copies_what_it_does_not_know),
    Case("compulsory-extension", "5.3", "unknown and compulsory: error 1", refusing.refuses_the_unknown_compulsory),
    Case("error-form", "5.2.7", "an error is for the source, without extensions", refusing.builds_errors_as_told),
    Case("error-about-error", "5.2.7", "never an error about an error", refusing.sends_no_error_about_an_error),
    Case("unsolicited", "5.2.2", "a reply to nothing is dropped", refusing.drops_what_was_not_asked),
    Case("checksum", "5.1", "a bad checksum: dropped in silence", refusing.drops_a_bad_checksum),
    Case("version", "5.1", "another version is not taken for 1", refusing.drops_another_version),
    Case("cut", "5.1", "a packet that was cut is dropped", refusing.drops_a_cut_packet),
    Case("length", "5.1", "a length that ends inside the addresses", refusing.drops_a_wrong_length),
    Case("extension-offset", "5.1", "an extension offset behind the packet", refusing.drops_extensions_outside),
    Case("padding", "5.1", "what is behind the packet is no part of it", refusing.ignores_padding),
    Case("no-password", "5.3.4", "without the password: error 11", refusing.wants_the_password),
    Case("wrong-password", "5.3.4", "with another password: error 11", refusing.compares_the_password),
    Case("reply-password", "5.3.4", "the reply has the password", refusing.sends_the_password),
)


def run(bench: Bench, exchange: Exchange, cases: tuple[Case, ...] = CASES) -> Iterator[Finding]:
    """Each case's finding. `exchange` sends what is asked and returns what came back about it.

    Whoever does not answer the first case is not there: its silence in the others would prove nothing.
    """
    is_there = True
    for number, case in enumerate(cases):
        if not is_there:
            yield Finding(case, Judgement(Verdict.NOT_APPLICABLE, "the peer answers nothing"), ())
            continue
        finding = _run(case, bench, exchange)
        is_there = number > 0 or finding.judgement.verdict is not Verdict.NOT_ANSWERED
        yield finding


def _run(case: Case, bench: Bench, exchange: Exchange) -> Finding:
    turns: list[Turn] = []
    script = case.script(bench)
    try:
        asked = next(script)
        while True:
            heard = exchange(asked)
            turns.append(Turn(asked.octets, tuple(one.octets for one in heard)))
            asked = script.send(heard)
    except StopIteration as end:
        judgement: Judgement = end.value
    except Judged as early:
        judgement = early.judgement
    return Finding(case, judgement, tuple(turns))


def leave(bench: Bench, *, registered: bool) -> tuple[Ask, ...]:
    """What to send at the end: the registration is taken back, and made again where the address is in use."""
    last = [Ask(purge(bench).encode(), bench.nbma, Wait.ANSWER)]
    if registered:
        last.append(Ask(registration(bench).encode(), bench.nbma, Wait.ANSWER))
    return tuple(last)
