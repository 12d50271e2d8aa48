"""dmvpn: the command. Verbs are in the modules beside this one; faults become one line and an exit status here."""

import os
import sys
from typing import Annotated

import typer

from dmvpn.cli import authoring, change, completion, doctor, firewall, joining, lab, nhrp, observe, pki, push, reading
from dmvpn.cli.text import complain, say
from dmvpn.errors import Fault, Problems

app = typer.Typer(
    name="dmvpn",
    help="A dynamic multipoint VPN for ordinary Linux, from one file.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version.", is_eager=True, callback=lambda asked: _version() if asked else None
        ),
    ] = False,
) -> None:
    """A dynamic multipoint VPN for ordinary Linux, from one file."""


def _version() -> None:
    from importlib.metadata import version

    say(f"OpenDMVPN {version('opendmvpn')}")
    raise typer.Exit


authoring.add(app)
reading.add(app)
joining.add(app)
change.add(app)
push.add(app)
observe.add(app)
doctor.add(app)
completion.add(app)
app.add_typer(pki.app, name="pki")
app.add_typer(nhrp.app, name="nhrp")
app.add_typer(firewall.app, name="firewall")
app.add_typer(lab.app, name="lab")


def run() -> None:
    """The command's entry point. Exit status 0 done, 1 failed, 2 wrong input or changes pending, 3 warnings."""
    completion.prepare()
    try:
        app()
    except Problems as problems:
        for finding in problems.findings:
            complain(f"dmvpn: {finding}")
        sys.exit(problems.exit_code)
    except Fault as fault:
        complain(f"dmvpn: {fault}")
        sys.exit(fault.exit_code)
    except KeyboardInterrupt:
        complain("dmvpn: interrupted")
        sys.exit(130)
    except BrokenPipeError:
        # `dmvpn ... | head`: not an error. Python would complain again when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    run()
