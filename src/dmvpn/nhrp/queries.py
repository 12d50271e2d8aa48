"""Resolution requests of our own: asked hop by hop along the routes, again until answered, one for each destination."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from dmvpn.nhrp.cie import Cie
from dmvpn.nhrp.core import Core
from dmvpn.nhrp.events import Address, DropReason
from dmvpn.nhrp.extensions import CiscoNat
from dmvpn.nhrp.ids import Request
from dmvpn.nhrp.messages import resolution_request
from dmvpn.nhrp.numbers import Kind
from dmvpn.nhrp.packet import Packet

WAITS_S: Final = (1.0, 2.0, 4.0, 7.0, 7.0)  # after each sending; FRR's figures


@dataclass(frozen=True, slots=True)
class Answer:
    """A resolution reply, read: `nbma` is where the responder really is, `ours` that it speaks our extension."""

    packet: Packet
    cie: Cie
    protocol: Address
    nbma: Address
    is_straight: bool  # came from the responder itself, not by way of a hub


@dataclass(slots=True)
class _Query:
    destination: Address
    request_id: int
    on_answer: Callable[[Answer], None]
    on_silence: Callable[[], None]
    on_error: Callable[[int], None]
    straight: Address | None
    sendings: int = 0


class Queries:
    """Open queries by destination. One stays open until closed: an answer may turn out to be a forgery."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._open: dict[Address, _Query] = {}

    def ask(
        self,
        destination: Address,
        on_answer: Callable[[Answer], None],
        on_silence: Callable[[], None],
        on_error: Callable[[int], None],
        straight: Address | None = None,
    ) -> None:
        """Ask anew. `straight` is the peer itself, asked when no hub is up to ask through."""
        self.close(destination)
        if self._core.requests.is_full or self._core.own_address(destination) is None:
            self._core.drop(DropReason.LIMIT, None, f"{destination} cannot be asked for now")
            self._core.timers.arm(("query", destination), self._core.after(WAITS_S[-1]), on_silence)
            return
        request_id = self._core.requests.take_id()
        query = _Query(destination, request_id, on_answer, on_silence, on_error, straight)
        self._open[destination] = query
        self._send(query)

    def pause(self, destination: Address) -> None:
        """Answered: do not send again, but keep the id."""
        self._core.timers.disarm(("query", destination))

    def resume(self, destination: Address) -> None:
        """The answer was no good."""
        query = self._open.get(destination)
        if query is not None:
            self._arm(query)

    def close(self, destination: Address) -> None:
        self._core.timers.disarm(("query", destination))
        query = self._open.pop(destination, None)
        if query is not None:
            self._core.requests.close(query.request_id)

    def _arm(self, query: _Query) -> None:
        wait = WAITS_S[min(query.sendings, len(WAITS_S)) - 1]
        self._core.timers.arm(("query", query.destination), self._core.after(wait), lambda: self._again(query))

    def _again(self, query: _Query) -> None:
        if query.sendings < len(WAITS_S):
            self._send(query)
            return
        self.close(query.destination)
        query.on_silence()

    def _send(self, query: _Query) -> None:
        query.sendings += 1
        own = self._core.own_address(query.destination)
        asked = self._core.next_hop(query.destination)
        if asked is None or (query.straight is not None and self._core.first_hub() is None):
            asked = query.straight
        if own is not None and asked is not None:
            self._core.requests.open(
                Request(
                    request_id=query.request_id,
                    kind=Kind.RESOLUTION_REQUEST,
                    source_nbma=self._core.own_nbma(asked),
                    source_protocol=own,
                    asked=asked,
                    on_reply=lambda reply, sender: self._answered(query, reply, sender),
                    on_error=lambda code, sender: query.on_error(code),
                )
            )
            packet = resolution_request(self._core, own, query.destination, query.request_id, asked)
            self._core.send(packet, asked)
        self._arm(query)

    def _answered(self, query: _Query, reply: Packet, sender: Address) -> None:
        if not reply.cies:
            self._core.drop(DropReason.MALFORMED, sender, "a resolution reply without an entry")
            return
        answer = read(self._core, reply, sender)
        request = self._core.requests.get(query.request_id)
        # A direct reply proves itself by coming from where it says it lives; any other must come back the way we asked.
        if request is None or sender not in (request.asked, answer.nbma):
            self._core.drop(DropReason.UNSOLICITED, sender, f"answers what {request and request.asked} was asked")
            return
        query.on_answer(answer)


def read(core: Core, reply: Packet, sender: Address) -> Answer:
    """Whom the reply's first entry names. Behind NAT the NAT extension has the address that is reachable.

    A transport address is the same behind any NAT.
    """
    cie = reply.cies[0]
    protocol = cie.protocol or reply.destination_protocol
    nbma = cie.nbma or reply.source_nbma
    nat = reply.extension(CiscoNat)
    for real in nat.cies if nat is not None and not core.in_transport(nbma) else ():
        if real.protocol == protocol and real.nbma is not None:
            nbma = real.nbma
    return Answer(reply, cie, protocol, nbma, is_straight=sender == nbma)
