"""Verbs that read a network file: check, schema, render, graph."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dmvpn.cli.completion import routers
from dmvpn.cli.text import complain, say, say_json, say_table
from dmvpn.errors import WrongInput

if TYPE_CHECKING:
    from dmvpn.operations.links import Cabling
    from dmvpn.operations.reading import NetworkFile

FILE = Path("network.yaml")
FileArgument = Annotated[Path, typer.Argument(metavar="FILE", help="The network file.")]
FileOption = Annotated[Path, typer.Option("--file", "-f", help="The network file.")]
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
    router: Annotated[str, typer.Argument(help="A router of the file.", autocompletion=routers)],
    file: FileOption = FILE,
    out: Annotated[Path | None, typer.Option(help="Write the tree there instead of printing it.")] = None,
    services: Annotated[
        str | None, typer.Option("--services", help="With the files for who keeps the services: systemd or openrc.")
    ] = None,
    cabling: Annotated[
        bool, typer.Option("--cabling", help="Show instead which VLANs the switch ports at it carry.")
    ] = False,
    links: Annotated[
        str | None,
        typer.Option("--links", help="Show instead its links for systemd-networkd or ifupdown-ng, or hands-off."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show every file that one router gets. Nothing is applied."""
    from dmvpn.operations import change, keeping, reading

    loaded = reading.read(file)
    if as_json and not cabling and links is None:
        raise WrongInput("--json", "a tree of files is not JSON", "add --cabling or --links")
    if cabling or links is not None:
        _render_links(loaded, router, links=links, out=out, as_json=as_json)
        return
    plan = reading.plan_of(loaded, router)
    if reading.plane_is_open(loaded, router):
        complain(f"{router}: plane auto: shown for userspace; where the kernel has GRE and ESP, apply uses those")
    for part in change.render(loaded, plan, keeping.named(services) or keeping.Keeper.SUPERVISOR):
        for one in part.files:
            if out is not None:
                change.write_out(out, one)
            else:
                say(f"# {one.path} ({part.engine}, mode {one.mode:04o})", style="bold")
                say("(secret)" if one.mode == 0o600 else one.text)


def _render_links(file: "NetworkFile", router: str, *, links: str | None, out: Path | None, as_json: bool) -> None:
    from dmvpn.operations import change
    from dmvpn.operations import links as linking

    if links is None:
        found = linking.cabling(file, router)
        say_json(found) if as_json else _say_cabling(found)
        return
    try:
        whose = linking.Files(links)
    except ValueError as error:
        raise WrongInput("--links", f"{links} is not known", f"write {', '.join(linking.Files)}") from error
    made = linking.files(file, router, whose)
    if as_json:
        say_json([{"path": f"/{one.path}", "text": one.text} for one in made])
        return
    for one in made:
        if out is not None:
            change.write_out(out, one)
        else:
            say(f"# /{one.path}", style="bold")
            say(one.text)


def _say_cabling(found: "Cabling") -> None:
    rows = []
    for port in found.ports:
        tagged = ", ".join(f"{one.vlan_id} {one.what}" for one in port.tagged)
        rows.append([port.port, port.bond or "-", ", ".join(port.untagged) or "-", tagged or "-"])
    say(f"switch ports at {found.router}")
    say_table(["PORT", "BOND", "UNTAGGED", "TAGGED"], rows)
    if found.access:
        say("")
        say("other switch ports")
        say_table(["UNTAGGED", "FOR"], [[str(one.vlan_id), one.what] for one in found.access])
    for note in found.notes:
        say(note)
