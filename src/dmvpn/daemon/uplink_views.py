"""Uplinks as `status` shows them: each with the tunnels that are over it, and what is wrong with it."""

from dmvpn.daemon.control import SEVERE, WARNING, Trouble, UplinkRow
from dmvpn.daemon.node import Node
from dmvpn.uplink.choice import CARRIES

UP = frozenset(state.value for state in CARRIES)


def rows(node: Node) -> tuple[UplinkRow, ...]:
    users: dict[str, list[str]] = {}
    for up in node.ike.admitted():
        uplink = node.uplinks.name_of(up.source)
        for name, cloud in node.clouds.items():
            if cloud.concerns(up.nbma):
                users.setdefault(uplink, []).append(f"{name} to {node.names.of_nbma(up.nbma) or up.nbma}")
    return node.uplinks.rows({uplink: tuple(sorted(tunnels)) for uplink, tunnels in users.items()})


def troubles(node: Node, uplinks: tuple[UplinkRow, ...]) -> list[Trouble]:
    """One of several that is down is a warning, all of them are the site's end."""
    down = [row for row in uplinks if row.state not in UP]
    severity = SEVERE if len(down) == len(uplinks) else WARNING
    found = [Trouble(severity, f"uplink {row.name} is {row.state} ({row.why})", "dmvpn doctor") for row in down]
    if node.uplinks.trouble:
        found.append(Trouble(SEVERE, f"uplinks: {node.uplinks.trouble}", "ip rule; ip route"))
    return found
