"""dmvpn nhrp: decode, conform, watch, events, purge."""

from typing import Annotated

import typer

from dmvpn.cli.conform import conform
from dmvpn.cli.observe import NetworkOption
from dmvpn.cli.reading import JsonOption
from dmvpn.cli.text import say, say_json
from dmvpn.cli.watch import watch

app = typer.Typer(help="NHRP: decode packets, see what happened, purge.", no_args_is_help=True)
app.command()(conform)
app.command()(watch)


@app.command()
def decode(
    source: Annotated[str, typer.Argument(metavar="HEX|FILE", help="Hex digits, or a file: hex, pcap or pcapng.")],
    as_json: JsonOption = False,
) -> None:
    """Show every field of the NHRP packets in a capture or in hex."""
    from dmvpn.operations import decoding

    packets, bad = [], 0
    for one in decoding.decode(source):
        packets.append(one)
        bad += bool(one.fault)
        if as_json:
            continue
        place = f"frame {one.frame}" + (f" {one.time}" if one.time else "")
        say(f"{place}: {one.outer}", style="bold")
        for line in one.lines or (f"  malformed: {one.fault}",):
            say(line)
    if as_json:
        say_json([{"frame": one.frame, "outer": one.outer, "fault": one.fault, **one.data} for one in packets])
    elif not packets:
        say("no NHRP in it (encrypted captures show none: capture on the tunnel's device)")
    if bad or not packets:
        raise typer.Exit(1)


@app.command()
def events(network: NetworkOption = None, as_json: JsonOption = False) -> None:
    """What the NHRP engines of this router did lately, oldest first."""
    from dmvpn.operations import here, observing

    found = observing.moments(here.find(network))
    if as_json:
        say_json(found)
        return
    for one in found:
        say(f"{one['age_s']:8.1f}s ago  {one['cloud']}: {one['happening']} {one['subject']} {one['detail']}")


@app.command()
def purge(
    prefix: Annotated[str | None, typer.Argument(help="A prefix or address; without it all that was learned.")] = None,
    network: NetworkOption = None,
) -> None:
    """Forget what was learned about a prefix, and tell those who learnt it from here."""
    from dmvpn.operations import here, observing

    observing.purge(here.find(network), prefix)
    say(f"purged {prefix or 'everything that was learned'}")
