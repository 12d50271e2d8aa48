"""dmvpn push: one change on many routers over SSH. And receive: what it calls there."""

import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

from dmvpn.cli.change import WhyOption, period
from dmvpn.cli.reading import FILE, FileOption, JsonOption
from dmvpn.cli.text import duration, say, say_json
from dmvpn.errors import WrongInput

STYLES = {
    "confirmed": "green",
    "nothing to do": "green",
    "would change": "cyan",
    "went back": "red",
    "goes back by itself": "red",
    "refused": "red",
    "unreachable": "red",
    "not touched": "yellow",
}


def add(app: typer.Typer) -> None:
    for verb in (push, receive):
        app.command()(verb)


def push(
    routers: Annotated[
        list[str] | None, typer.Argument(metavar="ROUTER", help="Some of them; all, without it.")
    ] = None,
    file: FileOption = FILE,
    canary: Annotated[str | None, typer.Option(help="This router goes first, alone.")] = None,
    confirm: Annotated[
        str, typer.Option(metavar="TIME", help="A router goes back after that time unless it is confirmed.")
    ] = "5m",
    at_once: Annotated[
        int, typer.Option(min=1, max=64, help="So many routers at a time; hubs go last, one by one.")
    ] = 4,
    soak: Annotated[
        str, typer.Option(metavar="TIME", help="How long a router runs changed before it is confirmed.")
    ] = "5s",
    user: Annotated[str, typer.Option(help="The account to log in to.")] = "root",
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="The TCP port of SSH.")] = None,
    by_name: Annotated[
        bool, typer.Option("--by-name", help="Log in to ROUTER.DOMAIN, not to the tunnel address.")
    ] = False,
    host: Annotated[list[str] | None, typer.Option(metavar="ROUTER=HOST", help="Where to log in instead.")] = None,
    ssh_config: Annotated[Path | None, typer.Option("--ssh-config", "-F", help="Of ssh, as its -F.")] = None,
    message: WhyOption = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Ask every router what would change, and stop.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Apply a network file on its routers over SSH: all are asked first, the canary goes ahead, the rest follow.

    Each router verifies its change and goes back unless a second login confirms it. The first that does not get there
    ends the run; run it again when that is mended.
    """
    from dmvpn.operations import push as pushing
    from dmvpn.operations import reading
    from dmvpn.operations.push import How, Push, Row, State

    loaded = reading.read(file)
    how = How(
        user=user,
        port=port,
        config=ssh_config,
        hosts=dict(_pair(one) for one in host or []),
        by_name=by_name,
        canary=canary,
        at_once=at_once,
        confirm_within_s=period(confirm),
        soak_s=period(soak),
        why=message,
    )
    wanted = pushing.targets(loaded, routers or [], how)

    def report(row: Row) -> None:
        if as_json:
            return
        took = f" after {duration(row.seconds)}" if row.seconds is not None else ""
        revision = f" (revision {row.revision})" if row.revision is not None and row.state is State.CONFIRMED else ""
        say(f"{row.router}: {row.state}{revision}{took}", style=STYLES[row.state])
        for line in row.words:
            say(f"  {line}")

    run = Push(loaded, how, report)
    previous = signal.signal(signal.SIGINT, lambda _number, _frame: run.stop())
    try:
        rows = run.preview(wanted) if dry_run else run.run(wanted)
    finally:
        signal.signal(signal.SIGINT, previous)
    if as_json:
        say_json(rows)
    else:
        left = [row.router for row in rows if row.state is State.NOT_TOUCHED]
        if left:
            say(f"not touched: {', '.join(left)}", style="yellow")
        done = [row.router for row in rows if row.state is State.CONFIRMED]
        say(
            f"{len(done)} of {len(rows)} routers changed and confirmed" if not dry_run else f"{len(rows)} routers asked"
        )
    if any(not row.state.good for row in rows):
        raise typer.Exit(1)
    if dry_run and any(row.state is State.WOULD_CHANGE for row in rows):
        raise typer.Exit(2)


def _pair(text: str) -> tuple[str, str]:
    router, separator, host = text.partition("=")
    if not separator or not router or not host or host.startswith("-"):
        raise WrongInput(f"--host {text}", "is not ROUTER=HOST", "write for example --host par1=198.51.100.2")
    return router, host


def receive() -> None:
    """What `push` calls on a router: reads from standard input what is to be applied, and answers with JSON."""
    from dmvpn.operations import delivery, receiving

    say_json(receiving.receive(delivery.decode(sys.stdin.buffer.read(delivery.LIMIT_OCTETS + 1))))
