"""An engine's own checker, run on the tree that is staged."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from dmvpn.errors import Fault
from dmvpn.linux import process
from dmvpn.render.result import Check

OWN = ("python3", "-m")  # a checker of ours says what is wrong in words that need no command before them


def lacking(checks: Iterable[Check]) -> Iterator[str]:
    """What those say already that look at the machine and at no tree."""
    for check in checks:
        if check.argv[:2] == OWN and not any("{tree}" in word for word in check.argv):
            try:
                run_check(check, Path())
            except Fault as fault:
                yield str(fault)


def run_check(check: Check, tree: Path) -> None:
    """Run an engine's own checker on the staged tree. Raises Fault."""
    argv = tuple(word.replace("{tree}", str(tree)) for word in check.argv)
    try:
        process.run(argv, timeout_s=check.timeout_s, package=check.package)
    except process.ProcessFault as fault:
        if argv[:2] == OWN and fault.status == 1 and fault.stderr.strip():
            raise Fault(check.argv[2].rpartition(".")[2], process.shown(fault.stderr.encode())) from fault
        raise
