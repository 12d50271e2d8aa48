"""Completing the command line: the script for each shell, and the names from the file at hand."""

import os
from enum import StrEnum
from typing import Annotated

import typer

from dmvpn.cli.text import say

PROGRAM = "dmvpn"
VARIABLE = "_DMVPN_COMPLETE"  # a shell sets it when it asks


class Shell(StrEnum):
    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


def add(app: typer.Typer) -> None:
    app.command()(completion)


def prepare() -> None:
    """Have typer know the shells, when one of them asks; at other times that import would only cost."""
    if VARIABLE in os.environ:
        from typer.completion import completion_init  # type: ignore[attr-defined]

        completion_init()


def completion(shell: Annotated[Shell, typer.Argument(help="Which shell.")]) -> None:
    """Print a shell's script for completing this command, for the shell's own directory of such scripts."""
    from typer.completion import get_completion_script  # type: ignore[attr-defined]

    say(get_completion_script(prog_name=PROGRAM, complete_var=VARIABLE, shell=shell.value))


def routers(incomplete: str) -> list[str]:
    from dmvpn.operations import naming

    return [name for name in naming.known().routers if name.startswith(incomplete)]


def places(incomplete: str) -> list[str]:
    """Sites and routers."""
    from dmvpn.operations import naming

    known = naming.known()
    return [name for name in (*known.sites, *known.routers) if name.startswith(incomplete)]


def clouds(incomplete: str) -> list[str]:
    from dmvpn.operations import naming

    return [name for name in naming.known().clouds if name.startswith(incomplete)]


def networks(incomplete: str) -> list[str]:
    from dmvpn.operations import naming

    return [name for name in naming.networks_here() if name.startswith(incomplete)]
