"""What dmvpnd knows of its uplinks over a restart: their states, and gateways that nobody may tell again.

A DHCP client brings the default route with a lease, pppd with a session. While the uplink is given up that route is not
in main, so until the next lease the gateway is known here alone. In /run: after a boot all is told anew.
"""

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Any

from dmvpn.daemon.uplink_routes import Gateway
from dmvpn.errors import Fault
from dmvpn.linux import files
from dmvpn.uplink.health import State

Address = IPv4Address | IPv6Address
log = logging.getLogger("dmvpnd.uplinks")

FILE = "uplinks.state.json"
LIMIT_OCTETS = 1 << 16


@dataclass(frozen=True, slots=True)
class Remembered:
    """One uplink. `gateways` are by the address that it sent from: with another one they may be others."""

    state: State | None = None
    gateways: Mapping[Address, Gateway] = field(default_factory=dict)


class UplinkMemory:
    def __init__(self, directory: Path) -> None:
        self._path = directory / FILE
        self._written = ""

    def recall(self) -> dict[str, Remembered]:
        """By name; without a file, or with others' words, none."""
        try:
            with self._path.open("rb") as file:
                rows = json.loads(file.read(LIMIT_OCTETS))
            return {str(name): _decoded(row) for name, row in rows.items()}
        except (OSError, ValueError, AttributeError, TypeError, KeyError):
            return {}

    def keep(self, uplinks: Mapping[str, Remembered]) -> None:
        """Written where it is not so already."""
        text = json.dumps({name: _encoded(one) for name, one in uplinks.items()}) + "\n"
        if text == self._written:
            return
        try:
            files.write(self._path, text)
            self._written = text
        except Fault as fault:
            log.warning("cannot keep the uplinks' states: %s", fault)


def _encoded(one: Remembered) -> dict[str, Any]:
    rows = [
        {"source": str(source), "gateway": None if gateway.address is None else str(gateway.address)}
        for source, gateway in one.gateways.items()
    ]
    return {"state": None if one.state is None else one.state.value, "gateways": rows}


def _decoded(row: dict[str, Any]) -> Remembered:
    gateways = {ip_address(one["source"]): _gateway(one["gateway"]) for one in row["gateways"]}
    return Remembered(State(row["state"]), gateways)


def _gateway(text: str | None) -> Gateway:
    return Gateway(None if text is None else ip_address(text))
