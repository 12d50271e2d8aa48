"""`python -m MODULE VERB FILE`: what brings the machine where a file of ours says, or says what is wrong with it."""

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from dmvpn.errors import Fault


def run(module: str, verbs: Mapping[str, Callable[[Path], object]], argv: Sequence[str]) -> int:
    """The exit status: 0 done, 1 refused, and the Fault said; 2 called wrongly."""
    if len(argv) != 2 or argv[0] not in verbs:
        sys.stderr.write(f"usage: python -m {module} {'|'.join(verbs)} FILE\n")
        return 2
    try:
        verbs[argv[0]](Path(argv[1]))
    except Fault as fault:
        sys.stderr.write(f"{fault}\n")
        return 1
    return 0
