"""Requests that wait for their reply, each under an id that no earlier one of this router had. RFC 2332 5.2.1.1."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from dmvpn.nhrp.events import Address
from dmvpn.nhrp.numbers import Kind
from dmvpn.nhrp.packet import Packet

REQUESTS_LIMIT: Final = 8192
CLOSED_LIMIT: Final = 256
ID_LIMIT: Final = 1 << 32

REPLY_TO: Final = {
    Kind.RESOLUTION_REPLY: Kind.RESOLUTION_REQUEST,
    Kind.REGISTRATION_REPLY: Kind.REGISTRATION_REQUEST,
    Kind.PURGE_REPLY: Kind.PURGE_REQUEST,
}


@dataclass(slots=True)
class Request:
    """`asked` is the NBMA address the request went to: a reply from elsewhere must prove itself otherwise."""

    request_id: int
    kind: Kind
    source_nbma: Address
    source_protocol: Address
    asked: Address
    on_reply: Callable[[Packet, Address], None]
    on_error: Callable[[int, Address], None]


class Requests:
    """Open requests by id. A reply matches on id, kind, source NBMA and source protocol address."""

    def __init__(self, first_id: int) -> None:
        self._next_id = first_id % ID_LIMIT
        self._open: dict[int, Request] = {}
        self._closed: dict[int, None] = {}  # the latest, so that a late reply is told from a forged one

    @property
    def next_id(self) -> int:
        return self._next_id

    @property
    def is_full(self) -> bool:
        return len(self._open) >= REQUESTS_LIMIT

    def take_id(self) -> int:
        taken = self._next_id
        self._next_id = (taken + 1) % ID_LIMIT
        return taken

    def open(self, request: Request) -> None:
        self._open[request.request_id] = request

    def close(self, request_id: int | None) -> None:
        if request_id is not None:
            if self._open.pop(request_id, None) is not None:
                self._closed[request_id] = None
            if len(self._closed) > CLOSED_LIMIT:
                del self._closed[next(iter(self._closed))]

    def was_open(self, request_id: int) -> bool:
        """Was this one of the latest to be closed?"""
        return request_id in self._closed

    def get(self, request_id: int) -> Request | None:
        return self._open.get(request_id)

    def match(self, reply: Packet) -> Request | None:
        request = self._open.get(reply.request_id)
        if request is None or REPLY_TO[reply.kind] is not request.kind:
            return None
        same = (request.source_nbma, request.source_protocol) == (reply.source_nbma, reply.source_protocol)
        return request if same else None
