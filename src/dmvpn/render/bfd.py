"""BFD in FRR: bfdd beside bgpd, a profile for each cloud that has it. FRR manual, "BFD"; RFC 5880, RFC 5882 4.

A hub that dies says nothing: without this its spokes wait for BGP's hold time.
"""

from collections.abc import Iterator

from dmvpn.network.plan import Cloud, Plan
from dmvpn.render.words import header, word

FILE = "bfdd.conf"


def spoken(plan: Plan) -> bool:
    """Whether a cloud of this router has it: only then there is a bfdd."""
    return any(cloud.bfd is not None for cloud in plan.clouds)


def conf(plan: Plan) -> str:
    """bfdd's own file: how often and how patiently, by cloud. Its sessions are bgpd's to ask for."""
    lines = [header(plan.network, plan.router, "!"), f"hostname {word(plan.router, 'router')}", "bfd"]
    for cloud in plan.clouds:
        if cloud.bfd is None:
            continue
        lines += [
            f" profile {profile(cloud)}",
            f"  detect-multiplier {cloud.bfd.multiplier}",
            f"  transmit-interval {cloud.bfd.interval_ms}",
            f"  receive-interval {cloud.bfd.interval_ms}",
            " exit",
        ]
    return "\n".join([*lines, "exit", ""])


def profile(cloud: Cloud) -> str:
    return f"dmvpn-{word(cloud.name, 'cloud')}"


def neighbor(cloud: Cloud, name: str) -> Iterator[str]:
    """What makes a neighbour, or a group of them, end with its BFD session; nothing in a cloud without."""
    if cloud.bfd is not None:
        yield f" neighbor {name} bfd"
        yield f" neighbor {name} bfd profile {profile(cloud)}"
