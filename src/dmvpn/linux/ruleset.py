"""One nftables table as it is, and as a file makes it. nft(8), libnftables-json(5)."""

import json
import threading
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
    found: list[str] = []
    faults: list[Fault] = []

    def load() -> None:
        # A namespace belongs to a thread; programs that it starts are born into it, and it ends with the thread.
        try:
            namespaces.unshare(namespaces.CLONE_NEWNET)
            process.run(("nft", "--file", str(rules)), timeout_s=LIST_TIMEOUT_S, package="nftables")
            found.append(listing(table, family))
        except Fault as fault:
            faults.append(fault)
        except (OSError, ValueError) as error:
            faults.append(Fault(str(rules), f"could not be tried: {error!r}"))

    thread = threading.Thread(target=load, name="nft-trial")
    try:
        thread.start()
    except RuntimeError as error:  # no more threads
        raise Fault(str(rules), f"could not be tried: {error}") from error
    thread.join()
    if faults:
        raise faults[0]
    if not found:
        raise Fault(str(rules), "could not be tried: see the log")
    return found[0]
