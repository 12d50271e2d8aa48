"""dmvpn firewall: test, import, compile."""

from pathlib import Path
from typing import Annotated

import typer

from dmvpn.cli.completion import routers
from dmvpn.cli.reading import FILE, FileArgument, FileOption, JsonOption
from dmvpn.cli.text import complain, say, say_json, say_table
from dmvpn.errors import WrongInput

app = typer.Typer(help="The zone policy: ask it, see its rules, read awall's files.", no_args_is_help=True)
FolderArgument = Annotated[Path, typer.Argument(metavar="DIR", help="A folder of awall's files, such as /etc/awall.")]


@app.command("test")
def ask(file: FileArgument = FILE, as_json: JsonOption = False) -> None:
    """Ask the policy about the packets under policy.tests: who would let them through. No router is asked."""
    from dmvpn.operations import firewall

    answers = firewall.ask(file)
    wrong = [answer for answer in answers if not answer.right]
    if as_json:
        say_json(answers)
    else:
        headings = ["ROUTER", "FROM", "TO", "SOURCE", "DESTINATION", "SERVICE", "VERDICT", "BY"]
        rows = [
            [one.router, one.come, one.go, one.source, one.destination, one.service, one.verdict, one.by]
            for one in answers
        ]
        say_table(headings, rows)
        for one in wrong:
            rule = f" ({one.rule})" if one.rule else ""
            line = f"{one.where}: {one.router}: {one.verdict} by {one.by}{rule}, and {one.expected} was expected"
            say(line, style="red")
        if not wrong:
            say(f"good: {len(answers)} answers, all as expected", style="green")
    if wrong:
        raise typer.Exit(1)


@app.command("import")
def import_(directory: FolderArgument, as_json: JsonOption = False) -> None:
    """Read and check a folder of awall's policies, and say how a network file names them."""
    from dmvpn.operations import policies

    folder = policies.import_folder(directory)
    policy = folder.translated.policy
    if as_json:
        say_json({"files": folder.order, "warnings": folder.warnings, "policy": policy})
    else:
        for finding in folder.warnings:
            say(str(finding))
        counts = ((len(folder.order), "policies"), (len(policy.zones), "zones"), (len(policy.rules), "filters"))
        say(f"{directory}: good: {', '.join(f'{number} {noun}' for number, noun in counts)}")
        say("in a network file, with the paths as seen from there:")
        say("policy:")
        say("  awall:")
        for path in folder.order:
            say(f"    - {path}")
    if folder.warnings:
        raise typer.Exit(3)


@app.command("compile")
def compile_(
    router: Annotated[str | None, typer.Argument(help="A router of the file.", autocompletion=routers)] = None,
    file: FileOption = FILE,
    awall: Annotated[
        Path | None, typer.Option(metavar="DIR", help="A folder of awall's files instead of a router.")
    ] = None,
) -> None:
    """Print the nftables rules of a router, or of a folder of awall's policies, each with the line it came from."""
    if (router is None) == (awall is None):
        raise WrongInput("dmvpn firewall compile", "needs either a router or --awall DIR", "name one of them")
    from dmvpn.operations import policies, reading

    if awall is not None:
        text, folder = policies.compile_folder(awall)
        for finding in folder.warnings:
            complain(str(finding))
        say(text.rstrip("\n"))
        return
    say(policies.compile_router(reading.read(file), router or "").rstrip("\n"))
