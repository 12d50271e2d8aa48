"""dmvpnd: the node daemon's process. Signals, log, and the one place that starts the loop."""

import argparse
import asyncio
import contextlib
import logging
import signal
import sys
from pathlib import Path

from dmvpn.daemon import settings as daemon_settings
from dmvpn.daemon.answers import Answers
from dmvpn.daemon.node import Node
from dmvpn.errors import Fault


def run() -> None:
    """`dmvpnd FILE`: serve one network of this router until SIGTERM. Exit status 2 for a wrong file, 1 for a fault."""
    parser = argparse.ArgumentParser(prog="dmvpnd", description="OpenDMVPN's node daemon")
    parser.add_argument("file", type=Path, help="the rendered daemon.json")
    parser.add_argument("--debug", action="store_true", help="log every packet that is dropped")
    arguments = parser.parse_args()
    logging.basicConfig(
        level=logging.DEBUG if arguments.debug else logging.INFO, format="%(asctime)s %(name)s: %(message)s"
    )
    try:
        asyncio.run(_serve(arguments.file))
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


async def _serve(path: Path) -> None:
    node = Node(daemon_settings.load(path))
    answers = Answers(node)
    serving = asyncio.current_task()
    if serving is None:
        raise Fault("dmvpnd", "not in a task")
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, serving.cancel)
    node.open()
    await answers.open()
    try:
        with contextlib.suppress(asyncio.CancelledError):
            await node.run()
    finally:
        await answers.close()


if __name__ == "__main__":
    run()
