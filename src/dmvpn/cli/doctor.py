"""dmvpn doctor: layer by layer, what is wrong with this router and what to do."""

from typing import Annotated

import typer

from dmvpn.cli.completion import places
from dmvpn.cli.observe import NetworkOption
from dmvpn.cli.reading import JsonOption
from dmvpn.cli.text import Waiting, say, say_json, say_pieces

STYLES = {"ok": "green", "warning": "yellow", "failed": "red", "not looked at": "cyan"}
LAYER_WIDTH, OUTCOME_WIDTH = 9, 8


def add(app: typer.Typer) -> None:
    app.command()(doctor)


def doctor(
    destination: Annotated[
        str | None,
        typer.Argument(metavar="[HOST]", help="A site, router or internal address to look at.", autocompletion=places),
    ] = None,
    network: NetworkOption = None,
    as_json: JsonOption = False,
) -> None:
    """Examine this router from the ISP's cable to the NHRP cache; the last line is where it begins to fail.

    Nothing is changed. Exit 0: all good; 1: something fails; 3: warnings, or something that only root may look at.
    """
    from dmvpn.operations import doctor, here
    from dmvpn.operations.doctor import Finding, Outcome

    found: list[Finding] = []
    with Waiting() as waiting:
        for finding in doctor.findings(here.find(network), destination, waiting.about):
            found.append(finding)
            if not as_json:
                waiting.pause()
                _say(finding)
    verdict = doctor.verdict(found)
    if as_json:
        say_json({"findings": found, "outcome": verdict.outcome, "first": verdict.first})
    elif verdict.first is None:
        say(f"all {len(found)} checks are good", style="green")
    else:
        where = {Outcome.FAILED: "first failure", Outcome.WARNING: "first warning"}.get(verdict.outcome, "not all seen")
        first = verdict.first
        what = f"{where}: {first.layer}: {first.check}: {first.what}" + (f"; {first.fix}" if first.fix else "")
        say(what, style=STYLES[verdict.outcome])
    if verdict.outcome is not Outcome.OK:
        raise typer.Exit(1 if verdict.outcome is Outcome.FAILED else 3)


def _say(finding: "Finding") -> None:  # type: ignore[name-defined]  # noqa: F821
    word = {"not looked at": "unseen"}.get(finding.outcome.value, finding.outcome.value)
    text = f"{finding.check}: {finding.what}" + (f"; {finding.fix}" if finding.fix else "")
    say_pieces(
        [
            (f"{finding.layer.value:<{LAYER_WIDTH}}", ""),
            (f"{word:<{OUTCOME_WIDTH}}", STYLES[finding.outcome.value]),
            (text, ""),
        ]
    )
