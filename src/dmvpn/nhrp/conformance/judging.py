"""Reading what was heard: the reply or error that a case waits for, or the judgement that ends it."""

from dmvpn.nhrp.conformance.bench import Heard, Judged, Judgement, Verdict
from dmvpn.nhrp.numbers import CieCode, ErrorCode, Kind
from dmvpn.nhrp.packet import Packet


def passed(sentence: str) -> Judgement:
    return Judgement(Verdict.PASS, sentence)


def expect(so: bool, otherwise: str) -> None:  # noqa: FBT001
    """Raises Judged (fail) unless it is so."""
    if not so:
        raise Judged(Verdict.FAIL, otherwise)


def first(heard: tuple[Heard, ...], *kinds: Kind) -> Packet:
    """The first packet of these kinds. Raises Judged: not answered, or answered with something else."""
    if not heard:
        raise Judged(Verdict.NOT_ANSWERED, "nothing came back")
    for one in heard:
        if one.packet is not None and one.packet.kind in kinds:
            return one.packet
    raise Judged(Verdict.FAIL, f"answered with {said(heard)}")


def reply_of(heard: tuple[Heard, ...], kind: Kind) -> Packet:
    return first(heard, kind)


def error_of(heard: tuple[Heard, ...], code: ErrorCode) -> Packet:
    """The error indication with that code. Raises Judged."""
    packet = first(heard, Kind.ERROR_INDICATION)
    expect(packet.error_code == code, f"error {packet.error_code}, not {int(code)}")
    return packet


def accepted(reply: Packet) -> Packet:
    """A registration reply that says yes. Raises Judged (not applicable): then the case cannot be tried."""
    codes = {cie.code for cie in reply.cies}
    if codes - {CieCode.OK}:
        refusal = ", ".join(str(code) for code in sorted(codes))
        raise Judged(Verdict.NOT_APPLICABLE, f"the registration was refused with code {refusal}")
    return reply


def silent(heard: tuple[Heard, ...], sentence: str) -> Judgement:
    """Passes when nothing was heard."""
    expect(not heard, f"answered with {said(heard)}")
    return passed(sentence)


def said(heard: tuple[Heard, ...]) -> str:
    """What was heard, in words."""
    words = []
    for one in heard:
        if one.packet is None:
            words.append(f"something that does not decode ({one.fault})")
        elif one.packet.kind is Kind.ERROR_INDICATION:
            words.append(f"error {one.packet.error_code}")
        else:
            code = f" code {one.packet.cies[0].code}" if one.packet.cies else ""
            words.append(f"{one.packet.kind.name.lower().replace('_', ' ')}{code}")
    return ", ".join(dict.fromkeys(words)) or "nothing"
