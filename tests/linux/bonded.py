"""The links of par1, plain or as a bond with VLANs, for the programs that are given them as files."""

import json
from collections.abc import Callable
from pathlib import Path

Run = Callable[..., str]

MINIMAL = (
    (Path(__file__).parents[2] / "examples/minimal.yaml")
    .read_text()
    .replace("[10.0.0.0/8]", '[10.0.0.0/8, "fd00::/16"]')
)
_LAN = "networks: {lan: {port: eth1, prefix: 10.1.1.0/24}}"
_BONDED = """\
networks:
      lan: {port: bond0, vlan: 8, prefix: 10.1.1.0/24, mtu: 1400}
      guest: {port: bond0, vlan: 96, prefix: [10.1.96.0/24, "fd00:96::/64"], zone: internet-only}"""
_ROUTER = "      par1:\n"
_PORTS = _ROUTER + "        ports: {bond0: {members: [eth1, eth2], mode: active-backup, miimon: 200ms}}\n"
assert MINIMAL.count(_LAN) == MINIMAL.count(_ROUTER) == 1
BONDED = MINIMAL.replace(_LAN, _BONDED).replace(_ROUTER, _PORTS)
ON_VLANS = {("bond0.8", "10.1.1.1/24"), ("bond0.96", "10.1.96.1/24"), ("bond0.96", "fd00:96::1/64")}


def wires(ip: Run, *devices: str) -> None:
    for device in devices:
        ip("link", "add", device, "type", "veth", "peer", "name", f"far-{device}")
        ip("link", "set", f"far-{device}", "up")


def addresses(ip: Run) -> set[tuple[str, str]]:
    """Those that are there to stay, by device."""
    return {
        (link["ifname"], f"{one['local']}/{one['prefixlen']}")
        for link in json.loads(ip("-j", "address"))
        for one in link["addr_info"]
        if one["scope"] == "global" and not one.get("tentative")
    }
