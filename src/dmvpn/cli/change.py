"""Verbs that change this router: plan, apply, rollback, history, diff, run, stop."""

import time
from pathlib import Path
from typing import Annotated

import typer

from dmvpn.cli.observe import NetworkOption
from dmvpn.cli.reading import JsonOption
from dmvpn.cli.text import say, say_json, say_table

OptionalFile = Annotated[
    Path | None, typer.Argument(metavar="[FILE]", help="The network file; without it the one in force.")
]
RouterOption = Annotated[str | None, typer.Option("--router", "-r", help="Which router of the file this machine is.")]
WhyOption = Annotated[str, typer.Option("--message", "-m", help="Why, for the history.")]


def add(app: typer.Typer) -> None:
    for verb in (plan, apply, rollback, history, diff, run, stop):
        app.command()(verb)


def plan(
    file: OptionalFile = None, router: RouterOption = None, network: NetworkOption = None, as_json: JsonOption = False
) -> None:
    """Show what apply would change on this router. Exit status 2 when something would."""
    from dmvpn.operations import change

    skipped = change.not_rendered(file, router, network)
    if skipped and not as_json:
        say(f"accepted, but nothing renders it yet: {', '.join(skipped)}", style="yellow")
    prepared = change.prepare(file, router, network)
    preview = change.preview(prepared)
    if as_json:
        say_json(
            {
                "router": prepared.plan.router,
                "in_force": preview.in_force,
                "files": preview.difference.files,
                "not_rendered": prepared.plan.not_rendered,
                "drifted": [str(path) for path in preview.drifted],
            }
        )
    else:
        for line in preview.lines:
            say(line, style={"+": "green", "-": "red", "@": "cyan"}.get(line[:1]))
        for path in preview.drifted:
            say(f"warning: {path} was edited by hand; apply writes it anew", style="yellow")
        _warn(change.unclaimed(prepared))
        count = len(preview.difference.files)
        say(
            f"{prepared.plan.router}: {count} files would change" if count else f"{prepared.plan.router}: nothing to do"
        )
    if not preview.difference.nothing:
        raise typer.Exit(2)


def _warn(words: str) -> None:
    if words:
        say(f"warning: {words}", style="yellow")


def apply(
    file: OptionalFile = None,
    router: RouterOption = None,
    network: NetworkOption = None,
    message: WhyOption = "",
    as_json: JsonOption = False,
) -> None:
    """Bring this router where the file wants it; on any failure the previous revision stays or comes back."""
    from dmvpn.operations import change

    prepared = change.prepare(file, router, network)
    outcome = change.apply(prepared, message)
    if not as_json:
        _warn(change.unclaimed(prepared))
    if as_json:
        say_json(outcome)
        return
    if not outcome.changed:
        say(f"revision {outcome.revision} stays in force: nothing changed")
        return
    done = [
        f"{what} {len(names)}"
        for what, names in (
            ("started", outcome.units.started),
            ("restarted", outcome.units.restarted),
            ("reloaded", outcome.units.reloaded),
            ("stopped", outcome.units.stopped),
        )
        if names
    ]
    touched = ", ".join(done) or "no service touched"
    say(f"revision {outcome.revision} in force: {len(outcome.files)} files changed; {touched}")


def rollback(
    number: Annotated[int | None, typer.Argument(help="The revision; without it the one before.")] = None,
    network: NetworkOption = None,
    message: WhyOption = "rollback",
) -> None:
    """Bring an earlier revision back, as a new one."""
    from dmvpn.operations import change, here

    outcome = change.rollback(here.find(network), number, message)
    say(f"revision {outcome.revision} in force")


def history(network: NetworkOption = None, as_json: JsonOption = False) -> None:
    """The revisions of this router."""
    from dmvpn.operations import change, here

    revisions, in_force = change.history(here.find(network))
    if as_json:
        say_json({"in_force": in_force, "revisions": revisions})
        return
    rows = [
        (
            f"{one.number}{'*' if one.number == in_force else ''}",
            time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(one.message.when)),
            one.message.who,
            one.message.why or "-",
        )
        for one in revisions
    ]
    say_table(("REVISION", "WHEN", "WHO", "WHY"), rows)


def diff(
    one: Annotated[int, typer.Argument(help="A revision.")],
    other: Annotated[int, typer.Argument(help="Another one.")],
    network: NetworkOption = None,
) -> None:
    """What differs between two revisions; secrets are left out."""
    from dmvpn.operations import change, here

    for line in change.diff(here.find(network), one, other):
        say(line)


def run(network: NetworkOption = None) -> None:
    """Start the services of the revision in force, as at boot."""
    from dmvpn.operations import change, here

    found = here.find(network)
    number = change.start(found)
    say(f"{found.network}: " + (f"revision {number} runs" if number is not None else "nothing was ever applied"))


def stop(network: NetworkOption = None) -> None:
    """Stop all services of the network; its configuration stays."""
    from dmvpn.operations import change, here

    found = here.find(network)
    change.stop(found)
    say(f"{found.network}: stopped")
