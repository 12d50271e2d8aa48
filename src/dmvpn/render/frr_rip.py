"""RIP over a cloud: ripd.conf. FRR manual, "RIP"; RFC 2453.

It counts hops, and over a mesh every network is as far: what the file says of `bandwidth` RIP cannot know. Of two
clouds of RIP both are used at once. Split horizon is off: a hub's spokes hear of each other over the device they came
by. RIPng would name link-local next hops, which no NHRP resolves and no certificate claims: clouds of RIP are IPv4's.
"""

from collections.abc import Iterator

from dmvpn.network.plan import Network, Plan
from dmvpn.render import frr_choice
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
    behind = [route.prefix for route in plan.routes if route.prefix.version == 4]
    for number, prefix in enumerate(behind, start=1):
        lines.append(f"ip prefix-list {BEHIND} seq {5 * number} permit {prefix}")
    if behind:
        lines += [f"route-map {BEHIND} permit 10", f" match ip address prefix-list {BEHIND}", "exit"]
    for cloud in speaking:
        lines += [f"interface {word(cloud.device, 'device')}", " no ip rip split-horizon", "exit"]
    update_s = min(cloud.rip.update_s for cloud in speaking if cloud.rip is not None)
    lines += ["!", "router rip", f" timers basic {update_s} {TIMEOUTS * update_s} {GARBAGE * update_s}"]
    lines += [" version 2", " allow-ecmp"]
    # Beside clouds of another protocol.
    distances = [distance for cloud in speaking if (distance := frr_choice.distance(cloud)) is not None]
    lines += [f" distance {min(distances)}"] if distances else []
    lines += [f" network {word(cloud.device, 'device')}" for cloud in speaking]
    served = {lan.device for lan in plan.lans if lan.prefix in plan.serves and lan.prefix.version == 4}
    for device in sorted(served):
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
    for number, entry in enumerate(entries, start=1):
        yield f"ip prefix-list {LIST} seq {5 * number} {entry}"
    yield from (f"route-map {LIST} permit 10", f" match ip address prefix-list {LIST}", "exit")
    yield f"ip protocol rip route-map {LIST}"
