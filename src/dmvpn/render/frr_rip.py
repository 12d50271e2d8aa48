"""RIP over a cloud: ripd.conf. FRR manual, "RIP"; RFC 2453.

It counts hops, and over a mesh every network is as far: what the file says of `bandwidth` RIP cannot know. Of two
clouds of RIP both are used at once. Split horizon is off: a hub's spokes hear of each other over the device they came
by, and by each other's address: ripd keeps a next hop on the link it tells of (and heeds no route-map that says
otherwise), so phase 1 cannot be had. IPv4 alone: FRR's ripngd has neither a distance nor a filter on what it takes of
the kernel's routes.
"""

from collections.abc import Iterator

from dmvpn.network.plan import Network, Plan
from dmvpn.render import frr_choice, frr_lists
from dmvpn.render.words import header, word

FILE = "ripd.conf"
TIMEOUTS, GARBAGE = 3, 2  # in updates: RFC 2453's are 6 and 4
LIST = "dmvpn-rip"
BEHIND = "dmvpn-rip-behind"


def spoken(plan: Plan) -> bool:
    return any(cloud.rip is not None for cloud in plan.clouds)


def conf(plan: Plan) -> str:
    speaking = [cloud for cloud in plan.clouds if cloud.rip is not None]
    lines = [header(plan.network, plan.router, "!"), f"hostname {word(plan.router, 'router')}"]
    behind = list(frr_lists.behind(plan, BEHIND))
    lines += behind
    for cloud in speaking:
        lines += [f"interface {word(cloud.device, 'device')}", " no ip rip split-horizon", "exit"]
    update_s = min(cloud.rip.update_s for cloud in speaking if cloud.rip is not None)
    lines += ["!", "router rip", f" timers basic {update_s} {TIMEOUTS * update_s} {GARBAGE * update_s}"]
    lines += [" version 2", " allow-ecmp"]
    # Beside clouds of another protocol.
    distances = [distance for cloud in speaking if (distance := frr_choice.distance(cloud)) is not None]
    lines += [f" distance {min(distances)}"] if distances else []
    lines += [f" network {word(cloud.device, 'device')}" for cloud in speaking]
    for device in frr_lists.served_devices(plan):
        # The site's networks are told and nobody is met there.
        lines += [f" network {word(device, 'device')}", f" passive-interface {word(device, 'device')}"]
    lines += [f" redistribute kernel route-map {BEHIND}"] if behind else []
    return "\n".join([*lines, "exit", ""])


def zebra_lines(plan: Plan) -> Iterator[str]:
    """What of RIP reaches the kernel: nothing but internal networks of others, and never a way to a transport address.

    Neighbours tell the network of the overlay, too: to the kernel that would be a second way to what is on link.
    """
    if not spoken(plan):
        return
    own: list[Network] = [overlay for cloud in plan.clouds for overlay in cloud.overlay]
    entries = [f"deny {prefix} le 32" for prefix in (plan.transport_range, *own) if prefix.version == 4]
    entries += [f"permit {prefix} le 32" for prefix in plan.prefixes if prefix.version == 4]
    yield from frr_lists.matched(LIST, entries)
    yield f"ip protocol rip route-map {LIST}"
