"""Whether systemd-networkd sets a device as well: it says so below /run/systemd/netif, as networkctl(1) reads it."""

from pathlib import Path

LINKS = Path("/run/systemd/netif/links")
LEASES = Path("/run/systemd/netif/leases")
_ITS_OWN = ("ADMIN_STATE=configured", "ADMIN_STATE=configuring")


def sets(index: int) -> bool:
    """False where networkd does not run, or leaves the device alone."""
    try:
        lines = (LINKS / str(index)).read_text().splitlines()
    except OSError:
        return False
    return any(line in _ITS_OWN for line in lines)


def leases(index: int) -> bool:
    """Whether it has a lease there."""
    return (LEASES / str(index)).exists()
