"""Who keeps services on this machine: systemd, OpenRC, or our supervisor where there is neither."""

import os
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path

from dmvpn.errors import Fault
from dmvpn.linux import openrc, systemd
from dmvpn.linux.openrc import OpenRC
from dmvpn.linux.services import Service, Services, Supervised
from dmvpn.linux.systemd import Systemd

VARIABLE = "DMVPN_KEEPER"  # in the environment of what systemd and OpenRC keep for us


class Keeper(StrEnum):
    SYSTEMD = "systemd"
    OPENRC = "openrc"
    SUPERVISOR = "supervisor"


def native() -> Keeper:
    """The machine's own. In a network namespace of its own a router has ours: init would start it outside."""
    try:
        inside = Path("/proc/self/ns/net").readlink() == Path("/proc/1/ns/net").readlink()
    except OSError:
        inside = False
    if inside and systemd.BOOTED.is_dir():
        return Keeper.SYSTEMD
    if inside and openrc.BOOTED.exists():
        return Keeper.OPENRC
    return Keeper.SUPERVISOR


def need(keeper: Keeper) -> None:
    """Raises Fault if this machine does not have it."""
    if keeper is Keeper.SYSTEMD and not systemd.BOOTED.is_dir():
        raise Fault("systemd", "does not run here", "leave --services out, or write --services supervisor")
    if keeper is Keeper.OPENRC and not openrc.BOOTED.exists():
        raise Fault("openrc", "does not run here", "leave --services out, or write --services supervisor")


def of_this_process(network: str, run: Path) -> Services:
    """Whoever keeps us, for a service of a network that asks for another one's reload."""
    match os.environ.get(VARIABLE):
        case Keeper.SYSTEMD:
            return Systemd(network, _nothing)
        case Keeper.OPENRC:
            return OpenRC(network, _nothing)
        case _:
            return Supervised(network, run)


def _nothing(_: Sequence[Service]) -> Mapping[str, str]:
    return {}
