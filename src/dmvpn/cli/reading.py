"""Verbs that read a network file: check, schema, render, graph."""

from pathlib import Path
from typing import Annotated

import typer

from dmvpn.cli.text import complain, say, say_json

FILE = Path("network.yaml")
FileArgument = Annotated[Path, typer.Argument(metavar="FILE", help="The network file.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def add(app: typer.Typer) -> None:
    app.command()(check)
    app.command()(schema)
    app.command()(render)


def check(file: FileArgument = FILE, as_json: JsonOption = False) -> None:
    """Check a network file: every problem at once, with its place and what to write instead."""
    from dmvpn.operations import reading

    findings = reading.check(file)
    wrong = [finding for finding in findings if not finding.warning]
    if as_json:
        say_json(findings)
    else:
        for finding in findings:
            say(str(finding))
    if wrong:
        raise typer.Exit(2)
    if not as_json:
        loaded = reading.read(file)
        sites = loaded.network.sites
        routers = sum(len(site.routers) for site in sites.values())
        counts = [_count(len(loaded.network.clouds), "cloud"), _count(len(sites), "site"), _count(routers, "router")]
        say(f"{file}: good: {', '.join(counts)}")
    if findings:
        raise typer.Exit(3)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")


def schema() -> None:
    """Print the network file's JSON Schema, for editors."""
    from dmvpn.operations import reading

    say_json(reading.json_schema())


def render(
    router: Annotated[str, typer.Argument(help="A router of the file.")],
    file: Annotated[Path, typer.Option("--file", "-f", help="The network file.")] = FILE,
    out: Annotated[Path | None, typer.Option(help="Write the tree there instead of printing it.")] = None,
) -> None:
    """Show every file that one router gets. Nothing is applied."""
    from dmvpn.operations import change, reading

    loaded = reading.read(file)
    plan = reading.plan_of(loaded, router)
    if reading.plane_is_open(loaded, router):
        complain(f"{router}: plane auto: shown for userspace; where the kernel has GRE and ESP, apply uses those")
    for part in change.render(loaded, plan):
        for one in part.files:
            if out is not None:
                change.write_out(out, one)
            else:
                say(f"# {one.path} ({part.engine}, mode {one.mode:04o})", style="bold")
                say("(secret)" if one.mode == 0o600 else one.text)
