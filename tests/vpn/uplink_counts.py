"""What leaves by each uplink of the spoke with two ISPs, counted by nft."""

import json
from collections.abc import Iterator
from contextlib import contextmanager

from vpn_lab import Vpn

ROUTER = "par1"
DEVICES = ("eth0", "eth2")


@contextmanager
def counted(vpn: Vpn, match: str) -> Iterator[None]:
    rules = [
        "add table inet counted",
        "add chain inet counted post { type filter hook postrouting priority 300; }",
        *(f"add counter inet counted {device}" for device in DEVICES),
        *(f"add rule inet counted post oifname {device} {match} counter name {device}" for device in DEVICES),
    ]
    assert vpn.run(ROUTER, "nft", "; ".join(rules)).status == 0
    try:
        yield
    finally:
        assert vpn.run(ROUTER, "nft", "delete table inet counted").status == 0


def counts(vpn: Vpn) -> dict[str, int]:
    """Packets by device."""
    listed = json.loads(vpn.run(ROUTER, "nft", "--json", "list", "counters", "table", "inet", "counted").stdout)
    rows = [one["counter"] for one in listed["nftables"] if "counter" in one]
    return {row["name"]: row["packets"] for row in rows}
