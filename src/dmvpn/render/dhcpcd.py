"""dhcpcd for each uplink whose address the ISP gives: dhcpcd.conf(5) and one process each. Nothing for other uplinks.

dhcpcd and no other client: Debian 13 and Alpine both have it, it does IPv4 and IPv6 in one process, runs in a network
namespace, and says in each route who brought it (protocol dhcp or ra) with a metric of ours.
"""

from collections.abc import Iterator
from pathlib import PurePosixPath

from dmvpn.network.plan import Plan, Uplink
from dmvpn.render.layout import Layout
from dmvpn.render.result import Change, File, Needs, Rendered, Unit, ours
from dmvpn.render.words import word

NAME = "dhcpcd"
DIRECTORY = PurePosixPath("dhcp")
_LEASES_INSIDE = PurePosixPath("/var/lib/dhcpcd")  # compiled in, as is /run/dhcpcd


def render(plan: Plan, layout: Layout) -> Rendered:
    leased = tuple(uplink for uplink in plan.uplinks if uplink.leased)
    files = tuple(File(_path(uplink), "\n".join(_lines(uplink)) + "\n") for uplink in leased)
    return Rendered(
        engine=NAME,
        files=files,
        checks=tuple(ours("dmvpn.linux.dhcpcd_check", file) for file in files),
        units=tuple(_unit(plan, uplink, layout) for uplink in leased),
    )


def _path(uplink: Uplink) -> PurePosixPath:
    return DIRECTORY / f"{word(uplink.name, 'uplink')}.conf"


def _lines(uplink: Uplink) -> Iterator[str]:
    yield f"# uplink {word(uplink.name, 'uplink')}"
    # A restart of the client, or of all of ours, costs no address: dmvpn.linux.netstate takes it away with the uplink.
    yield "persistent"
    # No hooks: they would write resolv.conf, set the host's name and tell the time service.
    yield "script /bin/true"
    yield "noipv4ll"
    # It is a point-to-point link in all but name, and asking whether another has the address takes seconds.
    yield "noarp"
    # By the MAC, which stays when what is in /var/lib is lost.
    yield "clientid"
    yield "option interface_mtu, classless_static_routes"
    yield "require dhcp_server_identifier"
    yield f"metric {uplink.metric}"
    if not uplink.dhcp:
        yield "ipv6only"
    if not uplink.autoconf:
        yield "ipv4only"
    else:
        yield "ipv6rs"


def _unit(plan: Plan, uplink: Uplink, layout: Layout) -> Unit:
    path = _path(uplink)
    own = f"dhcp-{word(uplink.name, 'uplink')}"
    return Unit(
        name=f"dmvpn-{plan.network}-{own}",
        argv=(
            "dhcpcd",
            "--nobackground",
            "--config",
            str(layout.current / path),
            word(uplink.device, "device"),
        ),
        package="dhcpcd-base",
        # Its pid file and socket are where the host's own has them.
        binds=((layout.run / own, PurePosixPath("/run")), (layout.state / own, _LEASES_INSIDE)),
        reads=(path,),
        on_change=Change.RESTART,
        needs=Needs(
            # It drops to a user of its own in an empty root, and keeps one small process that may.
            capabilities=("NET_ADMIN", "NET_RAW", "NET_BIND_SERVICE", "SETUID", "SETGID", "SYS_CHROOT", "KILL"),
            families=("UNIX", "NETLINK", "INET", "INET6", "PACKET"),
            calls=("chroot",),
            tunes=True,
        ),
    )
