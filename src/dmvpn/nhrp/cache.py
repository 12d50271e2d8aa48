"""The cache: which NBMA address is behind a protocol address, how that is known, and until when."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Address
from typing import Final

from dmvpn.nhrp.candidates import Candidates
from dmvpn.nhrp.events import Address

BINDINGS_LIMIT: Final = 20_000
BINDINGS_PER_NBMA_LIMIT: Final = 16
Key = int | bytes  # of an IPv4 address, of an IPv6 address


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
    looked_at: float | None = None  # when its server sees next whether it has expired

    @property
    def routes(self) -> bool:
        """NHRP packets may be forwarded by it. Requesters are reached by their hub, so that a dead path shows."""
        return self.kind in (BindingKind.HUB, BindingKind.REGISTERED)


class Bindings:
    """By protocol address, with an index by NBMA address. Bounded in all and for each NBMA address.

    A hub looks up here more often than it does anything else.
    """

    def __init__(self) -> None:
        self._by_protocol: dict[Key, Binding] = {}
        self._by_nbma: dict[Key, dict[Key, Binding]] = {}

    def __iter__(self) -> Iterator[Binding]:
        return iter(list(self._by_protocol.values()))

    def __len__(self) -> int:
        return len(self._by_protocol)

    def get(self, protocol: Address) -> Binding | None:
        return self._by_protocol.get(key_of(protocol))

    def of_nbma(self, nbma: Address) -> tuple[Binding, ...]:
        return tuple(self._by_nbma.get(key_of(nbma), {}).values())

    def has_room(self, protocol: Address, nbma: Address) -> bool:
        key, of_nbma = key_of(protocol), self._by_nbma.get(key_of(nbma), {})
        if key in of_nbma:
            return True
        room_in_all = key in self._by_protocol or len(self._by_protocol) < BINDINGS_LIMIT
        return room_in_all and len(of_nbma) < BINDINGS_PER_NBMA_LIMIT

    def put(self, binding: Binding) -> Binding | None:
        """The binding that it takes the place of, if any."""
        key = key_of(binding.protocol)
        before = self._drop(key)
        self._by_protocol[key] = binding
        self._by_nbma.setdefault(key_of(binding.nbma), {})[key] = binding
        return before

    def drop(self, protocol: Address) -> Binding | None:
        return self._drop(key_of(protocol))

    def _drop(self, key: Key) -> Binding | None:
        binding = self._by_protocol.pop(key, None)
        if binding is not None:
            nbma = key_of(binding.nbma)
            of_nbma = self._by_nbma[nbma]
            del of_nbma[key]
            if not of_nbma:
                del self._by_nbma[nbma]
        return binding


def key_of(address: Address) -> Key:
    """What stands for an address in a table: the object itself takes several times as long to hash."""
    return int(address) if isinstance(address, IPv4Address) else address.packed
