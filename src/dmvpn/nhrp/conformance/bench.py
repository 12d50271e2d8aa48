"""What a conformance case works with: who the two stations are, what is asked, what was heard, how it is judged."""

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from enum import StrEnum

from dmvpn.nhrp.cursor import Malformed
from dmvpn.nhrp.events import Address
from dmvpn.nhrp.numbers import HEADER_OCTETS, Kind
from dmvpn.nhrp.packet import INDICATIONS, Packet, decode

KIND_AT = 17
ID_AT = HEADER_OCTETS + 4
ID_END = ID_AT + 4
# In an error's payload: behind what transit changes (hop count, length, checksum, extension offset), up to the id.
COPIED_FROM = 16


class Verdict(StrEnum):
    PASS = "pass"
    FAIL = "fail"
    NOT_ANSWERED = "not answered"
    NOT_APPLICABLE = "not applicable"


class Wait(StrEnum):
    """For what to wait: an answer, asking again when none comes; or silence, to the end of the time."""

    ANSWER = "answer"
    SILENCE = "silence"


@dataclass(frozen=True, slots=True)
class Ask:
    """Octets for the peer, sent from one of this station's NBMA addresses."""

    octets: bytes
    nbma: Address
    wait: Wait = Wait.ANSWER

    def is_answered_by(self, octets: bytes) -> bool:
        """Whether what arrived is about this: the same request id, or an error about these octets."""
        if len(octets) < ID_END:
            return False
        if octets[KIND_AT] == Kind.ERROR_INDICATION:
            return self.octets[COPIED_FROM:ID_END] in octets[ID_END:]
        return octets[KIND_AT] not in INDICATIONS and octets[ID_AT:ID_END] == self.octets[ID_AT:ID_END]


@dataclass(frozen=True, slots=True)
class Heard:
    """A PDU from the peer. `packet` is None when it does not decode, and `fault` says why."""

    octets: bytes
    packet: Packet | None
    fault: str = ""

    @classmethod
    def of(cls, octets: bytes) -> "Heard":
        try:
            return cls(octets, decode(octets))
        except Malformed as fault:
            return cls(octets, None, str(fault))


@dataclass(frozen=True, slots=True)
class Judgement:
    verdict: Verdict
    sentence: str


class Judged(Exception):
    """A case ends here."""

    def __init__(self, verdict: Verdict, sentence: str) -> None:
        super().__init__(sentence)
        self.judgement = Judgement(verdict, sentence)


@dataclass(frozen=True, slots=True)
class Bench:
    """This station and the peer. `registers` is the one address that cases may register at the peer and take back."""

    registers: Address
    nbma: Address
    peer: Address
    peer_nbma: Address
    unknown: Address  # nobody has it, and the peer serves its network
    ids: Iterator[int] = field(repr=False)
    holding_time_s: int = 600
    password: bytes | None = field(default=None, repr=False)
    beyond: Address | None = None  # another station behind the peer
    second_nbma: Address | None = None  # another NBMA address of this station


Script = Generator[Ask, tuple[Heard, ...], Judgement]


@dataclass(frozen=True, slots=True)
class Case:
    """One rule of the RFC, tried out. `section` is of RFC 2332 unless it names another source."""

    name: str
    section: str
    rule: str
    script: Callable[[Bench], Script]


@dataclass(frozen=True, slots=True)
class Turn:
    """One asking and all that came back about it: whole PDUs."""

    sent: bytes
    received: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Finding:
    """A case's outcome, and how it came to it. No turn: it could not be tried."""

    case: Case
    judgement: Judgement
    turns: tuple[Turn, ...]
