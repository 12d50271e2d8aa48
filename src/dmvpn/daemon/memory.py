"""What dmvpnd must remember over its own end: bindings, shortcuts and request ids of each cloud, in one JSON file.

The kernel's side of it (neighbour entries, routes) lives as long as the machine is up, so what the file says counts
within one boot only; the request id goes on counting (RFC 2332 5.2.0.1 wants it in non-volatile storage).
"""

import json
import logging
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from dmvpn.errors import Fault
from dmvpn.linux import files
from dmvpn.nhrp.snapshot import Snapshot

log = logging.getLogger("dmvpnd")
SIZE_LIMIT_OCTETS = 64 << 20
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
# Deadlines move on all the time; a file that is this old still tells them well enough.
OFTEN_ENOUGH_S = 60.0


class Memory:
    """One cloud's file. Written when something came or went, and now and then for the deadlines."""

    def __init__(self, state: Path, cloud: str) -> None:
        self._path = state / f"nhrp-{cloud}.json"
        self._written: tuple[object, ...] | None = None
        self._written_at = 0.0

    def remember(self, snapshot: Snapshot) -> None:
        """Raises Fault if it cannot be written."""
        now = time.clock_gettime(time.CLOCK_BOOTTIME)
        what = _what(snapshot)
        if what == self._written and now - self._written_at < OFTEN_ENOUGH_S:
            return
        document = {"boot": _boot(), "at": now, "snapshot": snapshot.to_text()}
        files.write(self._path, json.dumps(document), mode=0o600)
        self._written, self._written_at = what, now

    def recall(self) -> Snapshot | None:
        """The last snapshot, its deadlines moved on; None if there is none, or it cannot be used."""
        if not self._path.exists():
            return None
        try:
            document = json.loads(files.read(self._path, limit_octets=SIZE_LIMIT_OCTETS))
            return _aged(Snapshot.from_text(document["snapshot"]), document)
        except (Fault, ValueError, KeyError, TypeError) as error:
            log.warning("%s cannot be used, beginning afresh: %s", self._path, error)
            return None


def _boot() -> str:
    return BOOT_ID.read_text().strip()


def _what(snapshot: Snapshot) -> tuple[object, ...]:
    """What is remembered, without what changes by itself."""
    return (
        tuple((one.protocol, one.nbma, one.claimed_nbma, one.unique) for one in snapshot.bindings),
        tuple((one.prefix, one.gateway, one.nbma, one.destination) for one in snapshot.shortcuts),
        snapshot.hubs,
    )


def _aged(snapshot: Snapshot, document: dict[str, Any]) -> Snapshot:
    if document["boot"] != _boot():
        return replace(snapshot, bindings=(), shortcuts=(), hubs=())
    gone = max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - float(document["at"]))
    return replace(
        snapshot,
        bindings=tuple(
            replace(one, remaining_s=one.remaining_s - gone) for one in snapshot.bindings if one.remaining_s > gone
        ),
        shortcuts=tuple(
            replace(one, remaining_s=one.remaining_s - gone) for one in snapshot.shortcuts if one.remaining_s > gone
        ),
    )
