"""One nftables table as it is, and as a file makes it. nft(8), libnftables-json(5)."""

import json
import sys
from pathlib import Path

from dmvpn.errors import Fault
from dmvpn.linux import namespaces, process

LIST_TIMEOUT_S = 5
MISSING = "No such file or directory"


def counters(table: str, family: str = "inet") -> dict[str, int]:
    """Packets by counter name. Raises Fault if the table is not there or nft cannot be run."""
    argv = ("nft", "--json", "list", "counters", "table", family, table)
    result = process.run(argv, timeout_s=LIST_TIMEOUT_S, package="nftables")
    try:
        objects = json.loads(result.stdout)["nftables"]
        return {one["counter"]["name"]: int(one["counter"]["packets"]) for one in objects if "counter" in one}
    except (ValueError, KeyError, TypeError) as error:
        raise Fault(f"nft table {table}", f"listed what is no list of counters: {error!r}") from error


def listing(table: str, family: str = "inet") -> str:
    """The table without what packets change in it (counters, elements); empty if it is not there. Raises Fault."""
    argv = ("nft", "--stateless", "--terse", "list", "table", family, table)
    result = process.run(argv, timeout_s=LIST_TIMEOUT_S, package="nftables", accept=(0, 1))
    if result.status != 0:
        if MISSING.encode() in result.stderr:
            return ""
        raise Fault(f"nft table {table}", result.stderr.decode(errors="replace").strip() or "cannot be listed")
    return result.stdout.decode(errors="replace")


def listing_of_file(rules: Path, table: str, family: str = "inet") -> str:
    """What `listing` says after this file was loaded, tried in an empty network namespace. Raises Fault."""
    argv = ("python3", "-m", "dmvpn.linux.ruleset", str(rules), table, family)
    return process.run(argv, timeout_s=3 * LIST_TIMEOUT_S).stdout.decode(errors="replace")


def main(arguments: list[str]) -> int:
    """`python -m dmvpn.linux.ruleset FILE TABLE FAMILY`: print the listing that the file makes."""
    rules, table, family = arguments
    try:
        namespaces.own_network()
        process.run(("nft", "--file", rules), timeout_s=LIST_TIMEOUT_S, package="nftables")
        sys.stdout.write(listing(table, family))
    except Fault as fault:
        sys.stderr.write(f"{rules} could not be tried: {fault}\n")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
