"""`dmvpn-gre FILE`: carry GRE between the TAPs and charon's device, until told to stop."""

import gc
import logging
import sys
from pathlib import Path
from typing import Final

from dmvpn.errors import Fault, WrongInput
from dmvpn.linux.privileges import Capability, effective, keep_only
from dmvpn.plane import settings
from dmvpn.plane.loop import Loop

# NET_RAW for the GRE socket, which is opened anew whenever charon restarts; NET_ADMIN to attach to a TAP that came back
# and for socket buffers above the system's limit.
KEPT: Final = (Capability.NET_RAW, Capability.NET_ADMIN)


def run() -> None:
    """Entry point of `dmvpn-gre`. One line on standard error says what is wrong."""
    try:
        carry(sys.argv[1:])
    except Fault as fault:
        sys.stderr.write(f"dmvpn-gre: {fault}\n")
        sys.exit(fault.exit_code)


def carry(arguments: list[str]) -> None:
    """Run until SIGTERM. Raises Fault if something that is needed is missing."""
    if len(arguments) != 1 or arguments[0].startswith("-"):
        raise WrongInput("usage", "dmvpn-gre FILE", "FILE is the network's gre.json")
    logging.basicConfig(level=logging.INFO, format="dmvpn-gre: %(message)s", stream=sys.stderr)
    wanted = settings.read(Path(arguments[0]))
    for capability in KEPT:
        if capability not in effective():
            raise Fault(f"CAP_{capability.name}", "is missing", "run as root, or give the container this capability")
    loop = Loop(wanted)
    keep_only(KEPT)
    # What exists now stays; a collection then looks only at what came later.
    gc.freeze()
    try:
        loop.run()
    finally:
        loop.close()


if __name__ == "__main__":
    run()
