"""Named counters of one nftables table. nft(8), libnftables-json(5)."""

import json

from dmvpn.errors import Fault
from dmvpn.linux import process


def counters(table: str, family: str = "inet") -> dict[str, int]:
    """Packets by counter name. Raises Fault if the table is not there or nft cannot be run."""
    argv = ("nft", "--json", "list", "counters", "table", family, table)
    result = process.run(argv, timeout_s=5, package="nftables")
    try:
        objects = json.loads(result.stdout)["nftables"]
        return {one["counter"]["name"]: int(one["counter"]["packets"]) for one in objects if "counter" in one}
    except (ValueError, KeyError, TypeError) as error:
        raise Fault(f"nft table {table}", f"listed what is no list of counters: {error!r}") from error
