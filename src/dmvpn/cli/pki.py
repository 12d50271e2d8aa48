"""dmvpn pki: the network's certificate authority, and a router's own papers."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dmvpn.cli.completion import routers
from dmvpn.cli.passphrases import CaPassphraseFile, PassphraseFile, new_words, unlock, words_for
from dmvpn.cli.reading import FILE, FileOption, JsonOption
from dmvpn.cli.text import say, say_json, say_table

if TYPE_CHECKING:
    from dmvpn.operations.pki import Issued

app = typer.Typer(help="The network's certificate authority, and a router's papers.", no_args_is_help=True)
DirectoryOption = Annotated[Path, typer.Option("--dir", "-d", help="Where the authority is kept.")]
DaysOption = Annotated[int, typer.Option(min=1, max=3650, help="How long it is valid.")]
NetworkOption = Annotated[str | None, typer.Option("--network", help="Which network, where there are several.")]


@app.command()
def init(
    file: FileOption = FILE,
    directory: DirectoryOption = Path("pki"),
    ca_passphrase_file: CaPassphraseFile = None,
    no_passphrase: Annotated[
        bool, typer.Option("--no-passphrase", help="Leave the key unencrypted: for labs and tests.")
    ] = False,
    renewal: Annotated[
        list[str] | None, typer.Option("--renewal", metavar="HUB", help="Let this hub renew certificates.")
    ] = None,
) -> None:
    """Make the network's certificate authority; needs no network. Keep its directory off the routers."""
    from dmvpn.operations import pki, reading

    loaded = reading.read(file)
    pki.refuse_second(directory)
    for hub in renewal or ():
        pki.refuse_no_hub(loaded, hub)
    instead = "--ca-passphrase-file FILE, or --no-passphrase for a trial"
    words = None if no_passphrase else new_words(ca_passphrase_file, f"{directory}/{pki.CA_KEY}", instead)
    certificate = pki.init(loaded, directory, words)
    for hub in renewal or ():
        pki.make_renewer(loaded, directory, hub, unlock=lambda _key: words or "")
    state = "lies open to whoever has it" if words is None else "opens with the passphrase"
    say(f"{certificate}: the network's trust anchor; {directory}/{pki.CA_KEY} {state}: keep it off the routers")


@app.command()
def issue(
    routers: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[ROUTER]...",
            help="Without one: all of ours. A foreign router by its name.",
            autocompletion=routers,
        ),
    ] = None,
    file: FileOption = FILE,
    directory: DirectoryOption = Path("pki"),
    days: DaysOption = 825,
    ca_passphrase_file: CaPassphraseFile = None,
) -> None:
    """Make a key and certificate for a router; the certificate says what it may be and announce."""
    from dmvpn.operations import pki, reading

    loaded = reading.read(file)
    ca = pki.authority_of(loaded, directory, unlock(ca_passphrase_file))
    for router in routers or reading.our_routers(loaded):
        _say_issued(pki.issue(loaded, directory, router, days=days, ca=ca))


@app.command()
def sign(
    request: Annotated[Path, typer.Argument(metavar="CSR", help="What the router printed; - for standard input.")],
    router: Annotated[str | None, typer.Option("--router", help="Refuse a request of another router.")] = None,
    file: FileOption = FILE,
    directory: DirectoryOption = Path("pki"),
    days: DaysOption = 825,
    ca_passphrase_file: CaPassphraseFile = None,
) -> None:
    """Sign a router's request. What the certificate claims comes from the network file, never from the request."""
    from dmvpn.operations import inviting, pki, reading

    octets = sys.stdin.buffer.read(pki.PEM_LIMIT_OCTETS + 1) if str(request) == "-" else pki.request_in(request)
    loaded = reading.read(file)
    ca = pki.authority_of(loaded, directory, unlock(ca_passphrase_file))
    issued = pki.sign(loaded, directory, octets, router=router, days=days, ca=ca)
    _say_issued(issued)
    if issued.claims is not None:
        say(f"next, on {issued.router}: dmvpn join {inviting.answer(loaded, ca, issued, octets)}")
        say(f"trust anchor {inviting.anchor(ca.ours.certificate)}: what `join` must say too")


def _say_issued(issued: "Issued") -> None:
    claims, router = issued.claims, issued.router
    until = f"until {issued.until:%Y-%m-%d}"
    if claims is None:
        say(f"{router}: {issued.directory}: foreign, {until}; import router.pem, router.key and both authorities there")
        return
    prefixes = " ".join(map(str, claims.prefixes))
    who = f"{claims.role.value}, transport {claims.transport}"
    say(f"{router}: {issued.directory}: {who}, may announce {prefixes}, {until}")


@app.command()
def request(
    identity: Annotated[
        str | None, typer.Option(help="The router's name in IKE, such as par1.example.net; else as it is now.")
    ] = None,
    network: NetworkOption = None,
) -> None:
    """On a router: print a signing request for a key that stays here, for `pki sign`."""
    from dmvpn.operations import papers

    say(papers.request_here(network, identity).decode().rstrip())


@app.command()
def install(
    source: Annotated[
        Path, typer.Argument(metavar="DIRECTORY", help="What `pki issue` or `pki sign` made for this router.")
    ],
    network: Annotated[str | None, typer.Option("--network", help="Refuse a certificate of another network.")] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Also another router's, or another authority's.")] = False,
) -> None:
    """On a router: put its certificate and key where the VPN finds them."""
    from dmvpn.operations import papers

    others = papers.Papers.REPLACE if replace else papers.Papers.KEEP
    say(f"{papers.install(source, network, others)}: installed")


@app.command("list")
def list_(directory: DirectoryOption = Path("pki"), as_json: JsonOption = False) -> None:
    """What the authority has signed: for whom, until when, and whether it is still good."""
    from datetime import UTC, datetime

    from dmvpn.operations import pki_record

    rows = pki_record.rows(directory, datetime.now(UTC))
    if as_json:
        say_json(rows)
        return
    cells = [(one.name, one.what, f"{one.until:%Y-%m-%d}", one.state, one.serial[:16]) for one in rows]
    say_table(("NAME", "WHAT", "UNTIL", "STATE", "SERIAL"), cells)


@app.command()
def renewal(
    hub: Annotated[str, typer.Argument(metavar="HUB", help="A hub of the file.")],
    file: FileOption = FILE,
    directory: DirectoryOption = Path("pki"),
    ca_passphrase_file: CaPassphraseFile = None,
) -> None:
    """Let a hub renew certificates before they end: an authority below the root, among that hub's papers."""
    from dmvpn.operations import pki, reading

    out = pki.make_renewer(reading.read(file), directory, hub, unlock=unlock(ca_passphrase_file))
    say(f"{out}: {hub} renews what others have, and nothing else; take it there with: dmvpn pki install")


@app.command()
def renew(
    router: Annotated[
        str | None, typer.Argument(metavar="[ROUTER]", help="At the authority: whom. On a router: leave it out.")
    ] = None,
    file: FileOption = FILE,
    directory: DirectoryOption = Path("pki"),
    days: DaysOption = 825,
    ca_passphrase_file: CaPassphraseFile = None,
    network: NetworkOption = None,
) -> None:
    """On a router: renew its certificate now, by a hub that renews. At the authority: make new papers for ROUTER."""
    from dmvpn.operations import papers, pki, reading

    if router is None:
        say(f"renewed until {papers.renew_here(network)}; no SA was touched")
        return
    loaded = reading.read(file)
    _say_issued(pki.issue(loaded, directory, router, days=days, unlock=unlock(ca_passphrase_file)))
    say(f"the certificate before stays good until it ends; next, on {router}: dmvpn pki install")


@app.command()
def revoke(
    which: Annotated[str, typer.Argument(metavar="ROUTER|SERIAL", help="A name or number of `dmvpn pki list`.")],
    reason: Annotated[str, typer.Option(help="unspecified, key-compromise, superseded or retired.")] = "unspecified",
    directory: DirectoryOption = Path("pki"),
) -> None:
    """Mark a router's certificates as revoked. It counts once `pki publish` has made the list, and a router has it."""
    from datetime import UTC, datetime

    from dmvpn.operations import pki_record

    chosen = pki_record.reason_called(reason)
    for row in pki_record.revoke(directory, which, chosen, datetime.now(UTC)):
        say(f"{row.name}: {row.what}, serial {row.serial[:16]}: revoked ({chosen.value})")
    say("next: dmvpn pki publish")


@app.command()
def publish(
    file: FileOption = FILE,
    directory: DirectoryOption = Path("pki"),
    days: Annotated[int, typer.Option(min=1, max=3650, help="When routers begin to warn that it is old.")] = 30,
    ca_passphrase_file: CaPassphraseFile = None,
) -> None:
    """Sign the list of what is revoked. Any one router that gets it tells all others."""
    from dmvpn.operations import pki_record, reading

    made = pki_record.publish(reading.read(file), directory, days=days, unlock=unlock(ca_passphrase_file))
    for one in made:
        say(f"{one.path}: list {one.number}, names {one.names}, good until {one.until:%Y-%m-%d}")
    say(f"next, on any router: dmvpn pki install-crl {made[0].path.name}")


@app.command("install-crl")
def install_crl(
    source: Annotated[Path, typer.Argument(metavar="FILE", help="What `pki publish` wrote.")],
    network: NetworkOption = None,
) -> None:
    """On a router: put a revocation list in force here, and on every router that can be reached from here."""
    from dmvpn.operations import papers

    number, names = papers.install_list(source, network)
    say(f"list {number} is in force here and goes on to the others: {names} revoked")


@app.command("import-pfx")
def import_pfx(
    source: Annotated[Path, typer.Argument(metavar="FILE", help="A PFX (PKCS #12), of old Windows tools as well.")],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="The directory; else named after the file.")] = None,
    passphrase_file: PassphraseFile = None,
) -> None:
    """Take the papers out of a PFX file, as a directory for `pki install`."""
    from dmvpn.operations import pfx

    target = out or Path(source.stem)
    pfx.refuse_existing(target)
    names = pfx.import_papers(source, target, words_for(passphrase_file, f"Passphrase of {source}: "))
    say(f"{target}: {', '.join(names)}")


@app.command("export-pfx")
def export_pfx(
    source: Annotated[Path, typer.Argument(metavar="DIRECTORY", help="What `pki issue` made.")],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="The file; else DIRECTORY.pfx here.")] = None,
    old: Annotated[bool, typer.Option("--old", help="For tools that know 3DES and SHA-1 only.")] = False,
    passphrase_file: PassphraseFile = None,
) -> None:
    """Write a router's papers as one encrypted PFX file."""
    from dmvpn.operations import pfx

    target = out or Path(f"{source.resolve().name}.pfx")
    pfx.refuse_existing(target)
    words = new_words(passphrase_file, str(target), "--passphrase-file FILE")
    reader = pfx.For.OLD if old else pfx.For.PRESENT
    pfx.export_papers(source, target, words, reader)
    say(f"{target}: encrypted with {reader.value}")
