"""Verbs that write the network file: init, site add, site remove."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dmvpn.cli.reading import FILE, FileOption
from dmvpn.cli.text import ask, complain, say
from dmvpn.errors import WrongInput

if TYPE_CHECKING:
    from dmvpn.operations.authoring import Question

site = typer.Typer(help="Sites of the network file.", no_args_is_help=True)
Text = str | None


def add(app: typer.Typer) -> None:
    app.command()(init)
    app.add_typer(site, name="site")


def init(
    file: Annotated[Path, typer.Argument(metavar="[FILE]", help="The network file to write.")] = FILE,
    network: Annotated[Text, typer.Option(help="Name of the network.")] = None,
    domain: Annotated[Text, typer.Option(help="Domain of the routers' names.")] = None,
    prefix: Annotated[Text, typer.Option(help="All addresses that are internal.")] = None,
    overlay: Annotated[Text, typer.Option(help="Tunnel addresses, a part of these.")] = None,
    hub_site: Annotated[Text, typer.Option(help="Site of the hub.")] = None,
    hub_address: Annotated[Text, typer.Option(help="The hub's uplink address, with its length.")] = None,
    hub_gateway: Annotated[Text, typer.Option(help="Its ISP's gateway.")] = None,
    hub_public: Annotated[Text, typer.Option(help="Its public address, if a 1:1 NAT hides that; - for none.")] = None,
    sites: Annotated[Text, typer.Option(help="Names of other sites, with blanks or commas between.")] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Take the defaults for what no option says.")] = False,
) -> None:
    """Write a first network file: a few questions with good defaults, each an option too."""
    from dmvpn.operations import authoring

    authoring.refuse_existing(file)
    given = {
        "network": network,
        "domain": domain,
        "prefix": prefix,
        "overlay": overlay,
        "hub-site": hub_site,
        "hub-address": hub_address,
        "hub-gateway": hub_gateway,
        "hub-public": hub_public,
        "sites": sites,
    }
    answers: dict[str, str] = {}
    for question in authoring.QUESTIONS:
        said = given[question.key]
        if said is not None:
            question.check(said)
        answers[question.key] = said if said is not None else _answer(question, answers, yes=yes)
    authoring.init(file, answers)
    say(f"{file}: written, and good")
    say(f"next: dmvpn lab up {file}   (all of it on this machine), or: dmvpn pki init")


def _answer(question: "Question", answers: dict[str, str], *, yes: bool) -> str:
    default: str = question.default(answers)
    if yes:
        return default
    if not sys.stdin.isatty():
        fix = f"say --{question.key} (such as {default}), or --yes for all defaults"
        raise WrongInput("init", "there is no terminal to ask questions on", fix)
    while True:
        said = ask(question.asks, default)
        try:
            question.check(said)
        except WrongInput as fault:
            complain(f"  {fault.what}; {fault.fix}")
            continue
        return said


@site.command("add")
def add_site(
    name: Annotated[str, typer.Argument(help="Name of the new site.")],
    file: FileOption = FILE,
    router: Annotated[Text, typer.Option(help="Its router; without it three letters of the site and a number.")] = None,
    asn: Annotated[Text, typer.Option(help="Its autonomous system; without it the next free one.")] = None,
    prefix: Annotated[Text, typer.Option(help="Its network; without it the next free one.")] = None,
    address: Annotated[Text, typer.Option(help="The uplink's address, with its length; without it DHCP.")] = None,
    gateway: Annotated[Text, typer.Option(help="The ISP's gateway.")] = None,
    dhcp: Annotated[bool, typer.Option("--dhcp", help="The ISP gives the address.")] = False,
    port: Annotated[Text, typer.Option(help="The uplink's port.")] = None,
    lan_port: Annotated[Text, typer.Option(help="The network's port.")] = None,
    cloud: Annotated[list[str] | None, typer.Option(help="A cloud it takes part in; without it all.")] = None,
    hub: Annotated[bool, typer.Option("--hub", help="Its router is a hub.")] = False,
) -> None:
    """Add a site to the file with the next free numbers; the rest of the file stays as it is, octet for octet."""
    from dmvpn.operations import authoring

    options = {"router": router, "asn": asn, "prefix": prefix, "address": address, "gateway": gateway}
    options |= {"port": port, "lan_port": lan_port}
    flags = frozenset(word for word, said in (("dhcp", dhcp), ("hub", hub)) if said)
    made = authoring.add_site(file, authoring.wanted_site(name, options, tuple(cloud or ()), flags=flags))
    for new, given in made["routers"].items():
        tunnels = ", ".join(f"{word} {' '.join(one['address'])}" for word, one in given["tunnels"].items())
        say(f"{file}: {name} added: {made['networks']['lan']['prefix']}, AS {made['asn']}, router {new}, {tunnels}")
        say(f"next: dmvpn invite {new}")


@site.command("remove")
def remove_site(
    name: Annotated[str, typer.Argument(help="A site of the file.")],
    file: FileOption = FILE,
) -> None:
    """Take a site out of the file; refused, with the places, while something else there needs it."""
    from dmvpn.operations import authoring

    authoring.remove_site(file, name)
    say(f"{file}: {name} removed; its certificates are good until they end or are revoked")
