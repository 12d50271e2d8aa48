"""Where IKE may reach a peer of ours, carried beside the Cisco extensions in a Vendor Private one.

Wire, behind the OUI: sub-TLVs of type(1) length(1) value, the value being port(2) and address(4 or 16). Sub-types
unknown here are skipped, so that a newer router can say more.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Self

from dmvpn.nhrp.cie import address_of
from dmvpn.nhrp.cursor import Cursor, Malformed
from dmvpn.nhrp.events import DropReason, Endpoint
from dmvpn.nhrp.extensions import VendorPrivate

# Locally administered (bit 0x02 of the first octet), since the project has no registered OUI. It spells "DM".
OUI: Final = bytes.fromhex("02444d")
PUBLIC: Final = 1
PRIVATE: Final = 2
OBSERVED: Final = 3
ENDPOINTS_LIMIT: Final = 8  # of each kind; each candidate is a connection attempt of the receiver


@dataclass(frozen=True, slots=True)
class Candidates:
    """Endpoints of the packet's source: as hubs see it, and its own. `observed`: where it sees the receiver."""

    public: tuple[Endpoint, ...] = ()
    private: tuple[Endpoint, ...] = ()
    observed: Endpoint | None = None

    @classmethod
    def from_vendor(cls, vendor: VendorPrivate) -> "Candidates | None":
        """None for another vendor's extension. Raises Malformed, with the offset from where the data starts."""
        return _of(vendor.data) if vendor.oui == OUI else None

    @classmethod
    def decode(cls, data: Cursor) -> Self:
        found: dict[int, list[Endpoint]] = {PUBLIC: [], PRIVATE: [], OBSERVED: []}
        while data.left:
            start = data.offset
            kind = data.number(1, "candidate type")
            value = data.part(data.number(1, "candidate length"), f"candidate {kind}")
            if kind not in found:
                continue
            found[kind].append(_endpoint(value))
            limit = 1 if kind == OBSERVED else ENDPOINTS_LIMIT
            if len(found[kind]) > limit:
                raise Malformed(DropReason.MALFORMED, start, f"more than {limit} candidates of type {kind}")
        observed = found[OBSERVED][0] if found[OBSERVED] else None
        return cls(tuple(found[PUBLIC]), tuple(found[PRIVATE]), observed)

    def to_vendor(self) -> VendorPrivate:
        """Endpoints above the limit are left out: the first are the preferred ones."""
        data = [_sub_tlv(PUBLIC, endpoint) for endpoint in self.public[:ENDPOINTS_LIMIT]]
        data += [_sub_tlv(PRIVATE, endpoint) for endpoint in self.private[:ENDPOINTS_LIMIT]]
        if self.observed is not None:
            data.append(_sub_tlv(OBSERVED, self.observed))
        return VendorPrivate(OUI, b"".join(data))


@lru_cache(maxsize=4096)  # each registration's are read several times on its way
def _of(data: bytes) -> Candidates:
    return Candidates.decode(Cursor(data))


def _endpoint(value: Cursor) -> Endpoint:
    port = value.number(2, "candidate port")
    return Endpoint(address_of(value, value.left, "candidate address"), port)


def _sub_tlv(kind: int, endpoint: Endpoint) -> bytes:
    value = endpoint.port.to_bytes(2, "big") + endpoint.address.packed
    return bytes((kind, len(value))) + value
