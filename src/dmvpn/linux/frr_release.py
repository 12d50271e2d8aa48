"""What the FRR of this machine has and lacks, beside what we ask of it. FRR manual, each daemon's "Invocation".

`python -m dmvpn.linux.frr_release check WORD...` says what is asked for and not there: `ospf6` is OSPFv3 over
point-to-multipoint, `rip` and `ripng` are daemons that read a file. `... run PROGRAM ARGUMENT...` becomes the program,
without options that its release has no more.
"""

import os
import sys
from pathlib import Path
from typing import Final

from dmvpn.errors import Fault
from dmvpn.linux import process

Release = tuple[int, int]

DAEMONS: Final = Path("/usr/lib/frr")
OSPF6_SINCE: Final[Release] = (10, 0)
_GONE: Final = ("--bfdctl",)  # with one argument each; a bfdd that has it would share the host's socket otherwise
_LIMIT_S: Final = 20.0


def release() -> Release:
    """As zebra says itself: "zebra version 10.3". Raises Fault."""
    said = process.run((str(DAEMONS / "zebra"), "--version"), timeout_s=_LIMIT_S, package="frr").text
    try:
        major, minor = said.split()[2].split(".")[:2]
        return int(major), int("".join(letter for letter in minor if letter.isdigit()))
    except (IndexError, ValueError) as error:
        raise Fault("zebra --version", f"says no release: {process.shown(said.encode())}") from error


def lacking(word: str) -> str:
    """What this FRR cannot do of it and what helps; empty when it can. Raises Fault."""
    match word:
        case "ospf6":
            if release() >= OSPF6_SINCE:
                return ""
            what = "its ospf6d has no point-to-multipoint, which came with FRR 10"
            return f"{what}: OSPF over IPv6 needs that; install a newer FRR, or write routing: bgp"
        case "rip" | "ripng":
            daemon = f"{word}d"
            if "--config_file" in _help(DAEMONS / daemon):
                return ""
            what = f"its {daemon} reads no file any more, but what mgmtd tells it"
            return f"{what}, which we do not do yet: write routing: ospf or bgp"
        case _:
            raise Fault(word, "nothing that is asked of FRR", "write ospf6, rip or ripng")


def without_gone(argv: list[str]) -> list[str]:
    """The command line without options that the program does not have. Raises Fault."""
    unknown = [option for option in _GONE if option in argv and option not in _help(Path(argv[0]))]
    for option in unknown:
        at = argv.index(option)
        argv = argv[:at] + argv[at + 2 :]
    return argv


def _help(program: Path) -> str:
    return process.run((str(program), "--help"), timeout_s=_LIMIT_S, package="frr").text


def main(argv: list[str]) -> int:
    try:
        match argv:
            case ["run", program, *arguments]:
                os.execv(program, without_gone([program, *arguments]))
            case ["check", *words]:
                troubles = [what for word in words if (what := lacking(word))]
                number = ".".join(map(str, release())) if troubles else ""
                sys.stderr.writelines(f"this is FRR {number}: {what}\n" for what in troubles)
                return 1 if troubles else 0
            case _:
                sys.stderr.write("usage: python -m dmvpn.linux.frr_release check WORD... | run PROGRAM ARGUMENT...\n")
                return 2
    except (Fault, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
