"""network.json as typed data: what of the kernel's state is ours. Read from the rendered file and our own record.

`python -m dmvpn.linux.netstate_file check FILE` says whether dmvpn.linux.netstate would take the file, on any machine.
"""

import json
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
    ip_address,
    ip_interface,
    ip_network,
)
from pathlib import Path
from typing import Any

from dmvpn.errors import WrongInput
from dmvpn.linux import files, netstate_links, verbs
from dmvpn.linux.netstate_links import NO_LINKS, Links
from dmvpn.linux.netstate_rows import UNSIGNED_32, Row, absolute, device_name, mac_address, one_of, sysctl_value

Address = IPv4Address | IPv6Address
Interface = IPv4Interface | IPv6Interface
Network = IPv4Network | IPv6Network

VERSION = 1
SIZE_LIMIT_OCTETS = 8 << 20
ROUTE_KINDS = ("unicast", "unreachable", "blackhole", "prohibit")
SCOPES = ("universe", "link", "host")
DEVICE_KINDS = ("tap", "gre")
DIRECTIONS = ("in", "out", "fwd")  # by their numbers: XFRM_POLICY_IN, _OUT, _FWD of linux/xfrm.h
_SYSCTL = re.compile(r"net\.[A-Za-z0-9_./@:-]{1,200}")


@dataclass(frozen=True, slots=True)
class Device:
    """A device that exists because of us. `neighbour_upcalls`: unknown next hops are asked of dmvpnd.

    A TAP has a `mac`, an mGRE device a `key` or none and a `ttl` for its outer packets.
    """

    name: str
    kind: str
    mac: str
    mtu_octets: int
    neighbour_upcalls: bool
    key: int | None = None
    ttl: int = 0


@dataclass(frozen=True, slots=True)
class DeviceAddress:
    device: str
    address: Interface


@dataclass(frozen=True, slots=True)
class Route:
    """`scope` is for IPv4 only. `metric` is as the kernel has it: 0 becomes 1024 for IPv6."""

    prefix: Network
    kind: str
    device: str | None
    gateway: Address | None
    source: Address | None
    scope: str
    metric: int
    table: int
    protocol: int


@dataclass(frozen=True, slots=True)
class Rule:
    """`priority`: look up `table`. `version` is 4 or 6. `specific`: only ways other than a default route count."""

    priority: int
    table: int
    version: int
    specific: bool = False


@dataclass(frozen=True, slots=True)
class Policy:
    """XFRM blocks GRE of this direction, between these addresses and with this key; None: any. Key 0: no key too."""

    direction: str
    source: Network | None
    destination: Network | None
    gre_key: int | None

    def __str__(self) -> str:
        sides = [f"{word} {side}" for word, side in (("from", self.source), ("to", self.destination)) if side]
        sides += [] if self.gre_key is None else [f"key {self.gre_key}"]
        return f"policy {self.direction} gre {' '.join(sides)}"


@dataclass(frozen=True, slots=True)
class NetState:
    """The whole of one network on this machine. `state` is where what was applied is recorded."""

    network: str
    state: Path
    devices: tuple[Device, ...] = ()
    addresses: tuple[DeviceAddress, ...] = ()
    routes: tuple[Route, ...] = ()
    rules: tuple[Rule, ...] = ()
    policies: tuple[Policy, ...] = ()
    sysctls: tuple[tuple[str, str], ...] = ()
    links: Links = NO_LINKS


def load(path: Path) -> NetState:
    """Read and check a file. Raises WrongInput with the place in it."""
    try:
        with path.open("rb") as file:
            octets = file.read(SIZE_LIMIT_OCTETS + 1)
    except OSError as error:
        raise WrongInput(str(path), (error.strerror or str(error)).lower(), "run `dmvpn apply`") from error
    if len(octets) > SIZE_LIMIT_OCTETS:
        raise WrongInput(str(path), f"is longer than {SIZE_LIMIT_OCTETS} octets")
    try:
        document = json.loads(octets)
    except (ValueError, RecursionError) as error:
        raise WrongInput(str(path), f"is not JSON: {error}") from error
    return decode(str(path), document)


def decode(file: str, document: object) -> NetState:
    """The document as typed data. Raises WrongInput; every value is checked before any is used."""
    top = Row(file, "", document)
    if top.take("version", int) != VERSION:
        raise top.fault("version", f"is not {VERSION}; another release wrote this file")
    state = NetState(
        network=top.take("network", str),
        state=Path(top.parse("state", absolute)),
        devices=tuple(_device(row) for row in top.rows("devices")),
        addresses=tuple(_address(row) for row in top.rows("addresses")),
        routes=tuple(_route(row) for row in top.rows("routes")),
        rules=tuple(_rule(row) for row in top.rows("rules")),
        policies=tuple(_policy(row) for row in top.rows("policies")),
        sysctls=_sysctls(top, file),
        links=netstate_links.decode(top),
    )
    top.end()
    return state


@contextmanager
def locked(state: Path) -> Iterator[None]:
    """One run at a time for all networks, which keep their records in directories side by side."""
    files.make_directory(state.parent)
    with files.alone(state.parent.parent):
        yield


def encode(state: NetState) -> str:
    """The same as JSON, as decode() reads it."""
    document = {
        "version": VERSION,
        "network": state.network,
        "state": str(state.state),
        "devices": [
            {
                "name": device.name,
                "kind": device.kind,
                **({"mac": device.mac} if device.kind == "tap" else {"key": device.key, "ttl": device.ttl}),
                "mtu": device.mtu_octets,
                "neighbour_upcalls": device.neighbour_upcalls,
            }
            for device in state.devices
        ],
        "addresses": [{"device": row.device, "address": str(row.address)} for row in state.addresses],
        "routes": [_route_object(route) for route in state.routes],
        "rules": [_rule_object(rule) for rule in state.rules],
        "policies": [_policy_object(policy) for policy in state.policies],
        "sysctls": dict(state.sysctls),
        **netstate_links.encode(state.links),
    }
    return json.dumps(document, indent=1) + "\n"


def _route_object(route: Route) -> dict[str, Any]:
    found: dict[str, Any] = {"prefix": str(route.prefix), "kind": route.kind, "scope": route.scope}
    for key, value in (("device", route.device), ("gateway", route.gateway), ("source", route.source)):
        if value is not None:
            found[key] = str(value)
    return {**found, "metric": route.metric, "table": route.table, "protocol": route.protocol}


def _rule_object(rule: Rule) -> dict[str, Any]:
    found: dict[str, Any] = {"priority": rule.priority, "table": rule.table, "family": rule.version}
    return found | ({"specific": True} if rule.specific else {})


def _policy_object(policy: Policy) -> dict[str, Any]:
    found: dict[str, Any] = {"direction": policy.direction}
    for key, value in (("source", policy.source), ("destination", policy.destination)):
        if value is not None:
            found[key] = str(value)
    return found if policy.gre_key is None else {**found, "gre_key": policy.gre_key}


def _policy(row: Row) -> Policy:
    policy = Policy(
        direction=row.parse("direction", one_of(DIRECTIONS)),
        source=row.maybe_parse("source", ip_network),
        destination=row.maybe_parse("destination", ip_network),
        gre_key=row.maybe_number("gre_key", 0, UNSIGNED_32),
    )
    sides = [side for side in (policy.source, policy.destination) if side is not None]
    if len({side.version for side in sides}) > 1:
        raise row.fault("destination", f"{policy.destination} is not of the family of {policy.source}")
    # Without any of the three it would block all GRE of the host.
    if not sides and policy.gre_key is None:
        raise row.fault("direction", "a policy needs a source, a destination or a key")
    row.end()
    return policy


def _device(row: Row) -> Device:
    kind = row.parse("kind", one_of(DEVICE_KINDS))
    device = Device(
        name=row.parse("name", device_name),
        kind=kind,
        mac=row.parse("mac", mac_address) if kind == "tap" else "",
        mtu_octets=row.number("mtu", 68, 65535),
        neighbour_upcalls=row.maybe("neighbour_upcalls", bool, False),  # noqa: FBT003 - the value of a missing key
        key=row.maybe_number("key", 0, UNSIGNED_32) if kind == "gre" else None,
        ttl=row.number("ttl", 0, 255) if kind == "gre" else 0,
    )
    row.end()
    return device


def _address(row: Row) -> DeviceAddress:
    address = DeviceAddress(row.parse("device", device_name), row.parse("address", ip_interface))
    row.end()
    return address


def _route(row: Row) -> Route:
    prefix = row.parse("prefix", ip_network)
    kind = row.parse("kind", one_of(ROUTE_KINDS))
    device = row.maybe_parse("device", device_name)
    gateway = row.maybe_parse("gateway", ip_address)
    source = row.maybe_parse("source", ip_address)
    scope = row.maybe_parse("scope", one_of(SCOPES))
    metric = row.number("metric", 0, UNSIGNED_32, 0)
    if kind == "unicast" and device is None:
        raise row.fault("device", "is missing")
    if kind != "unicast" and (device or gateway or source):
        raise row.fault("kind", f"a route of kind {kind} leads nowhere: no device, gateway or source")
    for key, address in (("gateway", gateway), ("source", source)):
        if address is not None and address.version != prefix.version:
            raise row.fault(key, f"{address} is not of the family of {prefix}")
    route = Route(
        prefix=prefix,
        kind=kind,
        device=device,
        gateway=gateway,
        source=source,
        scope=_scope(prefix, kind, gateway, scope),
        metric=metric or (1024 if prefix.version == 6 else 0),
        table=row.number("table", 1, UNSIGNED_32, 254),
        protocol=row.number("protocol", 1, 255),
    )
    row.end()
    return route


def _scope(prefix: Network, kind: str, gateway: Address | None, given: str | None) -> str:
    """The scope that the kernel will show: IPv6 knows none."""
    if prefix.version == 6:
        return "universe"
    return given or ("link" if kind == "unicast" and gateway is None else "universe")


def _rule(row: Row) -> Rule:
    rule = Rule(
        row.number("priority", 1, 32765),
        row.number("table", 1, UNSIGNED_32),
        row.number("family", 4, 6),
        row.maybe("specific", bool, otherwise=False),
    )
    if rule.version == 5:
        raise row.fault("family", "is not 4 or 6")
    row.end()
    return rule


def _sysctls(top: Row, file: str) -> tuple[tuple[str, str], ...]:
    row = Row(file, "sysctls", top.maybe("sysctls", dict, {}))
    found = []
    for name in list(row.left):
        if not _SYSCTL.fullmatch(name) or ".." in name:
            raise row.fault(name, "is not a name under net.")
        found.append((name, row.parse(name, sysctl_value)))
    return tuple(found)


if __name__ == "__main__":
    sys.exit(verbs.run("dmvpn.linux.netstate_file", {"check": load}, sys.argv[1:]))
