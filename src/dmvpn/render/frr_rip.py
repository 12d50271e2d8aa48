"""RIP over a cloud: ripd.conf for IPv4, ripngd.conf for IPv6. FRR manual, "RIP" and "RIPng"; RFC 2453, RFC 2080.

It counts hops, and over a mesh every network is as far: what the file says of `bandwidth` RIP cannot know. Of two
clouds of RIP both are used at once. Split horizon is off: a hub's spokes hear of each other over the device they came
by, and by each other's address: both daemons keep a next hop on the link they tell of (and heed no route-map that says
otherwise), so phase 1 cannot be had. A network behind the site's own is RIP's own `route`, told whether or not the
kernel has the way: redistributed from there, a shortcut would take the place of what a neighbour told of its network.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from dmvpn.network.plan import Cloud, Network, Plan, Rip
from dmvpn.render import frr_choice, frr_lists
from dmvpn.render.words import header, word

TIMEOUTS, GARBAGE = 3, 2  # in updates: RFC 2453's and RFC 2080's are 6 and 4
NOBODY = "dmvpn-nobody"


@dataclass(frozen=True, slots=True)
class Daemon:
    """The RIP of one family, and FRR's words for it."""

    version: int
    name: str
    ip: str
    rip: str
    longest: int
    has_distance: bool

    @property
    def file(self) -> str:
        return f"{self.name}.conf"

    @property
    def filter(self) -> str:
        return "distribute-list prefix" if self.version == 4 else "ipv6 distribute-list prefix"

    @property
    def route_map(self) -> str:
        return f"dmvpn-{self.rip}"

    def clouds(self, plan: Plan) -> list[tuple[Cloud, Rip]]:
        """The clouds in which this router speaks it."""
        return [(one, one.rip) for one in plan.clouds if one.rip is not None and frr_lists.speaks(one, self.version)]


RIPV2 = Daemon(4, "ripd", "ip", "rip", 32, has_distance=True)
RIPNG = Daemon(6, "ripngd", "ipv6", "ripng", 128, has_distance=False)  # 120 always: network/checks/routing.py
FAMILIES = (RIPV2, RIPNG)


def spoken(plan: Plan) -> tuple[Daemon, ...]:
    """Those that a router needs."""
    return tuple(daemon for daemon in FAMILIES if daemon.clouds(plan))


def conf(plan: Plan, daemon: Daemon) -> str:
    """The daemon's file, of a router that needs it."""
    speaking = daemon.clouds(plan)
    lines = [header(plan.network, plan.router, "!"), f"hostname {word(plan.router, 'router')}"]
    lines += frr_lists.closed(f"{daemon.ip} prefix-list {NOBODY}", ())
    for cloud, _ in speaking:
        lines += [f"interface {word(cloud.device, 'device')}", f" no {daemon.ip} {daemon.rip} split-horizon", "exit"]
    update_s = min(rip.update_s for _, rip in speaking)
    lines += ["!", f"router {daemon.rip}", f" timers basic {update_s} {TIMEOUTS * update_s} {GARBAGE * update_s}"]
    lines += [" version 2"] if daemon.version == 4 else []
    lines += [" allow-ecmp"]
    # Beside clouds of another protocol.
    distances = [distance for cloud, _ in speaking if (distance := frr_choice.distance(cloud)) is not None]
    lines += [f" distance {min(distances)}"] if distances and daemon.has_distance else []
    lines += [f" network {word(cloud.device, 'device')}" for cloud, _ in speaking]
    for device in frr_lists.served_devices(plan, daemon.version):
        # The site's networks are told, and no host of them is believed: passive alone would only say nothing there.
        lines += [f" network {word(device, 'device')}", f" passive-interface {word(device, 'device')}"]
        lines += [f" {daemon.filter} {NOBODY} in {word(device, 'device')}"]
    lines += [f" route {route.prefix}" for route in plan.routes if route.prefix.version == daemon.version]
    return "\n".join([*lines, "exit", ""])


def zebra_lines(plan: Plan) -> Iterator[str]:
    """What of RIP reaches the kernel: nothing but internal networks of others, and never a way to a transport address.

    Neighbours tell the network of the overlay, too: to the kernel that would be a second way to what is on link.
    """
    own: list[Network] = [overlay for cloud in plan.clouds for overlay in cloud.overlay]
    for daemon in spoken(plan):
        never = [prefix for prefix in (plan.transport_range, *own) if prefix.version == daemon.version]
        allowed = [prefix for prefix in plan.prefixes if prefix.version == daemon.version]
        entries = [f"deny {prefix} le {daemon.longest}" for prefix in never]
        entries += [f"permit {prefix} le {daemon.longest}" for prefix in allowed]
        yield from frr_lists.matched(daemon.route_map, entries, daemon.version)
        yield f"{daemon.ip} protocol {daemon.rip} route-map {daemon.route_map}"
