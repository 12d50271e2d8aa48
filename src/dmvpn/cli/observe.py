"""Verbs that look: status, peers, ping, explain, show, purge."""

from typing import Annotated

import typer

from dmvpn.cli.reading import JsonOption
from dmvpn.cli.text import duration, octets, say, say_json, say_table

NetworkOption = Annotated[str | None, typer.Option("--network", help="Which network, if this machine has several.")]
show = typer.Typer(help="Views in other vendors' columns.", no_args_is_help=True)
DIRECT_LIMIT = 100
GUARDS = {
    "gre_clear_out": "of GRE would have left in clear, and did not",
    "gre_clear_in": "of GRE came in clear, and were dropped",
    "transport_forwarded": "of the transport range would have been forwarded, and were not",
}


def add(app: typer.Typer) -> None:
    app.command()(status)
    app.command()(peers)
    app.command()(ping)
    app.command()(explain)
    app.add_typer(show, name="show")
    show.command("dmvpn")(show_dmvpn)


def status(network: NetworkOption = None, as_json: JsonOption = False) -> None:
    """How this router is: clouds, hubs, peers; the last line names the worst problem and the command to run."""
    from dmvpn.operations import here, observing

    found = observing.status(here.find(network))
    if as_json:
        say_json(found)
    else:
        up = duration(found.uptime_s)
        say(f"{found.router} in {found.network}: up {up}, transport {found.transport}, {found.charon}")
        for cloud in found.clouds:
            own = " ".join(cloud.addresses)
            say(f"{cloud.name}: {cloud.role} {own} on {cloud.device}, MTU {cloud.mtu_octets}")
            aes = "AES in the processor" if found.aes else "no AES in the processor"
            if cloud.encrypted:
                gre = f", GRE socket {cloud.socket}" if cloud.plane != "kernel" else ""
                say(f"{cloud.name}: {cloud.plane} plane, {aes}{gre}")
            else:
                say(f"{cloud.name}: {cloud.plane} plane, IN CLEAR: crypto is none", style="red")
            if cloud.drops:
                say(f"{cloud.name}: dropped {', '.join(f'{reason} {n}' for reason, n in sorted(cloud.drops.items()))}")
        stopped = {name: count for name, count in found.guards.items() if name in GUARDS and count}
        for name, count in stopped.items():
            say(f"guard: {count} packets {GUARDS[name]}", style="yellow")
        _peer_table(found.peers)
        worst = max(found.troubles, key=lambda trouble: trouble.severity, default=None)
        if worst is None:
            say("good: nothing to do", style="green")
        else:
            more = f" (and {len(found.troubles) - 1} more)" if len(found.troubles) > 1 else ""
            say(f"{worst.what}; run: {worst.run}{more}", style="red" if worst.severity >= 3 else "yellow")
    severity = max((trouble.severity for trouble in found.troubles), default=0)
    if severity:
        raise typer.Exit(1 if severity >= 3 else 3)


def peers(network: NetworkOption = None, as_json: JsonOption = False) -> None:
    """Every peer of this router and the way packets to it take."""
    from dmvpn.operations import here, observing

    found = observing.status(here.find(network))
    if as_json:
        say_json(found.peers)
        return
    _peer_table(found.peers, whole=True)


def _peer_table(rows: tuple, *, whole: bool = False) -> None:  # type: ignore[type-arg]
    if not rows:
        say("no peers yet")
        return
    headings = ["PEER", "OVERLAY", "KIND", "STATE", "LAYER", "RTT", "SINCE", "BGP"]
    if whole:
        headings += ["TX", "RX", "EXPIRES", "TRANSPORT", "ENDPOINT", "PREFIXES"]
    table = []
    for peer in rows:
        state = f"{peer.state.value} ({peer.why})" if peer.why else peer.state.value
        rtt = f"{peer.rtt_ms:.1f}ms" if peer.rtt_ms is not None else "-"
        row = [
            peer.name or "?",
            peer.overlay,
            peer.kind,
            state,
            peer.layer,
            rtt,
            duration(peer.since_s),
            peer.bgp or "-",
        ]
        if whole:
            row += [
                octets(peer.tx_octets),
                octets(peer.rx_octets),
                duration(peer.expires_s),
                peer.nbma,
                peer.endpoint,
                " ".join(peer.prefixes),
            ]
        table.append(row)
    say_table(headings, table)


def ping(
    site: Annotated[str, typer.Argument(help="A site, router or internal address.")],
    network: NetworkOption = None,
    count: Annotated[int, typer.Option("-c", "--count", min=1, max=100000, help="How many.")] = 5,
    interval: Annotated[float, typer.Option("-i", "--interval", min=0.01, help="Seconds between two.")] = 0.5,
    timeout: Annotated[float, typer.Option("-W", "--timeout", min=0.1, help="Seconds to wait for each.")] = 2.0,
    until_direct: Annotated[bool, typer.Option("--until-direct", help="Stop when the path is direct.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Ping a site, and say for each answer whether it went direct or via the hub."""
    from dmvpn.operations import here, observing

    lost, pongs = 0, []
    wanted = max(count, DIRECT_LIMIT) if until_direct else count
    for pong in observing.ping(here.find(network), site, count=wanted, interval_s=interval, timeout_s=timeout):
        pongs.append(pong)
        lost += pong.rtt_s is None
        if not as_json:
            time = f"{pong.rtt_s * 1000:.1f} ms" if pong.rtt_s is not None else f"lost after {timeout:g} s"
            say(f"{site}: seq {pong.sequence} {time} {pong.path}")
        if until_direct and pong.direct:
            break
    if as_json:
        say_json([{"sequence": one.sequence, "rtt_s": one.rtt_s, "path": one.path, "ttl": one.ttl} for one in pongs])
    else:
        say(f"{len(pongs)} sent, {lost} lost, {'direct' if pongs[-1].direct else pongs[-1].path}")
    if lost == len(pongs) or (until_direct and not pongs[-1].direct):
        raise typer.Exit(1)


def explain(
    source: Annotated[str, typer.Argument(metavar="A", help="A site, router or internal address.")],
    destination: Annotated[str, typer.Argument(metavar="B", help="Another one.")],
    network: NetworkOption = None,
    as_json: JsonOption = False,
) -> None:
    """The path from A to B and back, layer by layer, as the routers on it tell; and why it is not direct."""
    from dmvpn.operations import here, observing
    from dmvpn.operations.observing import State, WhyNot

    views = observing.explain(here.find(network), source, destination)
    if as_json:
        say_json(views)
        if any(view.state is State.DOWN for view in views):
            raise typer.Exit(1)
        return
    for view in views:
        way = f"{view.state.value}" + (f" ({view.via})" if view.via else "")
        say(f"{view.router} -> {view.destination}: {way}", style="bold")
        if view.gateway:
            say(f"  route: {view.device} via {view.gateway} ({view.table} table), MTU {view.mtu_octets}")
        for step in view.steps:
            say(f"  {'ok ' if step.good else 'NO '} {step.layer:<9}{step.what}", style=None if step.good else "yellow")
        if view.why is not WhyNot.DIRECT and not view.arrived:
            known = "note" if view.why is WhyNot.HUB else "why not direct"
            say(f"  {known}: {view.why.value}" + (f" ({view.detail})" if view.detail else ""))
    if any(view.state is State.DOWN for view in views):
        raise typer.Exit(1)


def show_dmvpn(network: NetworkOption = None, as_json: JsonOption = False) -> None:
    """The NHRP cache in the columns and letters that a Cisco user knows."""
    from dmvpn.operations import here, observing

    found = observing.status(here.find(network))
    if as_json:
        say_json(found.cache)
        return
    say("Legend: Attrb --> S - Static, D - Dynamic, I - Incomplete, N - NATed, L - Local, X - No Socket")
    say("        T1 - Route Installed")
    say("        # Ent --> Number of NHRP entries with same NBMA peer")
    say("        UpDn Time --> Up or Down Time for a Tunnel")
    for cloud in found.clouds:
        rows = [row for row in found.cache if row.cloud == cloud.name]
        counted = {row.nbma: sum(1 for one in rows if one.nbma == row.nbma) for row in rows}
        say("=" * 74)
        family = "IPv6" if ":" in cloud.addresses[0] else "IPv4"
        say(f"Interface: {cloud.device}, {family} NHRP Details")
        say(f"Type:{cloud.role.capitalize()}, NHRP Peers:{len(counted)},")
        say()
        say(" # Ent  Peer NBMA Addr Peer Tunnel Add State  UpDn Tm Attrb")
        say(" ----- --------------- --------------- ----- -------- -----")
        seen: set[str] = set()
        for row in rows:
            entries = "" if row.nbma in seen else str(counted[row.nbma])
            shown = "" if row.nbma in seen else row.nbma
            seen.add(row.nbma)
            since = _cisco_time(row.since_s)
            say(f" {entries:>5} {shown:>15} {row.protocol:>15} {row.state:>5} {since:>8} {row.attributes:>5}")


def _cisco_time(seconds: float | None) -> str:
    if seconds is None:
        return "never"
    whole = int(seconds)
    if whole >= 86400:
        return f"{whole // 86400}d{whole // 3600 % 24:02}h"
    return f"{whole // 3600:02}:{whole // 60 % 60:02}:{whole % 60:02}"
