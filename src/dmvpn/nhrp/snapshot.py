"""What outlives the process: bindings, shortcuts, hubs and the request id, so that a restart loses no packet.

Deadlines are remaining seconds, since another process's clock starts elsewhere.
"""

import json
from dataclasses import dataclass, is_dataclass
from ipaddress import ip_address, ip_network
from typing import Any, Final

from dmvpn.errors import Fault
from dmvpn.nhrp.events import Address, Endpoint, Network

VERSION: Final = 1
WHERE: Final = "NHRP state"


@dataclass(frozen=True, slots=True)
class SavedBinding:
    protocol: Address
    nbma: Address
    claimed_nbma: Address
    unique: bool
    remaining_s: float


@dataclass(frozen=True, slots=True)
class SavedShortcut:
    destination: Address
    prefix: Network
    gateway: Address
    nbma: Address
    ours: bool
    next_hop_only: bool
    holding_time_s: float
    remaining_s: float
    mtu_octets: int | None = None


@dataclass(frozen=True, slots=True)
class SavedHub:
    """A hub that was up, and where it saw our IKE packets come from."""

    nbma: Address
    observed: Endpoint | None


@dataclass(frozen=True, slots=True)
class Snapshot:
    request_id: int
    bindings: tuple[SavedBinding, ...]
    shortcuts: tuple[SavedShortcut, ...]
    hubs: tuple[SavedHub, ...]

    def to_text(self) -> str:
        """JSON, one object."""
        return json.dumps({"version": VERSION, **_plain(self)})

    @classmethod
    def from_text(cls, text: str) -> "Snapshot":
        """Raises Fault if it is not what to_text() wrote: a half-written file, or another version's."""
        try:
            return cls._from_json(json.loads(text))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise Fault(WHERE, f"not a snapshot of this version: {error}", "start without it") from error

    @classmethod
    def _from_json(cls, saved: Any) -> "Snapshot":
        if saved["version"] != VERSION:
            raise ValueError(f"version {saved['version']}, not {VERSION}")
        return cls(
            request_id=int(saved["request_id"]),
            bindings=tuple(_binding(one) for one in saved["bindings"]),
            shortcuts=tuple(_shortcut(one) for one in saved["shortcuts"]),
            hubs=tuple(SavedHub(ip_address(one["nbma"]), _endpoint(one["observed"])) for one in saved["hubs"]),
        )


def _plain(row: Any) -> dict[str, Any]:
    """A row as an object. dataclasses.asdict() copies deeply and takes ten times as long; a hub has thousands of rows,
    and writes them while it serves.
    """
    return {name: _value(getattr(row, name)) for name in row.__match_args__}


def _value(value: Any) -> Any:
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, tuple):
        return [_plain(row) for row in value]
    return _plain(value) if is_dataclass(value) else str(value)


def _binding(saved: Any) -> SavedBinding:
    return SavedBinding(
        protocol=ip_address(saved["protocol"]),
        nbma=ip_address(saved["nbma"]),
        claimed_nbma=ip_address(saved["claimed_nbma"]),
        unique=bool(saved["unique"]),
        remaining_s=float(saved["remaining_s"]),
    )


def _shortcut(saved: Any) -> SavedShortcut:
    return SavedShortcut(
        destination=ip_address(saved["destination"]),
        prefix=ip_network(saved["prefix"]),
        gateway=ip_address(saved["gateway"]),
        nbma=ip_address(saved["nbma"]),
        ours=bool(saved["ours"]),
        next_hop_only=bool(saved["next_hop_only"]),
        holding_time_s=float(saved["holding_time_s"]),
        remaining_s=float(saved["remaining_s"]),
        mtu_octets=_optional_integer(saved.get("mtu_octets")),
    )


def _optional_integer(saved: Any) -> int | None:
    return None if saved is None else int(saved)


def _endpoint(saved: Any) -> Endpoint | None:
    return None if saved is None else Endpoint(ip_address(saved["address"]), int(saved["port"]))
