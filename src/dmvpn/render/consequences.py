"""What a change of a unit does to those who use it: to tunnels, sessions and flows. From the services' manuals."""

from collections.abc import Mapping
from dataclasses import dataclass

PREFIX = "dmvpn-"


@dataclass(frozen=True, slots=True)
class Effects:
    """In words: of a reload, of a restart. `carries`: tunnels stand still when it restarts, starts or stops."""

    reload: str
    restart: str
    carries: bool = False


EFFECTS: Mapping[str, Effects] = {
    "nftables": Effects(
        "the rules are replaced in one step; connections that are still allowed go on",
        "the rules are replaced in one step; connections that are still allowed go on",
    ),
    "network": Effects(
        "links, addresses and routes that stay are not touched",
        "links, addresses and routes that stay are not touched",
    ),
    "dhcp": Effects("the lease stays", "the lease stays, and is asked for again"),
    "ppp": Effects("the session stays", "the PPPoE session ends and comes back in seconds: its uplink stands still"),
    "uplinks": Effects(
        "routes and connections stay",
        "routes of the uplinks' own tables go, until dmvpnd sets them anew",
    ),
    "adoption": Effects(
        "services of the host's own stop, or come back as they were",
        "services of the host's own stop, or come back as they were",
    ),
    "charon": Effects(
        "tunnels stay",
        "every tunnel ends and is built anew: some seconds without traffic",
        carries=True,
    ),
    "frr-run": Effects("nothing is disturbed", "nothing is disturbed"),
    "zebra": Effects("routes stay", "routes stay in the kernel meanwhile"),
    "bgpd": Effects("sessions stay, but those that it changes", "its sessions end and routes stay meanwhile"),
    "learned": Effects("sessions stay, but those that it changes", "sessions stay, but those that it changes"),
    "ospfd": Effects("adjacencies stay, but those that it changes", "its adjacencies end and come back in seconds"),
    "ospf6d": Effects("adjacencies stay, but those that it changes", "its adjacencies end and come back in seconds"),
    "bfdd": Effects("sessions stay, but those that it changes", "fast detection pauses for a second"),
    "vrrp": Effects(
        "whoever has the site's gateway keeps it",
        "the site's gateway is with its other router for some seconds",
    ),
    "gateway": Effects("nothing is disturbed", "nothing is disturbed"),
    "ripd": Effects("routes stay, but those that it changes", "its routes go and come back in seconds"),
    "ripngd": Effects("routes stay, but those that it changes", "its routes go and come back in seconds"),
    "gre": Effects("tunnels stay", "tunnels of the userspace plane stand still for less than a second", carries=True),
    "dmvpnd": Effects("direct paths stay", "direct paths and security associations stay"),
}
UNKNOWN = Effects("what it serves may pause", "what it serves pauses")


def effects(unit: str, network: str) -> Effects:
    """Of a unit by its whole name."""
    name = kind(unit, network)
    return EFFECTS.get(name) or EFFECTS.get(name.partition("-")[0], UNKNOWN)  # dhcp-isp1 is one of dhcp


def kind(unit: str, network: str) -> str:
    return unit.removeprefix(f"{PREFIX}{network}-")
