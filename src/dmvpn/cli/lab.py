"""dmvpn lab: a whole network on this machine."""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from dmvpn.cli.reading import FILE, JsonOption
from dmvpn.cli.text import say, say_json, say_table
from dmvpn.errors import WrongInput

app = typer.Typer(
    help="A whole network on this machine: routers, NATs and a WAN. A lab file is code that runs as root.",
    no_args_is_help=True,
)
NameOption = Annotated[str | None, typer.Option("--name", "-n", help="Which lab, if several are up.")]
VmOption = Annotated[bool, typer.Option("--vm", help="In a virtual machine with a stock kernel, which stays as long.")]
FileArgument = Annotated[Path, typer.Argument(metavar="FILE", help="The network file.")]


def _ask_machine(name: str | None, *words: str) -> None:
    """If the lab is in a virtual machine, the same command runs in there, and this one is over."""
    from dmvpn.operations import machines

    machine = machines.find(name)
    if machine is not None:
        raise typer.Exit(machines.ask(machine, *words))


@app.command()
def up(
    file: FileArgument = FILE,
    name: NameOption = None,
    vm: VmOption = False,
    pki_directory: Annotated[
        Path | None, typer.Option("--pki", help="Papers by this authority; without it by one of the lab's own.")
    ] = None,
    bare: Annotated[
        list[str] | None, typer.Option(metavar="ROUTER", help="Start this router bare, to be joined; also lab.bare.")
    ] = None,
) -> None:
    """Start every router and host of a network file, with the same apply as on a real router."""
    from dmvpn.cli.passphrases import unlock
    from dmvpn.operations import labs, machines, pki

    if vm and (pki_directory is not None or bare):
        raise WrongInput("lab up --vm", "takes neither --pki nor --bare", "write bare: into the file's lab section")
    if vm:
        raise typer.Exit(machines.up(file, name, lambda step: say(f"{step.seconds:6.1f}s  {step.what}")))
    given = None if pki_directory is None else partial(pki.authority_of, directory=pki_directory, unlock=unlock(None))
    lab = labs.up(
        file,
        name,
        lambda progress: say(f"{progress.seconds:6.1f}s  {progress.what}"),
        authority_of=given,
        bare=bare or (),
    )
    say(f"lab {lab.name} is up: {', '.join(lab.nodes)}")
    which = f"--name {lab.name} " if labs.are_several() else ""
    say(f"next: dmvpn lab exec {which}{lab.routers()[0].name} dmvpn status")


@app.command()
def down(name: NameOption = None) -> None:
    """End a lab; nothing of it stays."""
    from dmvpn.operations import labs, machines

    lab = machines.find(name) or labs.find(name)
    lab.down()
    say(f"lab {lab.name} is down")


@app.command()
def status(name: NameOption = None, as_json: JsonOption = False) -> None:
    """Nodes, links and their impairments, and what the WAN emulation itself cannot do."""
    from dmvpn.operations import labs, machines

    machine = machines.find(name)
    if machine is not None and as_json:
        say_json(machines.status_json(machine))
        return
    if machine is not None:
        say(f"lab {machine.name} is in {machine}")
        raise typer.Exit(machines.ask(machine, "status"))
    found = labs.find(name).status()
    if as_json:
        say_json(labs.status_json(found))
        return
    say(f"lab {found.name}: network {found.network} of {found.file}, WAN by {found.emulator.value}, {found.planes}")
    say_table(("NODE", "KIND"), [(node.name, node.kind.value) for node in found.nodes])
    say()
    say_table(("LINK", "UP", "DOWN"), [(link.link, str(link.up), str(link.down)) for link in found.links])
    if found.not_started:
        say(f"left out: {', '.join(found.not_started)}: other platforms, or this kernel has no GRE and ESP for them")
    for a, b in found.cuts:
        say(f"path {a} - {b} is cut", style="yellow")
    if found.relay:
        late = sum(row.late + row.overflow for row in found.relay)
        say(f"relay: {found.relay_cpu_share:.0%} of a core, {late} packets late or dropped because of the relay itself")


@app.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
def exec(
    node: Annotated[str, typer.Argument(help="A router or host of the lab.")],
    command: Annotated[list[str], typer.Argument(help="The program and its arguments.")],
    name: NameOption = None,
) -> None:
    """Run a program inside a node; its exit status is ours."""
    from dmvpn.operations import labs

    _ask_machine(name, "exec", node, *command)
    raise typer.Exit(labs.find(name).node(node).exec(labs.inside(command)))


@app.command()
def capture(
    node: Annotated[str, typer.Argument(help="A node of the lab.")],
    device: Annotated[str, typer.Argument(help="A device inside it.")],
    file: Annotated[str, typer.Argument(help="A pcap file to write, or - to print packets.")] = "-",
    name: NameOption = None,
) -> None:
    """Capture on a device of a node with tcpdump until Ctrl-C."""
    from dmvpn.operations import labs, machines

    machine = machines.find(name)
    if machine is not None:
        raise typer.Exit(machines.capture(machine, node, device, file))
    raise typer.Exit(labs.capture(labs.find(name).node(node), device, file))


@app.command()
def impair(
    link: Annotated[str, typer.Argument(metavar="ROUTER.UPLINK", help="A link of the lab's file.")],
    words: Annotated[list[str], typer.Argument(help="delay=25ms jitter=2ms loss=1% rate=50M down up")],
    name: NameOption = None,
) -> None:
    """Make a link worse; what is not named stays as it is. Prints both directions."""
    from dmvpn.operations import labs

    _ask_machine(name, "impair", link, *words)
    say(labs.impair(labs.find(name), link, words))


@app.command()
def renumber(
    link: Annotated[str, typer.Argument(metavar="ROUTER.UPLINK", help="An uplink with dhcp: true or pppoe.")],
    name: NameOption = None,
) -> None:
    """Let an uplink's ISP give it its next address; the router learns of it within seconds."""
    from dmvpn.operations import labs

    _ask_machine(name, "renumber", link)
    say(f"{link} is given {labs.renumber(labs.find(name), link)}")


@app.command()
def cut(
    a: Annotated[str, typer.Argument(help="A router.")],
    b: Annotated[str, typer.Argument(help="Another one.")],
    name: NameOption = None,
) -> None:
    """Let the WAN carry nothing between two routers; each still reaches all others."""
    from dmvpn.operations import labs

    _ask_machine(name, "cut", a, b)
    labs.find(name).cut_path(a, b)
    say(f"the direct path {a} - {b} is cut")


@app.command()
def heal(
    what: Annotated[list[str] | None, typer.Argument(metavar="[ROUTER.UPLINK | A B]", help="All, without it.")] = None,
    name: NameOption = None,
) -> None:
    """Bring a link, a cut path, or everything back to what the file says."""
    from dmvpn.operations import labs

    _ask_machine(name, "heal", *(what or []))
    say(labs.heal(labs.find(name), what or []))


@app.command()
def graph(file: FileArgument = FILE) -> None:
    """The network as a Mermaid graph."""
    from dmvpn.operations import labs

    say(labs.graph(file))


@app.command()
def run(
    scenario: Annotated[
        str, typer.Argument(help="A scenario file, a network file that has a story, or one of ours: demo.")
    ],
    as_json: JsonOption = False,
    name: NameOption = None,
    vm: VmOption = False,
    report: Annotated[Path | None, typer.Option("--report", help="Write what was seen there, as Markdown.")] = None,
) -> None:
    """Start a lab, walk through a scenario's steps and expectations, and end the lab whatever happens."""
    from dmvpn.cli.story import Story
    from dmvpn.operations import labs, machines

    story = Story(quiet=as_json)
    if vm:
        raise typer.Exit(machines.run_scenario(scenario, name, as_json=as_json, report=story.hear))
    status = labs.run_scenario(scenario, name, story.hear)
    if report is not None:
        labs.write_report(report, story.page(f"dmvpn lab run {scenario} --report {report}"))
    if as_json:
        say_json(story.record)
    raise typer.Exit(status)
