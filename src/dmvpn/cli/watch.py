"""dmvpn nhrp watch: who asked whom, live or from a capture."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dmvpn.cli.observe import NetworkOption
from dmvpn.cli.reading import JsonOption
from dmvpn.cli.text import console, draws_boxes, say, say_json_line, say_pieces

if TYPE_CHECKING:
    from dmvpn.operations.watching import Sighting

LADDER_LEAST = 68  # time, two routers and a note


def watch(
    file: Annotated[Path | None, typer.Argument(help="A capture (pcap, pcapng, hex); without it: this router.")] = None,
    cloud: Annotated[str, typer.Option(help="This cloud only.")] = "",
    probes: Annotated[bool, typer.Option("--probes", help="Also every probe of a path that goes well.")] = False,
    network: NetworkOption = None,
    as_json: JsonOption = False,
) -> None:
    """A ladder of who asked whom, and what came of it; Ctrl-C ends it. In a pipe: a line each."""
    from dmvpn.operations import here, watching

    if file is None:
        routers, sightings = watching.live(here.find(network), cloud)
        own = routers[0]
    else:
        own, routers, sightings = "", watching.stations(watching.from_capture(file)), watching.from_capture(file)
    shown = sightings if probes or as_json else watching.pulse_folded(sightings)
    try:
        count = _show(shown, own, routers, as_json=as_json)
    except KeyboardInterrupt:
        return
    if file is not None and not count:
        if not as_json:
            say("no NHRP in it (encrypted captures show none: capture on the tunnel's device)")
        raise typer.Exit(1)
    if file is None:
        say("dmvpnd ended")
        raise typer.Exit(1)


def _show(sightings: "Iterator[Sighting]", own: str, routers: tuple[str, ...], *, as_json: bool) -> int:
    """How many there were. `own` empty: they are a capture's, whose times are shown in UTC."""
    from dmvpn.cli.ladder import FINE, PLAIN, Ladder, clock, in_words

    terminal, count, utc = console(), 0, not own
    ladder = None
    if terminal.is_terminal and terminal.width >= LADDER_LEAST:
        ladder = Ladder(terminal.width, FINE if draws_boxes() else PLAIN, own, routers, utc)
    if own and not as_json and terminal.is_terminal:
        say(f"watching NHRP on {own}; Ctrl-C ends", style="dim")
    for seen in sightings:
        count += 1
        if as_json:
            say_json_line(seen)
        elif ladder is not None:
            for line in ladder.lines(seen):
                say_pieces(line)
        else:
            say(f"{clock(seen.at_s, utc=utc)} {in_words(seen)}".lstrip())
    return count
