"""Verbs that change this router: plan, apply, confirm, rollback, history, diff, run, stop, uninstall."""

import re
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dmvpn.cli.completion import routers
from dmvpn.cli.observe import NetworkOption
from dmvpn.cli.reading import JsonOption
from dmvpn.cli.text import confirmed, duration, say, say_json, say_table

if TYPE_CHECKING:
    from dmvpn.operations.change import Outcome, View

OptionalFile = Annotated[
    Path | None, typer.Argument(metavar="[FILE]", help="The network file; without it the one in force.")
]
RouterOption = Annotated[
    str | None, typer.Option("--router", "-r", help="Which router of the file this machine is.", autocompletion=routers)
]
ServicesOption = Annotated[
    str | None,
    typer.Option("--services", help="Who keeps the services: systemd, openrc or supervisor."),
]
WhyOption = Annotated[str, typer.Option("--message", "-m", help="Why, for the history.")]
UNITS_S = {"": 1, "s": 1, "m": 60, "h": 3600}
LONGEST_S = 86400


def period(text: str) -> float:
    found = re.fullmatch(r"([0-9]{1,6})(s|m|h|)", text)
    seconds = int(found[1]) * UNITS_S[found[2]] if found else 0
    if not 1 <= seconds <= LONGEST_S:
        raise typer.BadParameter(f"{text}: write a time from 1s to 24h, such as 90s or 5m")
    return float(seconds)


ConfirmOption = Annotated[
    float | None,
    typer.Option(
        "--confirm", metavar="TIME", parser=period, help="Go back after that time (5m) unless `dmvpn confirm` is run."
    ),
]
DiscardOption = Annotated[
    bool, typer.Option("--discard-edits", help="Take back what was edited by hand; a copy is kept.")
]


def add(app: typer.Typer) -> None:
    for verb in (plan, apply, confirm, rollback, history, diff, run, stop, uninstall):
        app.command()(verb)


def plan(
    file: OptionalFile = None,
    router: RouterOption = None,
    network: NetworkOption = None,
    services: ServicesOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what apply would change on this router: in sentences, then as files. Exit status 2 when something would."""
    from dmvpn.operations import change, keeping

    loaded, here, planned = change.chosen(file, router, network)
    if planned.not_rendered and not as_json:  # also if rendering the rest is refused
        say(f"accepted, but nothing renders it yet: {', '.join(planned.not_rendered)}", style="yellow")
    prepared = change.prepared(loaded, planned, here, keeping.named(services))
    view = change.preview(prepared)
    preview, outlook, lacking = view.preview, view.outlook, change.lacking(prepared)
    if as_json:
        say_json(
            {
                "router": prepared.plan.router,
                "in_force": preview.in_force,
                "changes": outlook.changes,
                "effects": outlook.effects,
                "cuts_ssh": outlook.cuts_ssh,
                "files": preview.difference.files,
                "units": {verb: getattr(preview.difference, verb) for verb in ("stop", "start", "restart", "reload")},
                "lacking": lacking,
                "not_rendered": prepared.plan.not_rendered,
                "drifted": preview.drifted,
            }
        )
    else:
        _say_view(view)
        for what in lacking:
            say(f"the daemons of this machine cannot do it: {what}", style="red")
        _warn(change.unclaimed(prepared))
        count = len(preview.difference.files)
        say(
            f"{prepared.plan.router}: {count} files would change" if count else f"{prepared.plan.router}: nothing to do"
        )
    if not preview.difference.nothing:
        raise typer.Exit(2)


def _say_view(view: "View") -> None:
    for line in (*view.outlook.changes, *view.outlook.effects):
        say(line, style="bold")
    if view.outlook.cuts_ssh:
        say(f"this cuts your own SSH session ({view.outlook.cuts_ssh}): apply with --confirm 5m", style="red")
    _say_diff(view.preview.lines)
    for path in view.preview.drifted:
        _warn(f"{path} was edited by hand: `dmvpn diff` shows how; apply refuses without --discard-edits")


def _say_diff(lines: tuple[str, ...]) -> None:
    for line in lines:
        say(line, style={"+": "green", "-": "red", "@": "cyan"}.get(line[:1]))


def _warn(words: str) -> None:
    if words:
        say(f"warning: {words}", style="yellow")


@contextmanager
def _deaf_to_hangups() -> Iterator[None]:
    """The terminal may go with the very address that changes: then the change goes on, or back, as a whole."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, before)


def apply(
    file: OptionalFile = None,
    router: RouterOption = None,
    network: NetworkOption = None,
    message: WhyOption = "",
    services: ServicesOption = None,
    confirm: ConfirmOption = None,
    discard_edits: DiscardOption = False,
    as_json: JsonOption = False,
) -> None:
    """Bring this router where the file wants it; on any failure the previous revision stays or comes back."""
    from dmvpn.operations import change, keeping

    prepared = change.prepare(file, router, network, keeping.named(services))
    edits = change.Edits.DISCARD if discard_edits else change.Edits.REFUSE
    with _deaf_to_hangups():
        outcome = change.apply(prepared, message, confirm_within_s=confirm, edits=edits)
    if as_json:
        say_json(outcome)
    else:
        _warn(change.unclaimed(prepared))
        _say_outcome(outcome)
    if outcome.warnings:
        raise typer.Exit(3)


def _say_outcome(outcome: "Outcome") -> None:
    if outcome.kept is not None:
        say(f"what was edited by hand is kept in {outcome.kept}")
    if not outcome.changed:
        say(f"revision {outcome.revision} stays in force: nothing changed")
    else:
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
    if outcome.confirm_s is not None:
        say(f"it goes back in {duration(outcome.confirm_s)} unless you run: dmvpn confirm", style="yellow")
    for words in outcome.warnings:
        _warn(words)


def confirm(network: NetworkOption = None) -> None:
    """Keep a change that was applied with --confirm."""
    from dmvpn.operations import change, here

    deadline, warnings = change.confirm(here.find(network))
    say(f"revision {deadline.after} stays in force", style="green")
    for words in warnings:
        _warn(words)
    if warnings:
        raise typer.Exit(3)


def rollback(
    number: Annotated[int | None, typer.Argument(help="The revision; without it the one before.")] = None,
    network: NetworkOption = None,
    message: WhyOption = "rollback",
    confirm: ConfirmOption = None,
    discard_edits: DiscardOption = False,
    as_json: JsonOption = False,
) -> None:
    """Bring an earlier revision back, as a new one. A change that waits to be confirmed is taken back."""
    from dmvpn.operations import change, here

    edits = change.Edits.DISCARD if discard_edits else change.Edits.REFUSE
    with _deaf_to_hangups():
        done = change.rollback(here.find(network), number, message, confirm_within_s=confirm, edits=edits)
    if as_json:
        say_json(done)
    elif isinstance(done, change.Outcome):
        _say_outcome(done)
    else:
        back = f"revision {done.before} is in force again" if done.before is not None else "nothing is in force"
        say(f"revision {done.after} was taken back; {back}")


def history(network: NetworkOption = None, as_json: JsonOption = False) -> None:
    """The revisions of this router: * is in force, ? waits to be confirmed."""
    from dmvpn.operations import change, here

    found = change.history(here.find(network))
    if as_json:
        say_json(found)
        return
    rows = []
    for one in found.revisions:
        state = "in force" if one.number == found.in_force else f"rolled back: {one.undone}" if one.undone else "-"
        mark = "*" if one.number == found.in_force else ""
        if mark and found.confirm_s is not None:
            mark, state = "*?", f"goes back in {duration(found.confirm_s)} unless confirmed"
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(one.message.when))
        rows.append((f"{one.number}{mark}", when, one.message.who, one.digest[:12], state, one.message.why or "-"))
    say_table(("REVISION", "WHEN", "WHO", "CHECKSUM", "STATE", "WHY"), rows)


def diff(
    one: Annotated[int | None, typer.Argument(help="A revision; without it: what was edited by hand.")] = None,
    other: Annotated[int | None, typer.Argument(help="Another one; without it: the one in force.")] = None,
    network: NetworkOption = None,
) -> None:
    """What differs between two revisions, or what was edited by hand; secrets are left out."""
    from dmvpn.operations import change, here

    lines = change.diff(here.find(network), one, other)
    _say_diff(lines)
    if not lines and one is None:
        say("nothing was edited by hand")


def run(
    network: NetworkOption = None,
    at_boot: Annotated[
        bool, typer.Option("--at-boot", help="For init: take back what a reboot cut short, and wait for nothing.")
    ] = False,
    foreground: Annotated[
        bool, typer.Option("--foreground", help="Stay, as a container's main process, until told to end.")
    ] = False,
) -> None:
    """Start the services of the revision in force, as at boot. As PID 1 it stays until told to end."""
    from dmvpn.operations import change, container, here

    found = here.find(network)
    if not at_boot and (foreground or container.is_init()):
        container.keep(found, say)
        return
    number, undone = change.at_boot(found) if at_boot else change.start(found)
    if undone:
        say(undone, style="red")
    say(f"{found.network}: " + (f"revision {number} runs" if number is not None else "nothing was ever applied"))


def stop(network: NetworkOption = None) -> None:
    """Stop all services of the network; its configuration stays. A change that waits to be confirmed is taken back."""
    from dmvpn.operations import change, here

    found = here.find(network)
    undone = change.stop(found)
    if undone is not None:
        say(undone.words, style="red")
    say(f"{found.network}: stopped")


def uninstall(
    network: NetworkOption = None,
    keep_state: Annotated[
        bool, typer.Option("--keep-state", help="Leave the papers and what the router remembers, for a later apply.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Take the network off this machine: services, kernel state, settings and files. Asks first.

    A change that waits to be confirmed is taken back before.
    """
    from dmvpn.operations import uninstall as removing

    found = removing.find(network)
    keep = removing.Keep.STATE if keep_state else removing.Keep.NOTHING
    removal = removing.look(found, keep)
    if removal.unconfirmed is not None:
        say(f"take back revision {removal.unconfirmed}, which nobody confirmed", style="yellow")
    doing = {"stop": removal.services, "set": removal.settings, "remove": removal.paths, "give back": removal.adopted}
    for verb, things in doing.items():
        for thing in things:
            say(f"{verb} {thing}")
    for path in removal.kept:
        say(f"keep {path}")
    if not yes and not confirmed(f"take {found.network} off this machine?"):
        say("nothing was touched")
        raise typer.Exit(1)
    removing.uninstall(found, keep)
    say(f"{found.network}: gone from this machine")
