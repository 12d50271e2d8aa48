"""FRR: zebra and what speaks (bgpd, ospfd, bfdd and others), an instance of our own with a file for each. FRR manual.

Not the integrated frr.conf: a daemon reads its own file when it is started again, and a vtysh that loads it later would
be one more thing that can be missing. Changes go through frr-reload.py, so that sessions stay.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import PurePosixPath

from dmvpn.errors import Fault
from dmvpn.network.plan import Bgp, Cloud, Network, Plan, Role
from dmvpn.render import bfd, frr_choice, frr_lists, frr_neighbor, frr_ospf, frr_rip, frr_site, frr_spokes
from dmvpn.render.layout import Layout
from dmvpn.render.learned import NOTHING, Learned
from dmvpn.render.result import Change, Check, File, Needs, Rendered, Unit
from dmvpn.render.words import header, word

NAME = "frr"
ZEBRA_FILE = "zebra.conf"
BGPD_FILE = "bgpd.conf"

DAEMONS = PurePosixPath("/usr/lib/frr")
FRR_RELEASE = "dmvpn.linux.frr_release"
USER = "frr"  # the package makes it; it reads the files and owns the sockets

LEARNED_LIMIT_S = 600.0  # frr-reload.py compares each line with each: an operator's change beside a thousand spokes
# How long a neighbour keeps our routes while bgpd starts again. Not longer: FRR calls once, after a second, then only
# waits until this is over (bgp_fsm.c, bgp_timer_set: no connect timer in NSF_WAIT), and a hub calls nobody.
RESTART_S = 10
RELIEVED_RESTART_S = 1  # a hub with another beside it: spokes must not wait for it
ZEBRA_RESTART_S = 60  # how long BGP's routes stay in the kernel while zebra starts again
STALE_S = 90

# Each daemon asks for what it names in privs.c and ends without it, SYS_ADMIN too, which is for VRFs alone.
NEEDS = Needs(
    capabilities=("NET_ADMIN", "NET_RAW", "NET_BIND_SERVICE", "SYS_ADMIN", "SETUID", "SETGID", "CHOWN", "DAC_OVERRIDE"),
    families=("UNIX", "NETLINK", "INET", "INET6", "PACKET"),
)

# Cisco's word for a hub that tells every spoke the others' networks and their own next hops.
NEXT_HOPS_KEPT_IN_PHASE = 2


def render(plan: Plan, layout: Layout) -> Rendered:
    """zebra always, each speaker when a cloud has its protocol, or the site needs it."""
    files = (
        File(PurePosixPath(ZEBRA_FILE), _zebra_conf(plan)),
        *((File(PurePosixPath(bfd.FILE), bfd.conf(plan)),) if bfd.spoken(plan) else ()),
        *((File(PurePosixPath(BGPD_FILE), bgpd_conf(plan)),) if frr_neighbor.has_bgp(plan) else ()),
        *(File(PurePosixPath(daemon.file), frr_ospf.conf(plan, daemon)) for daemon in frr_ospf.spoken(plan)),
        *(File(PurePosixPath(daemon.file), frr_rip.conf(plan, daemon)) for daemon in frr_rip.spoken(plan)),
    )
    return Rendered(
        engine=NAME,
        files=files,
        checks=(*_release_checks(plan), *(_file_check(file) for file in files)),
        units=_units(plan, layout),
    )


def _file_check(file: File) -> Check:
    return Check(("vtysh", "-C", "-f", f"{{tree}}/{file.path}"), package="frr")


def asked(plan: Plan) -> tuple[str, ...]:
    """What not every FRR can do, in the words of dmvpn.linux.frr_release."""
    return (
        *(("ospf6",) if frr_ospf.OSPFV3 in frr_ospf.spoken(plan) else ()),
        *(daemon.rip for daemon in frr_rip.spoken(plan)),
    )


def _release_checks(plan: Plan) -> Iterator[Check]:
    """Before it meets a line that it does not know."""
    if words := asked(plan):
        yield Check(("python3", "-m", FRR_RELEASE, "check", *words), package="opendmvpn")


def _units(plan: Plan, layout: Layout) -> tuple[Unit, ...]:
    run = layout.frr_run
    zserv = run / "zserv.api"
    # -P 0: no vty on TCP. --vty_socket: ours, not the host's. zebra's -K keeps BGP's routes in the kernel while a
    # zebra that died starts again. Without -r one that ends takes every route of BGP's away that it met, those of
    # another network's zebra as well; ours go with their device.
    common = ("-u", USER, "-g", USER, "-z", str(zserv), "--vty_socket", str(run), "-P", "0", "--log", "stdout")
    own = f"dmvpn-{plan.network}"
    return (
        Unit(
            name=f"{own}-frr-run",
            argv=("install", "-d", "-o", USER, "-g", USER, "-m", "0755", str(run)),
            package="coreutils",
            daemon=False,
            needs=Needs(capabilities=("CHOWN", "FOWNER", "DAC_OVERRIDE")),
        ),
        Unit(
            name=f"{own}-zebra",
            argv=(
                str(DAEMONS / "zebra"),
                *("-f", str(layout.current / ZEBRA_FILE), "-i", str(run / "zebra.pid")),
                *(*common, "-K", str(ZEBRA_RESTART_S), "-r"),
            ),
            package="frr",
            ready=zserv,
            reads=(PurePosixPath(ZEBRA_FILE),),
            on_change=Change.RESTART,
            needs=NEEDS,
        ),
        # Before bgpd, which asks it for sessions.
        *(
            (_bfdd(_speaker("bfdd", bfd.FILE, layout, common, ("--bfdctl", str(run / "bfdd.sock")))),)
            if bfd.spoken(plan)
            else ()
        ),
        *(_bgpd(plan, layout, common) if frr_neighbor.has_bgp(plan) else ()),
        *(_speaker(daemon.name, daemon.file, layout, common, ()) for daemon in frr_ospf.spoken(plan)),
        *(_speaker(daemon.name, daemon.file, layout, common, ()) for daemon in frr_rip.spoken(plan)),
    )


def _bfdd(speaker: Unit) -> Unit:
    """An older one needs a control socket of its own, where the host's may be; a newer one refuses to hear of it."""
    return replace(speaker, argv=("python3", "-m", FRR_RELEASE, "run", *speaker.argv), package="opendmvpn")


def _bgp_port(plan: Plan) -> tuple[str, ...]:
    """A hub is called by spokes, a router of a site by its others; elsewhere it would only be one more open port."""
    ports = [cloud.bgp.port for cloud in plan.clouds if cloud.bgp is not None and cloud.role is Role.HUB]
    ports += [plan.session.port] if plan.session is not None else []
    port = next(iter(ports), 0)
    return () if port == frr_neighbor.BGP_PORT else ("-p", str(port))


def learns(plan: Plan) -> bool:
    """Whether this router's bgpd has neighbours that the file does not know."""
    return any(cloud.bgp is not None and cloud.role is Role.HUB for cloud in plan.clouds)


def _bgpd(plan: Plan, layout: Layout, common: tuple[str, ...]) -> tuple[Unit, ...]:
    """A hub's starts with the file in force; a step of its own then brings it what dmvpnd learned, and reloads it."""
    if not learns(plan):
        return (_speaker("bgpd", BGPD_FILE, layout, common, _bgp_port(plan)),)
    step = Unit(
        name=learned_unit(plan.network),
        argv=("python3", "-m", "dmvpn.operations.learned", plan.network, plan.router),
        package="opendmvpn",
        daemon=False,
        reads=(PurePosixPath(BGPD_FILE),),
        on_change=Change.RELOAD,
        start_timeout_s=LEARNED_LIMIT_S,
        # It speaks to bgpd's socket and writes beside it, which are the user frr's; it writes nothing elsewhere.
        needs=Needs(capabilities=("DAC_OVERRIDE",)),
    )
    speaker = _speaker("bgpd", BGPD_FILE, layout, common, _bgp_port(plan))
    return replace(speaker, reads=(), reload=()), step


def learned_unit(network: str) -> str:
    """Its work done again brings a hub's bgpd to what is learned now."""
    return f"dmvpn-{network}-learned"


def bgpd_reload(layout: Layout, file: PurePosixPath) -> tuple[str, ...]:
    """Brings a running bgpd to that file; sessions whose lines are the same stay."""
    return _reload("bgpd", layout, file)


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
        reload=_reload(daemon, layout, layout.current / file),
        on_change=Change.RELOAD,
        needs=NEEDS,
    )


def _reload(daemon: str, layout: Layout, file: PurePosixPath) -> tuple[str, ...]:
    run = str(layout.frr_run)
    return (
        str(DAEMONS / "frr-reload.py"),
        *("--reload", "--stdout", "--daemon", daemon, "--vty_socket", run, "--rundir", run),
        # The host's /etc/frr/vtysh.conf is not ours; ours need not exist.
        *("--confdir", str(layout.current)),
        str(file),
    )


def _zebra_conf(plan: Plan) -> str:
    # Addresses and static routes are netstate's. A TAP has no carrier while dmvpn-gre restarts: that is no lost link.
    # The kernel takes every next hop object of a device without carrier away, and its routes with it (nexthop.c,
    # nexthop_flush_dev); zebra would never put them back. Routes without such objects stay.
    lines = [header(plan.network, plan.router, "!"), f"hostname {word(plan.router, 'router')}"]
    lines += ["no zebra nexthop kernel enable"]
    for cloud in plan.clouds:
        lines += [f"interface {word(cloud.device, 'device')}", " no link-detect", "exit"]
    lines += [*frr_ospf.zebra_lines(plan), *frr_rip.zebra_lines(plan)]
    return "\n".join([*lines, ""])


def bgpd_conf(plan: Plan, learned: Learned = NOTHING) -> str:
    """bgpd's file. What a hub learned of its spokes is no part of a revision, so the file of a tree is without."""
    speaking = [(cloud, cloud.bgp) for cloud in plan.clouds if cloud.bgp is not None]
    lines = [header(plan.network, plan.router, "!"), f"hostname {word(plan.router, 'router')}"]
    for cloud, bgp in speaking:
        lines += _prefix_lists(cloud, bgp, learned)
    lines += [*frr_choice.route_maps(plan), *frr_site.route_maps(plan), *frr_site.ports(plan)]
    lines += ["!", *_router(plan, speaking, learned), ""]
    return "\n".join(lines)


# ------------------------------------------------------------ prefix lists


def _of(version: int, networks: tuple[Network, ...]) -> list[Network]:
    return [network for network in networks if network.version == version]


def _list_word(version: int) -> str:
    return "ip" if version == 4 else "ipv6"


def _prefix_lists(cloud: Cloud, bgp: Bgp, learned: Learned) -> Iterator[str]:
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
                yield from frr_lists.closed(f"{kind} prefix-list {name}-from-hubs", into)
                yield from frr_lists.closed(f"{kind} prefix-list {name}-to-hubs", out)
            case Role.HUB:
                longer = [f"permit {prefix} le {longest}" for prefix in accept]
                own = [f"deny {prefix}" for prefix in announce]
                yield from frr_lists.closed(f"{kind} prefix-list {name}-from-nobody", [])
                told = [f"{entry}{_or_longer(cloud, longest)}" for entry in out]
                yield from frr_lists.closed(f"{kind} prefix-list {name}-to-spokes", told)
                yield from frr_lists.closed(f"{kind} prefix-list {name}-between-hubs", [*own, *longer])
    if cloud.role is Role.HUB:
        for head, entries in frr_spokes.filters(cloud, bgp, learned):
            yield from frr_lists.closed(head, entries)


def _or_longer(cloud: Cloud, longest: int) -> str:
    """In phases 1 and 3 a summary does: the hub relays, and in 3 it also says where there is a shorter way. But beside
    another cloud, whose routes are as long as the networks, it would never be taken.
    """
    specific = cloud.bgp is not None and cloud.bgp.specific
    return f" le {longest}" if specific or cloud.nhrp.phase == NEXT_HOPS_KEPT_IN_PHASE else ""


# ------------------------------------------------------------ the router


def _router(plan: Plan, speaking: list[tuple[Cloud, Bgp]], learned: Learned) -> Iterator[str]:
    asn, router_id = _identity(plan, speaking)
    yield f"router bgp {asn}"
    yield f" bgp router-id {router_id}"
    yield " bgp log-neighbor-changes"
    # Which of several paths is the best must not depend on which came first.
    yield " bgp deterministic-med"
    # A family is switched on for each neighbour below, never by default.
    yield " no bgp default ipv4-unicast"
    # A summary is announced because the file says so, not because a route of that length happens to exist.
    yield " no bgp network import-check"
    yield " bgp graceful-restart"
    relieved = plan.session is not None or any(
        (member.role is Role.HUB and bgp.neighbors) or member.rank is not None for member, bgp in speaking
    )
    yield f" bgp graceful-restart restart-time {RELIEVED_RESTART_S if relieved else RESTART_S}"
    yield f" bgp graceful-restart stalepath-time {STALE_S}"
    yield " bgp graceful-restart preserve-fw-state"
    # A path that was silent for the hold time is no restart: with this (RFC 8538) both ends would wait to be called.
    yield " no bgp graceful-restart notification"
    for member, bgp in speaking:
        yield from _groups(member, bgp, learned)
    yield from frr_site.neighbor_lines(plan)
    for version in (4, 6):
        yield from _family(version, plan, speaking, learned)


def _identity(plan: Plan, speaking: list[tuple[Cloud, Bgp]]) -> tuple[int, object]:
    """One bgpd is in one AS."""
    named = [(cloud.name, bgp.asn, bgp.router_id) for cloud, bgp in speaking]
    named += [("the site", plan.session.asn, plan.session.router_id)] if plan.session is not None else []
    name, asn, router_id = named[0]
    for other, their_asn, _ in named[1:]:
        if their_asn != asn:
            raise Fault(f"clouds.{other}", f"AS {their_asn} here and AS {asn} in {name}, on one router", "")
    return asn, router_id


def _groups(cloud: Cloud, bgp: Bgp, learned: Learned) -> Iterator[str]:
    if cloud.role is Role.HUB:
        yield from frr_spokes.group_lines(cloud, bgp, learned)
    for neighbor in bgp.neighbors:
        own = next((own for own in cloud.addresses if own.version == neighbor.address.version), None)
        yield from frr_neighbor.lines(neighbor.address, neighbor.asn, neighbor.name, bgp)
        yield from bfd.neighbor(cloud, str(neighbor.address))
        if own is not None:
            yield f" neighbor {neighbor.address} update-source {own}"
        if cloud.role is Role.SPOKE and neighbor.asn != bgp.asn:
            # A spoke's overlay address is a host address, so no hub is on a connected network.
            yield f" neighbor {neighbor.address} disable-connected-check"


def _family(version: int, plan: Plan, speaking: list[tuple[Cloud, Bgp]], learned: Learned) -> Iterator[str]:
    announced = dict.fromkeys(prefix for _, bgp in speaking for prefix in _of(version, bgp.announce))
    if any(cloud.role is Role.HUB and (bgp.neighbors or bgp.specific) for cloud, bgp in speaking):
        # Spokes take the summary; the other hubs need to know behind which of us a site's network is.
        announced |= dict.fromkeys(_of(version, plan.serves))
    standing = frr_site.standing(plan, version)
    body = [f"  network {prefix}" for prefix in announced if prefix not in standing]
    body += frr_site.family_lines(version, plan)
    for cloud, bgp in speaking:
        body += _activated(version, cloud, bgp, learned)
    if not body:
        return
    yield " !"
    yield f" address-family ipv{version} unicast"
    yield from body
    yield " exit-address-family"


def _activated(version: int, cloud: Cloud, bgp: Bgp, learned: Learned) -> Iterator[str]:
    """A session carries the family it runs over: its next hop is then an address of the overlay in that family."""
    name = word(cloud.name, "cloud")
    if cloud.role is Role.HUB and _of(version, bgp.listen):
        yield from frr_spokes.family_lines(version, cloud, bgp, learned)
        if cloud.nhrp.phase == NEXT_HOPS_KEPT_IN_PHASE:
            yield f"  neighbor {frr_spokes.group(cloud)} attribute-unchanged next-hop"
    for neighbor in bgp.neighbors:
        if neighbor.address.version != version:
            continue
        at = f"  neighbor {neighbor.address}"
        yield f"{at} activate"
        match cloud.role:
            case Role.SPOKE:
                yield f"{at} prefix-list {name}-from-hubs in"
                yield f"{at} prefix-list {name}-to-hubs out"
                yield from frr_choice.from_peers(cloud, at)
            case Role.HUB:
                yield f"{at} prefix-list {name}-between-hubs in"
                yield f"{at} prefix-list {name}-between-hubs out"
                yield from frr_choice.from_hubs(cloud, at)
                # The spoke may have called one hub only; the other then reaches it through that one. So it does what
                # one hub tells a third: `force` says it of routes that are reflected, too.
                inside = neighbor.asn == bgp.asn
                yield f"{at} next-hop-self{' force' if inside else ''}"
                if inside:
                    # A hub that lost its path to another hears of its spokes by the third. RFC 4456.
                    yield f"{at} route-reflector-client"
