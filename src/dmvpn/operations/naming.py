"""Names to complete a command line with: from ./network.yaml, else from the files in force here."""

from pathlib import Path

from dmvpn.errors import Fault
from dmvpn.linux import files
from dmvpn.network.names import Names, names
from dmvpn.operations.here import ETC, networks

FILE = Path("network.yaml")
FILE_LIMIT_OCTETS = 1 << 20  # a key must not wait for more


def known() -> Names:
    """Nothing where nothing can be read: completion never complains."""
    for path in (FILE, *sorted(ETC.glob("*/current/network.yaml"))):
        try:
            return names(files.read_text(path, limit_octets=FILE_LIMIT_OCTETS))
        except Fault:
            continue
    return Names()


def networks_here() -> tuple[str, ...]:
    try:
        return networks()
    except OSError:
        return ()
