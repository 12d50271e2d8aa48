"""FRR: zebra and what speaks (bgpd, ospfd, bfdd), an instance of our own with a file for each. FRR manual, "Zebra".

Not the integrated frr.conf: a daemon reads its own file when it is started again, and a vtysh that loads it later would
be one more thing that can be missing. Changes go through frr-reload.py, so that sessions stay.
"""

from collections.abc import Iterator
from pathlib import PurePosixPath

from dmvpn.errors import Fault
from dmvpn.network.plan import Bgp, Cloud, Network, Plan, Protocol, Role
from dmvpn.render import bfd, frr_ospf
from dmvpn.render.layout import Layout
from dmvpn.render.result import Change, Check, File, Rendered, Unit
from dmvpn.render.words import header, word

NAME = "frr"
ZEBRA_FILE = "zebra.conf"
BGPD_FILE = "bgpd.conf"

DAEMONS = PurePosixPath("/usr/lib/frr")
USER = "frr"  # the package makes it; it reads the files and owns the sockets

LISTEN_LIMIT = 5000
# A spoke announces a handful; one that sends more is broken or hostile, and its session ends for that many minutes.
SPOKE_PREFIX_LIMIT = 1000
SPOKE_PREFIX_PAUSE_MIN = 5
CONNECT_RETRY_S = 2  # the default of 120 s would be the time a network takes to come up
# How long a neighbour keeps our routes while bgpd starts again. Not longer: FRR calls once, after a second, then only
# waits until this is over (bgp_fsm.c, bgp_timer_set: no connect timer in NSF_WAIT), and a hub calls nobody.
RESTART_S = 10
RELIEVED_RESTART_S = 1  # a hub with another beside it: spokes must not wait for it
ZEBRA_RESTART_S = 60  # how long BGP's routes stay in the kernel while zebra starts again
STALE_S = 90

# Cisco's word for a hub that tells every spoke the others' networks and their own next hops.
NEXT_HOPS_KEPT_IN_PHASE = 2


def render(plan: Plan, layout: Layout) -> Rendered:
    """zebra always, each speaker when a cloud has its protocol. Raises Fault for one that is not here yet."""
    for cloud in plan.clouds:
        if cloud.routing is Protocol.RIP:
            raise Fault(f"clouds.{cloud.name}.routing", "rip is not available yet", "write routing: bgp, or ospf")
    files = (
        File(PurePosixPath(ZEBRA_FILE), _zebra_conf(plan)),
        *((File(PurePosixPath(bfd.FILE), bfd.conf(plan)),) if bfd.spoken(plan) else ()),
        *((File(PurePosixPath(BGPD_FILE), _bgpd_conf(plan)),) if _has_bgp(plan) else ()),
        *((File(PurePosixPath(frr_ospf.FILE), frr_ospf.conf(plan)),) if frr_ospf.spoken(plan) else ()),
    )
    return Rendered(
        engine=NAME,
        files=files,
        checks=tuple(Check(("vtysh", "-C", "-f", f"{{tree}}/{file.path}"), package="frr") for file in files),
        units=_units(plan, layout),
    )


def _units(plan: Plan, layout: Layout) -> tuple[Unit, ...]:
    run = layout.frr_run
    zserv = run / "zserv.api"
    # -P 0: no vty on TCP. --vty_socket: ours, not the host's. zebra's -K keeps BGP's routes in the kernel while a
    # zebra that died starts again.
    common = ("-u", USER, "-g", USER, "-z", str(zserv), "--vty_socket", str(run), "-P", "0", "--log", "stdout")
    # Only a hub is called; a listening spoke would only be one more open port.
    listening = any(cloud.role is Role.HUB for cloud in plan.clouds)
    own = f"dmvpn-{plan.network}"
    return (
        Unit(
            name=f"{own}-frr-run",
            argv=("install", "-d", "-o", USER, "-g", USER, "-m", "0755", str(run)),
            package="coreutils",
            daemon=False,
        ),
        Unit(
            name=f"{own}-zebra",
            argv=(
                str(DAEMONS / "zebra"),
                *("-f", str(layout.current / ZEBRA_FILE), "-i", str(run / "zebra.pid")),
                *(*common, "-K", str(ZEBRA_RESTART_S)),
            ),
            package="frr",
            ready=zserv,
            reads=(PurePosixPath(ZEBRA_FILE),),
            on_change=Change.RESTART,
        ),
        # Before bgpd, which asks it for sessions.
        *(
            (_speaker("bfdd", bfd.FILE, layout, common, ("--bfdctl", str(run / "bfdd.sock"))),)
            if bfd.spoken(plan)
            else ()
        ),
        *((_speaker("bgpd", BGPD_FILE, layout, common, () if listening else ("-p", "0")),) if _has_bgp(plan) else ()),
        *((_speaker("ospfd", frr_ospf.FILE, layout, common, ()),) if frr_ospf.spoken(plan) else ()),
    )


def _has_bgp(plan: Plan) -> bool:
    return any(cloud.bgp is not None for cloud in plan.clouds)


def _speaker(daemon: str, file: str, layout: Layout, common: tuple[str, ...], more: tuple[str, ...]) -> Unit:
    """A daemon that has sessions with others: a change must not end them."""
    run = layout.frr_run
    return Unit(
        name=f"dmvpn-{layout.network}-{daemon}",
        argv=(
            str(DAEMONS / daemon),
            *("-f", str(layout.current / file), "-i", str(run / f"{daemon}.pid"), *common, *more),
        ),
        package="frr",
        ready=run / f"{daemon}.vty",
        reads=(PurePosixPath(file),),
        reload=(
            str(DAEMONS / "frr-reload.py"),
            *("--reload", "--stdout", "--daemon", daemon, "--vty_socket", str(run), "--rundir", str(run)),
            # The host's /etc/frr/vtysh.conf is not ours; ours need not exist.
            *("--confdir", str(layout.current)),
            str(layout.current / file),
        ),
        on_change=Change.RELOAD,
    )


def _zebra_conf(plan: Plan) -> str:
    # Addresses and static routes are netstate's. A TAP has no carrier while dmvpn-gre restarts: that is no lost link.
    # The kernel takes every next hop object of a device without carrier away, and its routes with it (nexthop.c,
    # nexthop_flush_dev); zebra would never put them back. Routes without such objects stay.
    lines = [header(plan.network, plan.router, "!"), f"hostname {word(plan.router, 'router')}"]
    lines += ["no zebra nexthop kernel enable"]
    for cloud in plan.clouds:
        lines += [f"interface {word(cloud.device, 'device')}", " no link-detect", "exit"]
    lines += frr_ospf.zebra_lines(plan)
    return "\n".join([*lines, ""])


def _bgpd_conf(plan: Plan) -> str:
    speaking = [(cloud, cloud.bgp) for cloud in plan.clouds if cloud.bgp is not None]
    lines = [header(plan.network, plan.router, "!"), f"hostname {word(plan.router, 'router')}"]
    for cloud, bgp in speaking:
        lines += _prefix_lists(cloud, bgp)
    lines += ["!", *_router(plan, speaking), ""]
    return "\n".join(lines)


# ------------------------------------------------------------ prefix lists


def _of(version: int, networks: tuple[Network, ...]) -> list[Network]:
    return [network for network in networks if network.version == version]


def _list_word(version: int) -> str:
    return "ip" if version == 4 else "ipv6"


def _prefix_lists(cloud: Cloud, bgp: Bgp) -> Iterator[str]:
    """One list a direction and family. Each ends in a deny: FRR lets everything pass by a list without entries."""
    name = word(cloud.name, "cloud")
    for version in sorted({address.version for address in cloud.addresses}):
        longest = 32 if version == 4 else 128
        kind = _list_word(version)
        accept = _of(version, bgp.accept)
        announce = _of(version, bgp.announce)
        out = [f"permit {prefix}" for prefix in announce]
        match cloud.role:
            case Role.SPOKE:
                into = [f"permit {prefix}{_or_longer(cloud, longest)}" for prefix in accept]
                yield from _list(f"{kind} prefix-list {name}-from-hubs", into)
                yield from _list(f"{kind} prefix-list {name}-to-hubs", out)
            case Role.HUB:
                longer = [f"permit {prefix} le {longest}" for prefix in accept]
                refuse = [f"deny {prefix} le {longest}" for prefix in _of(version, bgp.refuse)]
                # What the hub itself originates is nobody else's to announce, though longer prefixes are.
                own = [f"deny {prefix}" for prefix in announce]
                yield from _list(f"{kind} prefix-list {name}-from-spokes", [*refuse, *own, *longer])
                told = [f"{entry}{_or_longer(cloud, longest)}" for entry in out]
                yield from _list(f"{kind} prefix-list {name}-to-spokes", told)
                yield from _list(f"{kind} prefix-list {name}-between-hubs", [*own, *longer])


def _or_longer(cloud: Cloud, longest: int) -> str:
    """In phases 1 and 3 a summary does: the hub relays, and in 3 it also says where there is a shorter way."""
    return f" le {longest}" if cloud.nhrp.phase == NEXT_HOPS_KEPT_IN_PHASE else ""


def _list(head: str, entries: list[str]) -> Iterator[str]:
    everything = "::/0 le 128" if head.startswith("ipv6") else "0.0.0.0/0 le 32"
    for number, entry in enumerate([*entries, f"deny {everything}"], start=1):
        yield f"{head} seq {5 * number} {entry}"


# ------------------------------------------------------------ the router


def _router(plan: Plan, speaking: list[tuple[Cloud, Bgp]]) -> Iterator[str]:
    cloud, first = speaking[0]
    for other, bgp in speaking[1:]:
        if bgp.asn != first.asn:
            raise Fault(
                f"clouds.{other.name}", f"AS {bgp.asn} here and AS {first.asn} in {cloud.name}, on one router", ""
            )
    yield f"router bgp {first.asn}"
    yield f" bgp router-id {first.router_id}"
    yield " bgp log-neighbor-changes"
    # A family is switched on for each neighbour below, never by default.
    yield " no bgp default ipv4-unicast"
    # A summary is announced because the file says so, not because a route of that length happens to exist.
    yield " no bgp network import-check"
    yield " bgp graceful-restart"
    relieved = any(member.role is Role.HUB and bgp.neighbors for member, bgp in speaking)
    yield f" bgp graceful-restart restart-time {RELIEVED_RESTART_S if relieved else RESTART_S}"
    yield f" bgp graceful-restart stalepath-time {STALE_S}"
    yield " bgp graceful-restart preserve-fw-state"
    # A path that was silent for the hold time is no restart: with this (RFC 8538) both ends would wait to be called.
    yield " no bgp graceful-restart notification"
    if any(bgp.listen for _, bgp in speaking):
        yield f" bgp listen limit {LISTEN_LIMIT}"
    for member, bgp in speaking:
        yield from _groups(member, bgp)
    for version in (4, 6):
        yield from _family(version, plan, speaking)


def _groups(cloud: Cloud, bgp: Bgp) -> Iterator[str]:
    name = word(cloud.name, "cloud")
    if cloud.role is Role.HUB:
        yield f" neighbor {name}-spokes peer-group"
        yield f" neighbor {name}-spokes remote-as external"
        yield f" neighbor {name}-spokes timers {bgp.keepalive_s} {bgp.hold_s}"
        yield from bfd.neighbor(cloud, f"{name}-spokes")
    for neighbor in bgp.neighbors:
        own = next((own for own in cloud.addresses if own.version == neighbor.address.version), None)
        yield f" neighbor {neighbor.address} remote-as {neighbor.asn}"
        yield f" neighbor {neighbor.address} description {word(neighbor.name, 'router')}"
        yield f" neighbor {neighbor.address} timers {bgp.keepalive_s} {bgp.hold_s}"
        yield f" neighbor {neighbor.address} timers connect {CONNECT_RETRY_S}"
        yield from bfd.neighbor(cloud, str(neighbor.address))
        if own is not None:
            yield f" neighbor {neighbor.address} update-source {own}"
        if cloud.role is Role.SPOKE and neighbor.asn != bgp.asn:
            # A spoke's overlay address is a host address, so no hub is on a connected network.
            yield f" neighbor {neighbor.address} disable-connected-check"
    if cloud.role is Role.HUB:
        yield from (f" bgp listen range {overlay} peer-group {name}-spokes" for overlay in bgp.listen)


def _family(version: int, plan: Plan, speaking: list[tuple[Cloud, Bgp]]) -> Iterator[str]:
    announced = dict.fromkeys(prefix for _, bgp in speaking for prefix in _of(version, bgp.announce))
    if any(cloud.role is Role.HUB and bgp.neighbors for cloud, bgp in speaking):
        # Spokes take the summary; the other hubs need to know behind which of us a site's network is.
        announced |= dict.fromkeys(_of(version, plan.serves))
    body = [f"  network {prefix}" for prefix in announced]
    for cloud, bgp in speaking:
        body += _activated(version, cloud, bgp)
    if not body:
        return
    yield " !"
    yield f" address-family ipv{version} unicast"
    yield from body
    yield " exit-address-family"


def _activated(version: int, cloud: Cloud, bgp: Bgp) -> Iterator[str]:
    """A session carries the family it runs over: its next hop is then an address of the overlay in that family."""
    name = word(cloud.name, "cloud")
    group = f"{name}-spokes"
    if cloud.role is Role.HUB and _of(version, bgp.listen):
        yield f"  neighbor {group} activate"
        yield f"  neighbor {group} prefix-list {name}-from-spokes in"
        yield f"  neighbor {group} prefix-list {name}-to-spokes out"
        if cloud.nhrp.phase == NEXT_HOPS_KEPT_IN_PHASE:
            yield f"  neighbor {group} attribute-unchanged next-hop"
        yield f"  neighbor {group} maximum-prefix {SPOKE_PREFIX_LIMIT} restart {SPOKE_PREFIX_PAUSE_MIN}"
    for neighbor in bgp.neighbors:
        if neighbor.address.version != version:
            continue
        at = f"  neighbor {neighbor.address}"
        yield f"{at} activate"
        match cloud.role:
            case Role.SPOKE:
                yield f"{at} prefix-list {name}-from-hubs in"
                yield f"{at} prefix-list {name}-to-hubs out"
            case Role.HUB:
                yield f"{at} prefix-list {name}-between-hubs in"
                yield f"{at} prefix-list {name}-between-hubs out"
                # The spoke may have called one hub only; the other then reaches it through that one.
                yield f"{at} next-hop-self"
