"""dmvpnd: the node daemon's process. Signals, log, and the one place that starts the loop."""

import argparse
import asyncio
import contextlib
import gc
import logging
import signal
import sys
from pathlib import Path

from dmvpn.daemon import logbook
from dmvpn.daemon import settings as daemon_settings
from dmvpn.daemon.answers import Answers
from dmvpn.daemon.node import Node
from dmvpn.daemon.server import READING_GROUP
from dmvpn.daemon.settings import Settings
from dmvpn.errors import Fault
from dmvpn.linux import privileges
from dmvpn.linux.privileges import Capability

# FRR's sockets and vtysh.conf belong to its own groups; the reading socket is given to ours.
GROUPS = ("frr", "frrvty", READING_GROUP)
# Whoever reaches for charon's sockets, to give them room, must be able to do what charon can: the middle two. SETFCAP:
# to be root in a user namespace, where the rules are tried and swanctl finds its keys (user_namespaces(7)).
KEPT = (
    Capability.NET_ADMIN,
    Capability.NET_RAW,
    Capability.NET_BIND_SERVICE,
    Capability.CHOWN,
    Capability.SETFCAP,
)
# What a registration makes stays for hours, so looking through the young for garbage finds none: with CPython's own
# numbers (700, 10, 10) that took a fifth of a new registration. What is garbage in cycles waits for this many objects.
COLLECT_AT = (50_000, 20, 100)


def run() -> None:
    """`dmvpnd FILE`: serve one network of this router until SIGTERM. Exit status 2 for a wrong file, 1 for a fault."""
    parser = argparse.ArgumentParser(prog="dmvpnd", description="OpenDMVPN's node daemon")
    parser.add_argument("file", type=Path, help="the rendered daemon.json")
    parser.add_argument("--debug", action="store_true", help="log every packet that is dropped")
    arguments = parser.parse_args()
    logbook.open_log(logging.DEBUG if arguments.debug else logging.INFO)
    try:
        settings = daemon_settings.load(arguments.file)
        privileges.join_groups(GROUPS)
        privileges.keep_only(KEPT)
        asyncio.run(_serve(settings))
    except Fault as fault:
        sys.exit(_say(fault))
    except ExceptionGroup as group:
        faults, rest = group.split(Fault)
        if rest is not None or faults is None:
            raise
        sys.exit(_say(next(one for one in faults.exceptions if isinstance(one, Fault))))


def _say(fault: Fault) -> int:
    sys.stderr.write(f"dmvpnd: {fault}\n")
    return fault.exit_code


async def _serve(settings: Settings) -> None:
    node = Node(settings)
    answers = Answers(node)
    serving = asyncio.current_task()
    if serving is None:
        raise Fault("dmvpnd", "not in a task")
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, serving.cancel)
    node.open()
    await answers.open()
    _collect_seldom()
    try:
        with contextlib.suppress(asyncio.CancelledError):
            await node.run()
    finally:
        await answers.close()


def _collect_seldom() -> None:
    """What the start has made is never garbage, and no collection looks at it again. Python's manual, gc.freeze()."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECT_AT)


if __name__ == "__main__":
    run()
