"""The rendered file of `dmvpn-gre` (gre.json): read once, at start.

`python -m dmvpn.plane.settings check FILE` says whether it would be taken.
"""

import json
import re
import sys
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address
from pathlib import Path
from typing import Final

from dmvpn.errors import WrongInput
from dmvpn.linux import verbs

INHERIT: Final = "inherit"
_DEVICE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,14}")
_FILE_LIMIT: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class TunnelSettings:
    """One cloud. `key` None: no key in the GRE header. `tos` None: taken from each inner packet."""

    device: str
    key: int | None
    ttl: int
    tos: int | None


@dataclass(frozen=True, slots=True)
class Settings:
    """`bind_device` is the only device that GRE may use; `local` is the transport address."""

    network: str
    bind_device: str
    local: IPv4Address
    control: Path
    tunnels: tuple[TunnelSettings, ...]


def read(path: Path) -> Settings:
    """Read and check gre.json. Raises WrongInput, naming the file and the key."""
    try:
        with path.open(encoding="utf-8") as file:
            tree = json.loads(file.read(_FILE_LIMIT))
    except OSError as error:
        raise WrongInput(str(path), error.strerror or str(error), "run `dmvpn apply`, which writes it") from error
    except ValueError as error:
        raise WrongInput(str(path), f"is not JSON: {error}", "run `dmvpn apply`, which writes it") from error
    return _Reader(path).settings(tree)


class _Reader:
    """One file's checks; every fault carries the file and the key that is wrong."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def _fault(self, key: str, what: str) -> WrongInput:
        return WrongInput(f"{self._path}: {key}", what, "run `dmvpn apply` to render it again")

    def settings(self, tree: object) -> Settings:
        if not isinstance(tree, dict) or tree.get("version") != 1:
            raise self._fault("version", "is not 1")
        tunnels = tree.get("tunnels")
        if not isinstance(tunnels, list) or not tunnels:
            raise self._fault("tunnels", "is not a list of at least one tunnel")
        read = tuple(self._tunnel(f"tunnels[{index}]", tunnel) for index, tunnel in enumerate(tunnels))
        if len({tunnel.device for tunnel in read}) < len(read):
            raise self._fault("tunnels", "has one device twice")
        if len({tunnel.key for tunnel in read}) < len(read):
            raise self._fault("tunnels", "has one key twice, so what arrives could belong to either")
        return Settings(
            network=self._text(tree, "network", "network"),
            bind_device=self._device(tree, "bind_device", "bind_device"),
            local=self._address(tree, "local"),
            control=Path(self._text(tree, "control", "control")),
            tunnels=read,
        )

    def _tunnel(self, key: str, tree: object) -> TunnelSettings:
        if not isinstance(tree, dict):
            raise self._fault(key, "is not an object")
        tos = tree.get("tos", INHERIT)
        return TunnelSettings(
            device=self._device(tree, "device", f"{key}.device"),
            key=None if tree.get("key") is None else self._number(tree["key"], f"{key}.key", 0, 0xFFFFFFFF),
            ttl=self._number(tree.get("ttl"), f"{key}.ttl", 1, 255),
            tos=None if tos == INHERIT else self._number(tos, f"{key}.tos", 0, 255),
        )

    def _text(self, tree: dict[str, object], name: str, key: str) -> str:
        value = tree.get(name)
        if not isinstance(value, str) or not value:
            raise self._fault(key, "is missing or not a text")
        return value

    def _device(self, tree: dict[str, object], name: str, key: str) -> str:
        value = self._text(tree, name, key)
        if not _DEVICE.fullmatch(value):
            raise self._fault(key, f"{value!r} is not the name of a device")
        return value

    def _address(self, tree: dict[str, object], name: str) -> IPv4Address:
        value = self._text(tree, name, name)
        try:
            return IPv4Address(value)
        except AddressValueError as error:
            raise self._fault(name, f"{value!r} is not an IPv4 address") from error

    def _number(self, value: object, key: str, least: int, most: int) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise self._fault(key, f"{value!r} is not a whole number from {least} to {most}")
        return value


if __name__ == "__main__":
    sys.exit(verbs.run("dmvpn.plane.settings", {"check": read}, sys.argv[1:]))
