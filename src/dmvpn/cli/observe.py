"""Verbs that look: status, peers, ping, explain, show, purge."""

from collections import Counter
from typing import TYPE_CHECKING, Annotated

import typer

from dmvpn.cli.completion import networks, places
from dmvpn.cli.reading import JsonOption
from dmvpn.cli.text import duration, octets, say, say_json, say_table
from dmvpn.daemon.wire import to_wire

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dmvpn.operations.change import Standing
    from dmvpn.operations.linkage import LinkRow
    from dmvpn.operations.observing import CacheRow, GatewayRow, UplinkRow

NetworkOption = Annotated[
    str | None, typer.Option("--network", help="Which network, if this machine has several.", autocompletion=networks)
]
show = typer.Typer(help="Views in other vendors' columns.", no_args_is_help=True)
PINGS, DIRECT_LIMIT = 5, 100
TROUBLES_TOLD = 6
LINK_SEVERITY = 2
GUARDS = {
    "gre_clear_out": "of GRE would have left in clear, and did not",
    "gre_clear_in": "of GRE came in clear, and were dropped",
    "internet_only": "came from or went to a network in the zone internet-only, not by an uplink, and did not pass",
    "transport_forwarded": "of the transport range would have been forwarded, and were not",
}

DROPPED = "dropped."
DROPS_TOLD = 8
DROPS = {
    "forged": "with a forged internal source",
    "lost": "for internal addresses without a tunnel",
    "untranslated": "that NAT lost",
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
    from dmvpn.operations import change, here, linkage, observing

    place = here.find(network)
    standing = change.standing(place)
    links = linkage.rows(place)
    if not as_json:
        _say_standing(standing)  # also when dmvpnd does not answer
    found = observing.status(place)
    troubles = [(trouble.severity, f"{trouble.what}; run: {trouble.run}") for trouble in found.troubles]
    troubles += [(LINK_SEVERITY, f"{link.trouble}; run: ip link") for link in links if link.trouble]
    if as_json:
        say_json({**to_wire(found), "configuration": standing, "links": links})
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
        _say_gateways(found.gateways)
        for uplink in found.uplinks:
            say(_uplink_line(uplink), style=None if uplink.state == "online" else "yellow")
        stopped = {name: count for name, count in found.guards.items() if name in GUARDS and count}
        for name, count in stopped.items():
            say(f"guard: {count} packets {GUARDS[name]}", style="yellow")
        _say_dropped(found.guards)
        for link in links:
            _say_link(link)
        _peer_table(found.peers)
        _say_troubles(troubles)
    severity = max((severity for severity, _ in troubles), default=0)
    if severity:
        raise typer.Exit(1 if severity >= 3 else 3)


def _say_gateways(gateways: "Sequence[GatewayRow]") -> None:
    for gateway in gateways:
        less = "" if gateway.offers == gateway.usual else f" of {gateway.usual}: no tunnel of its own works yet"
        where = "here" if gateway.here else "with another router of the site"
        say(f"gateway {gateway.address} of {gateway.network}: {where}, priority {gateway.offers}{less}")


def _say_dropped(counters: dict[str, int]) -> None:
    """What the zone policy stopped, if there is one: its counters are there with it."""
    dropped = {name.removeprefix(DROPPED): count for name, count in counters.items() if name.startswith(DROPPED)}
    if not dropped:
        return
    told = sorted(((count, _dropped(name)) for name, count in dropped.items() if count), reverse=True)
    lines = ", ".join(f"{words} {count}" for count, words in told[:DROPS_TOLD])
    say(f"firewall: policy in force, dropped since it was loaded: {lines or 'nothing'}")


def _dropped(name: str) -> str:
    direction, _, zone = name.partition(".")
    match direction:
        case "in" if zone:
            return f"from {zone} to the router"
        case "through" if zone:
            return f"from {zone}"
        case "out" if zone:
            return f"from the router to {zone}"
        case _:
            return DROPS.get(name, f"by {name}")


def _say_link(link: "LinkRow") -> None:
    """uplink isp1: up on bond0.256, 198.51.100.2/30 (static)"""
    parts = [f"{link.condition} on {link.device}"]
    parts += [f"{one.address} ({one.origin})" for one in link.addresses]
    if link.members:
        parts = [str(link.condition)]
        parts += [f"{one.device} {'active' if one.active else one.condition}" for one in link.members]
    elif link.condition == "missing" and not link.trouble:
        parts = ["not made: this machine has links of its VLANs' names"]
    say(f"{link.what}: {', '.join(parts)}", style="yellow" if link.trouble else None)


def _uplink_line(row: "UplinkRow") -> str:
    words = [f"uplink {row.name}: {row.state} for {duration(row.since_s)} on {row.device}"]
    words += [f"({row.why})"] if row.state != "online" else []
    if row.loss is not None:
        words.append(f"loss {row.loss:.0%}" + (f" latency {row.latency_ms:.0f} ms" if row.latency_ms else ""))
    verb = "carries" if row.serves or row.state not in ("offline", "disabled") else "SAs still stand:"
    words += [f"{verb} {', '.join(row.tunnels)}"] if row.tunnels else []
    return " ".join(words)


def _say_troubles(troubles: list[tuple[int, str]]) -> None:
    """Of severity and line, the worst first: a line each, the worst last, where the eye falls; of many the worst."""
    if not troubles:
        say("good: nothing to do", style="green")
        return
    told = troubles[:TROUBLES_TOLD]
    if len(troubles) > len(told):
        say(f"and {len(troubles) - len(told)} that weigh less: dmvpn status --json", style="yellow")
    for severity, line in reversed(told):
        say(line, style="red" if severity >= 3 else "yellow")


def _say_standing(standing: "Standing | None") -> None:
    if standing is None:
        return
    if standing.confirm_s is not None:
        left = duration(standing.confirm_s)
        say(f"revision {standing.in_force} goes back in {left} unless you run: dmvpn confirm", style="red")
    if standing.undone is not None:
        say(f"revision {standing.undone.number} was rolled back, {standing.undone.undone}", style="red")
    if standing.drifted:
        names = " ".join(map(str, standing.drifted))
        say(f"edited by hand since it was applied: {names}; run: dmvpn diff", style="yellow")


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
    site: Annotated[str, typer.Argument(help="A site, router or internal address.", autocompletion=places)],
    network: NetworkOption = None,
    count: Annotated[
        int | None,
        typer.Option(
            "-c", "--count", min=1, max=100000, help="How many. Without it: 5, or up to 100 with --until-direct."
        ),
    ] = None,
    interval: Annotated[float, typer.Option("-i", "--interval", min=0.01, help="Seconds between two.")] = 0.5,
    timeout: Annotated[float, typer.Option("-W", "--timeout", min=0.1, help="Seconds to wait for each.")] = 2.0,
    until_direct: Annotated[bool, typer.Option("--until-direct", help="Stop when the path is direct.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Ping a site, and say for each answer whether it went direct or via the hub."""
    from dmvpn.operations import here, observing

    lost, pongs = 0, []
    wanted = count or (DIRECT_LIMIT if until_direct else PINGS)
    for pong in observing.ping(here.find(network), site, count=wanted, interval_s=interval, timeout_s=timeout):
        pongs.append(pong)
        lost += pong.rtt_s is None
        if not as_json:
            lost_after = f"lost after {timeout:g} s" if pong.waited else "not sent:"
            time = f"{pong.rtt_s * 1000:.1f} ms" if pong.rtt_s is not None else lost_after
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
    source: Annotated[
        str, typer.Argument(metavar="A", help="A site, router or internal address.", autocompletion=places)
    ],
    destination: Annotated[str, typer.Argument(metavar="B", help="Another one.", autocompletion=places)],
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
            kind = "a shortcut" if view.table == "shortcut" else f"{view.table} table"
            say(f"  route: {view.device} via {view.gateway} ({kind}), MTU {view.mtu_octets}")
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
        for family, mark in (("IPv4", "."), ("IPv6", ":")):
            if any(mark in address for address in cloud.addresses):
                say("=" * 74)
                say(f"Interface: {cloud.device}, {family} NHRP Details")
                _say_cache(cloud.role, [row for row in rows if mark in row.protocol])


def _say_cache(role: str, rows: "list[CacheRow]") -> None:
    """One family of one cloud."""
    counted = Counter(row.nbma for row in rows)
    say(f"Type:{role.capitalize()}, NHRP Peers:{len(counted)},")
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
