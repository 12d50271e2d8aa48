"""What dmvpnd must remember over its own end: bindings, shortcuts and request ids of each cloud, in one JSON file."""

import logging
from pathlib import Path

from dmvpn.errors import Fault
from dmvpn.linux import files
from dmvpn.nhrp.snapshot import Snapshot

log = logging.getLogger("dmvpnd")
SIZE_LIMIT_OCTETS = 64 << 20


def _path(state: Path, cloud: str) -> Path:
    return state / f"nhrp-{cloud}.json"


def remember(state: Path, cloud: str, snapshot: Snapshot) -> None:
    """Replace the cloud's file. Raises Fault if it cannot be written."""
    files.write(_path(state, cloud), snapshot.to_text(), mode=0o600)


def recall(state: Path, cloud: str) -> Snapshot | None:
    """The last snapshot; None if there is none, or it cannot be used: then the network teaches us anew."""
    path = _path(state, cloud)
    if not path.exists():
        return None
    try:
        return Snapshot.from_text(files.read_text(path, limit_octets=SIZE_LIMIT_OCTETS))
    except Fault as error:
        log.warning("%s cannot be used, beginning afresh: %s", path, error)
        return None
