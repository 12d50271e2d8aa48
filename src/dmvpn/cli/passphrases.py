"""Asking for passphrases: on the terminal, or from a file that nobody else may read; never in argv or environment."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from dmvpn.cli.text import ask_secret
from dmvpn.errors import WrongInput

PassphraseFile = Annotated[
    Path | None,
    typer.Option("--passphrase-file", metavar="FILE", help="Read the passphrase from its one line; mode 0600."),
]
CaPassphraseFile = Annotated[
    Path | None,
    typer.Option("--ca-passphrase-file", metavar="FILE", help="The authority's passphrase on its one line; mode 0600."),
]


def need_terminal(instead: str) -> None:
    """Raises WrongInput when nobody can be asked."""
    if not sys.stdin.isatty():
        raise WrongInput("passphrase", "there is no terminal to ask for it", f"say {instead}")


def new_words(passphrase_file: Path | None, of: str, instead: str) -> str:
    """A new passphrase, asked twice. Raises WrongInput if the two differ."""
    from dmvpn.operations.inviting import passphrase_in

    if passphrase_file is not None:
        return passphrase_in(passphrase_file)
    need_terminal(instead)
    words = ask_secret(f"New passphrase of {of}: ")
    if ask_secret("Once more: ") != words:
        raise WrongInput("passphrase", "the two are not the same", "type it again")
    return words


def words_for(passphrase_file: Path | None, question: str) -> str:
    """A passphrase that exists already."""
    from dmvpn.operations.inviting import passphrase_in

    if passphrase_file is not None:
        return passphrase_in(passphrase_file)
    need_terminal("--passphrase-file FILE")
    return ask_secret(question)


def unlock(passphrase_file: Path | None) -> Callable[[Path], str]:
    """What the authority's key is opened with, asked for when it is needed."""

    def ask(key: Path) -> str:
        if passphrase_file is None:
            need_terminal("--ca-passphrase-file FILE")
        return words_for(passphrase_file, f"Passphrase of {key}: ")

    return ask
