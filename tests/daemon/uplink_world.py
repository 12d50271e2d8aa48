"""A router with two uplinks: the kernel, its routes, probes and conntrack are played; dmvpnd's uplinks are real."""

import asyncio
import dataclasses
import os
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_interface, ip_network
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from dmvpn.daemon import restoring, uplink_routes, uplinks
from dmvpn.daemon.settings import Settings, UplinkSettings
from dmvpn.daemon.uplinks import Uplinks
from dmvpn.errors import Fault
from dmvpn.linux.routes import TABLE_MAIN, RouteKind, RouteRow
from dmvpn.linux.uplink_watch import DeviceFacts
from dmvpn.linux.uplink_ways import Way
from dmvpn.uplink.rounds import Rule, Target
from dmvpn.uplink.watch import WatchSettings

Address = IPv4Address | IPv6Address
DHCP = 16
OURS = 79
V4, V6, ULA = "198.51.100.2/24", "2001:db8::5/64", "fd00::5/64"
GATEWAY = "198.51.100.1"


def watch(*targets: str) -> WatchSettings:
    asked = tuple(Target(ip_address(one)) for one in targets)
    return WatchSettings(asked, Rule(1), 60.0, 0.15, 2.0, 3, 10, None, None, 50)


def uplink(number: int, *addresses: str, targets: Iterable[str] = ("9.9.9.9",)) -> UplinkSettings:
    return UplinkSettings(
        name=f"isp{number}",
        device=f"eth{number}",
        addresses=tuple(map(ip_interface, addresses)),
        public=None,
        gateways=(),
        metric=100 * number,
        table=440000 + number,
        mark=number << 16,
        weight=0,
        hook=None,
        watch=watch(*targets),
    )


def device(number: int, *addresses: str, gateway: str | None = None, index: int = 0) -> DeviceFacts:
    name = f"eth{number}"
    row = RouteRow(
        ip_network("0.0.0.0/0"), RouteKind.UNICAST, name, ip_address(gateway or "::"), TABLE_MAIN, DHCP, 1000
    )
    rows = () if gateway is None else (row,)
    return DeviceFacts(name, index or number + 1, True, True, tuple(map(ip_interface, addresses)), rows)  # noqa: FBT003


@dataclasses.dataclass
class World:
    """What is played: what the kernel has, and what it was told to do."""

    directory: Path
    uplinks: tuple[UplinkSettings, ...]
    facts: dict[str, DeviceFacts] = dataclasses.field(default_factory=dict)
    event: int = dataclasses.field(default_factory=lambda: os.eventfd(0, os.EFD_NONBLOCK))
    refusals: list[Fault] = dataclasses.field(default_factory=list)  # of the next looks and routes
    ways: tuple[Way, ...] = ()
    left_behind: list[tuple[object, ...]] = dataclasses.field(default_factory=list)  # of several, taken away by one
    opened: list[tuple[str, dict[int, Address]]] = dataclasses.field(default_factory=list)
    forgotten: list[tuple[int, int]] = dataclasses.field(default_factory=list)  # mark, family
    reloads: int = 0
    unloadable: list[Fault] = dataclasses.field(default_factory=list)  # of the next reloads of the kernel's state
    asked: list[str] = dataclasses.field(default_factory=list)
    probe_fails: bool = False
    moved: list[set[str]] = dataclasses.field(default_factory=list)

    def refuse(self) -> None:
        if self.refusals:
            raise self.refusals.pop()

    def reload(self, _restoring: object = None) -> None:
        self.reloads += 1
        if self.unloadable:
            raise self.unloadable.pop()

    def put(self, *devices: DeviceFacts) -> None:
        self.facts = {one.name: one for one in devices}
        os.eventfd_write(self.event, 1)

    def defaults(self, table: int) -> set[str]:
        every = (hop.gateway for way in self.ways if way.table == table for hop in way.hops if not way.prefix.prefixlen)
        return {str(gateway) for gateway in every}

    def settings(self) -> Settings:
        paths = SimpleNamespace(gre=self.directory / "gre", swanctl_conf=self.directory / "swanctl.conf")
        given = SimpleNamespace(
            network="acme", router="par1", uplinks=self.uplinks, paths=paths, ports=(), route_protocol=OURS,
            uplink_priority=400, uplink_mask=0xFF0000, uplink_tables=440000,
        )  # fmt: skip
        return cast(Settings, given)

    def run(self, *steps: Callable[[Uplinks], Any]) -> Any:
        """One life of dmvpnd: each step, then time for what follows. The last one's result."""

        async def live() -> Any:
            one = Uplinks(self.settings(), lambda moved: self.moved.append(set(map(str, moved.dead))))
            one.open()
            result = None
            for step in steps:
                result = step(one)
                if isinstance(result, Awaitable):
                    result = await result
                await asyncio.sleep(0.03)
            one.close()
            return result

        return asyncio.run(live())


class Kernel:
    def __init__(self, world: World, _devices: object) -> None:
        self._world = world

    def close(self) -> None: ...

    def fileno(self) -> int:
        return self._world.event

    def changed(self) -> bool:
        return bool(os.eventfd_read(self._world.event))

    def look(self) -> dict[str, DeviceFacts]:
        self._world.refuse()
        return dict(self._world.facts)


class Ways:
    def __init__(self, world: World, *_: object) -> None:
        self._world = world

    def rule(self, _rules: object) -> None: ...
    def withdraw(self, *_: object) -> None: ...
    def close(self) -> None: ...

    def forget(self, *words: object) -> None:
        self._world.refuse()
        self._world.left_behind.append(words)

    def bring(self, ways: Iterable[Way]) -> None:
        self._world.refuse()
        self._world.ways = tuple(ways)


class Probes:
    def __init__(self, world: World, device: str, *_: object) -> None:
        self._world, self._device = world, device

    def open(self, sources: dict[int, Address]) -> None:
        self._world.opened.append((self._device, sources))

    def ask(self, *_: object) -> None:
        self._world.asked.append(self._device)
        if self._world.probe_fails:
            raise OSError(24, "Too many open files")

    def close(self) -> None: ...


def play(directory: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    world = World(directory, (uplink(1), uplink(2)))

    def forget(mark: int, _mask: int, version: int) -> None:
        world.forgotten.append((mark, version))

    monkeypatch.setattr(uplinks, "UplinkWatch", partial(Kernel, world))
    monkeypatch.setattr(uplinks, "Probes", partial(Probes, world))
    monkeypatch.setattr(uplink_routes, "UplinkWays", partial(Ways, world))

    async def in_turn(function: Callable[..., Any], *words: Any) -> Any:
        return function(*words)

    monkeypatch.setattr(asyncio, "to_thread", in_turn)
    monkeypatch.setattr(restoring.Restoring, "_reload", world.reload)
    monkeypatch.setattr(restoring, "RESTORE_S", 0.005)
    monkeypatch.setattr(uplinks, "AGAIN_S", 0.005)
    monkeypatch.setattr(uplinks.conntrack, "forget_marked", forget)
    return world
