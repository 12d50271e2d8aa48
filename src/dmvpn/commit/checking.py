"""An engine's own checker, run on the tree that is staged."""

from pathlib import Path

from dmvpn.errors import Fault
from dmvpn.linux import process
from dmvpn.render.result import Check

OWN = ("python3", "-m")  # a checker of ours says what is wrong in words that need no command before them


def run_check(check: Check, tree: Path) -> None:
    """Run an engine's own checker on the staged tree. Raises Fault."""
    argv = tuple(word.replace("{tree}", str(tree)) for word in check.argv)
    try:
        process.run(argv, timeout_s=check.timeout_s, package=check.package)
    except process.ProcessFault as fault:
        if argv[:2] == OWN and fault.status == 1 and fault.stderr.strip():
            raise Fault(check.argv[2].rpartition(".")[2], process.shown(fault.stderr.encode())) from fault
        raise
