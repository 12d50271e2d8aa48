"""dmvpn pki: the network's certificate authority."""

from pathlib import Path
from typing import Annotated

import typer

from dmvpn.cli.reading import FILE
from dmvpn.cli.text import say

app = typer.Typer(help="The network's certificate authority.", no_args_is_help=True)
FileOption = Annotated[Path, typer.Option("--file", "-f", help="The network file.")]
DirectoryOption = Annotated[Path, typer.Option("--dir", "-d", help="Where the authority is kept.")]


@app.command()
def init(file: FileOption = FILE, directory: DirectoryOption = Path("pki")) -> None:
    """Make the network's certificate authority. Keep its directory off the routers."""
    from dmvpn.operations import pki, reading

    certificate = pki.init(reading.read(file), directory)
    say(f"{certificate}: the network's trust anchor; {directory}/ca.key is secret: keep it off the routers")


@app.command()
def issue(
    routers: Annotated[
        list[str] | None,
        typer.Argument(metavar="[ROUTER]...", help="Without one: all of ours. A foreign router by its name."),
    ] = None,
    file: FileOption = FILE,
    directory: DirectoryOption = Path("pki"),
) -> None:
    """Make a key and certificate for a router; the certificate says what it may be and announce."""
    from dmvpn.operations import pki, reading

    loaded = reading.read(file)
    for router in routers or reading.our_routers(loaded):
        issued = pki.issue(loaded, directory, router)
        claims = issued.claims
        if claims is None:
            say(f"{router}: {issued.directory}: foreign; import router.pem, router.key and both authorities there")
            continue
        prefixes = " ".join(map(str, claims.prefixes))
        say(f"{router}: {issued.directory}: {claims.role.value}, transport {claims.transport}, may announce {prefixes}")


@app.command()
def install(
    source: Annotated[Path, typer.Argument(metavar="DIRECTORY", help="What `pki issue` made for this router.")],
    network: Annotated[str | None, typer.Option("--network", help="Refuse a certificate of another network.")] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Also another router's, or another authority's.")] = False,
) -> None:
    """On a router: put its certificate and key where the VPN finds them."""
    from dmvpn.operations import pki

    others = pki.Papers.REPLACE if replace else pki.Papers.KEEP
    say(f"{pki.install(source, network, others)}: installed")
