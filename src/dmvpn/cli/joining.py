"""Verbs of joining: invite on the operator's machine, join on the new router."""

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dmvpn.cli.passphrases import CaPassphraseFile, PassphraseFile, need_terminal, unlock
from dmvpn.cli.pki import DirectoryOption
from dmvpn.cli.reading import FILE, FileOption, JsonOption
from dmvpn.cli.text import ask_secret, complain, say, say_json
from dmvpn.errors import WrongInput

if TYPE_CHECKING:
    from dmvpn.operations.joining import Contents, Ready, Sealed


def add(app: typer.Typer) -> None:
    app.command()(invite)
    app.command()(join)


def invite(
    router: Annotated[str, typer.Argument(help="A router of the file.")],
    file: FileOption = FILE,
    directory: DirectoryOption = Path("pki"),
    out: Annotated[Path | None, typer.Option("--out", "-o", help="The bundle; without it ROUTER.bundle.")] = None,
    days: Annotated[int, typer.Option(min=1, max=13, help="How long it is good for.")] = 7,
    machine: Annotated[
        str | None, typer.Option(metavar="CODE", help="Only for the machine that printed this: dmvpn join --machine.")
    ] = None,
    passphrase_file: PassphraseFile = None,
    ca_passphrase_file: CaPassphraseFile = None,
    generate: Annotated[bool, typer.Option("--generate", help="Have a passphrase made, and shown once.")] = False,
) -> None:
    """Write one encrypted file with which a new router joins: its part of the file, its key, the trust anchor."""
    from dmvpn.operations import inviting, reading

    loaded = reading.read(file)
    target = out or Path(f"{router}.bundle")
    inviting.refuse(loaded, router, target)
    made = inviting.new_passphrase() if generate else ""
    words = made or _new_words(passphrase_file)
    opens = unlock(ca_passphrase_file)
    invitation = inviting.invite(loaded, directory, router, words, days=days, machine=machine, unlock=opens)
    inviting.write(invitation, target)
    also = f", {len(invitation.secrets)} secrets" if invitation.secrets else ""
    say(f"{target}: {router} may join with it until {invitation.expires:%Y-%m-%d %H:%M} UTC{also}")
    if not invitation.renewed:
        say("no hub renews certificates, so it ends then; once, for all: dmvpn pki renewal HUB", style="yellow")
    if made:
        say(f"passphrase: {made}", style="bold")
        say("It is shown this once; send it another way than the file.")
    say(f"next, on {router}: dmvpn join {target.name}")


def _new_words(passphrase_file: Path | None) -> str:
    from dmvpn.operations import inviting

    if passphrase_file is not None:
        return inviting.passphrase_in(passphrase_file)
    need_terminal("--passphrase-file FILE or --generate")
    words = ask_secret("Passphrase of the bundle (empty: have one made): ")
    if not words:
        made = inviting.new_passphrase()
        say(f"passphrase: {made}", style="bold")
        say("It is shown this once; send it another way than the file.")
        return made
    if ask_secret("Once more: ") != words:
        raise WrongInput("passphrase", "the two are not the same", "type it again")
    return words


def join(
    source: Annotated[
        Path | None, typer.Argument(metavar="[BUNDLE]", help="What `dmvpn invite` or `dmvpn pki sign` wrote.")
    ] = None,
    request: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Print a request for a key that stays here; NAME is such as par1.example.net."
        ),
    ] = None,
    network: Annotated[str | None, typer.Option(help="The network of the request.")] = None,
    anchor: Annotated[
        str | None, typer.Option(metavar="SHA256", help="Refuse another trust anchor than this one.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check everything, change nothing.")] = False,
    wait: Annotated[float, typer.Option(min=0, max=3600, help="Seconds to wait for a hub.")] = 60,
    machine: Annotated[
        bool, typer.Option("--machine", help="Print this machine's code, for invite --machine.")
    ] = False,
    passphrase_file: PassphraseFile = None,
    as_json: JsonOption = False,
) -> None:
    """On a new router: check the bundle, install it, start, and say which hub was reached, or what failed."""
    from dmvpn.operations import joining

    if machine:
        say(joining.machine())
        return
    if request is not None:
        _say_request(request, network, dry_run=dry_run)
        return
    if source is None:
        raise WrongInput("join", "names no bundle", "give the file that `dmvpn invite` or `dmvpn pki sign` wrote")
    sealed = joining.read(source)
    ready = joining.look(sealed, _contents(sealed, passphrase_file), anchor)
    if dry_run:
        say(f"{ready.head.router} of {ready.head.network}: all checks passed; nothing was changed (dry run)")
        for line in joining.preview(ready):
            say(f"  {line}")
        return
    _go(ready, within_s=wait, as_json=as_json)


def _go(ready: "Ready", *, within_s: float, as_json: bool) -> None:
    """Join, wait for a hub, and say so. Exit status 1 when none was reached."""
    from dmvpn.operations import joining

    since = time.monotonic()
    joined = joining.join(ready, _step)
    if not as_json and ready.joined_at is not None:
        say(f"{joined.router} joined with this bundle already, {ready.joined_at:%Y-%m-%d %H:%M} UTC: nothing changed")
    elif not as_json:
        say(f"revision {joined.revision} in force: {joined.router} of {joined.network}")
        for line in joining.skipped(ready):
            say(line, style="yellow")
    arrival = joining.arrive(ready, since=since, within_s=within_s)
    if as_json:
        say_json({"joined": joined, "arrival": arrival})
    elif arrival.good:
        say(f"reached {arrival.hub} after {arrival.seconds:.1f} s", style="green")
    else:
        say(f"no hub reached in {arrival.seconds:.0f} s: {arrival.layer}: {arrival.why}", style="red")
        say("the router stays configured and keeps trying; run: dmvpn status")
    if not arrival.good:
        raise typer.Exit(1)


def _step(what: str) -> None:
    if sys.stderr.isatty():
        complain(f"  {what}")


def _say_request(name: str, network: str | None, *, dry_run: bool) -> None:
    from dmvpn.operations import joining

    if network is None:
        raise WrongInput("join --request", "does not say which network", "add --network NAME, as in the network file")
    if dry_run:
        joining.refuse_request(network, name)
        say(f"a key for {name} would be made in {joining.request_key(network)}, and its request printed (dry run)")
        return
    say(joining.request(network, name).rstrip())
    complain(f"next, where the authority is: dmvpn pki sign; the key stays in {joining.request_key(network)}")


def _contents(sealed: "Sealed", passphrase_file: Path | None) -> "Contents":
    from dmvpn.operations import inviting, joining

    if joining.is_answer(sealed):
        return sealed.open_with(joining.own_key(sealed))
    if passphrase_file is not None:
        return sealed.open(inviting.passphrase_in(passphrase_file))
    need_terminal("--passphrase-file FILE")
    return sealed.open(ask_secret(f"Passphrase of {sealed.name}: "))
