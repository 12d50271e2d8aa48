"""The cache: which NBMA address is behind a protocol address, how that is known, and until when."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from dmvpn.nhrp.candidates import Candidates
from dmvpn.nhrp.events import Address

BINDINGS_LIMIT: Final = 20_000
BINDINGS_PER_NBMA_LIMIT: Final = 16


class BindingKind(StrEnum):
    """How a binding is known. The last two are rows of the view only."""

    HUB = "hub"  # configured: a next hop server of ours
    REGISTERED = "dynamic"  # the client registered here; its neighbour entry is bound while its SA is up
    REQUESTER = "requester"  # from a request that was answered here: no neighbour entry hangs on it
    LOCAL = "local"
    NEGATIVE = "negative"


@dataclass(slots=True)
class Binding:
    """`claimed_nbma` is what the client says its NBMA address is; `nbma` is where it really sends from."""

    protocol: Address
    nbma: Address
    kind: BindingKind
    since: float
    expires: float | None
    claimed_nbma: Address
    unique: bool = False
    candidates: Candidates | None = None
    bound: bool = False  # the kernel has a neighbour entry for it

    @property
    def routes(self) -> bool:
        """NHRP packets may be forwarded by it. Requesters are reached by their hub, so that a dead path shows."""
        return self.kind in (BindingKind.HUB, BindingKind.REGISTERED)


class Bindings:
    """By protocol address, with an index by NBMA address. Bounded in all and for each NBMA address."""

    def __init__(self) -> None:
        self._by_protocol: dict[Address, Binding] = {}
        self._by_nbma: dict[Address, dict[Address, Binding]] = {}

    def __iter__(self) -> Iterator[Binding]:
        return iter(list(self._by_protocol.values()))

    def __len__(self) -> int:
        return len(self._by_protocol)

    def get(self, protocol: Address) -> Binding | None:
        return self._by_protocol.get(protocol)

    def of_nbma(self, nbma: Address) -> tuple[Binding, ...]:
        return tuple(self._by_nbma.get(nbma, {}).values())

    def has_room(self, protocol: Address, nbma: Address) -> bool:
        if protocol in self._by_nbma.get(nbma, {}):
            return True
        room_in_all = protocol in self._by_protocol or len(self._by_protocol) < BINDINGS_LIMIT
        return room_in_all and len(self._by_nbma.get(nbma, {})) < BINDINGS_PER_NBMA_LIMIT

    def put(self, binding: Binding) -> None:
        self.drop(binding.protocol)
        self._by_protocol[binding.protocol] = binding
        self._by_nbma.setdefault(binding.nbma, {})[binding.protocol] = binding

    def drop(self, protocol: Address) -> Binding | None:
        binding = self._by_protocol.pop(protocol, None)
        if binding is not None:
            of_nbma = self._by_nbma[binding.nbma]
            del of_nbma[protocol]
            if not of_nbma:
                del self._by_nbma[binding.nbma]
        return binding
