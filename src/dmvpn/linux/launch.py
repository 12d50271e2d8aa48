"""`python -m dmvpn.linux.launch [--bind SOURCE:PLACE]... -- PROGRAM...`: become a program that sees its own files."""

import os
import sys
from pathlib import Path
from typing import NoReturn

from dmvpn.linux.supervisor_child import Bind, lay_over


def become(arguments: list[str]) -> NoReturn:
    """Raises OSError if a place cannot be laid out or the program cannot be run."""
    end = arguments.index("--")
    words, argv = arguments[:end], arguments[end + 1 :]
    lay_over(tuple(_bind(word) for option, word in zip(words[::2], words[1::2], strict=True) if option == "--bind"))
    os.execv(argv[0], argv)


def _bind(word: str) -> Bind:
    source, _, place = word.partition(":")
    return Path(source), Path(place)


if __name__ == "__main__":
    try:
        become(sys.argv[1:])
    except OSError as error:
        sys.stderr.write(f"{error}\n")
        raise SystemExit(1) from error
