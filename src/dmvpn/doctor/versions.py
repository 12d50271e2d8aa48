"""Versions of the kernel and the daemons: what an old one is known to lack, and what one is known to do wrong."""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dmvpn.doctor.patient import Patient
from dmvpn.doctor.report import At, Finding, Layer
from dmvpn.errors import Fault
from dmvpn.linux import frr_release, process
from dmvpn.network.plan import Plane

HERE = At(Layer.SYSTEM)
Version = tuple[int, ...]
_NUMBER = re.compile(r"(\d+)\.(\d+)(?:\.(\d+))?")
_ASK_LIMIT_S = 5.0


@dataclass(frozen=True, slots=True)
class Floor:
    """Below `tried` nobody of us has seen it work. Below `needed`, where there is a known reason, it cannot."""

    name: str
    argv: tuple[str, ...]  # empty: the kernel
    tried: Version
    needed: Version = ()
    lacks: str = ""


FLOORS = (
    Floor("kernel", (), (6, 1, 0), (5, 6, 0), "pidfd_getfd (5.6), other names of devices (5.5)"),
    Floor("strongSwan", ("/usr/lib/ipsec/charon", "--version"), (5, 9, 8)),
    Floor("FRR", ("/usr/lib/frr/zebra", "--version"), (8, 4, 0)),
    Floor("nftables", ("nft", "--version"), (1, 0, 6)),
)
KEEPALIVED = Floor("keepalived", ("keepalived", "--version"), (2, 2, 7))
DHCPCD = Floor("dhcpcd", ("dhcpcd", "--version"), (9, 4, 1))
PPPD = Floor("pppd", ("pppd", "--version"), (2, 4, 9), (2, 4, 9), "the plugin pppoe.so by that name")


@dataclass(frozen=True, slots=True)
class Bug:
    """A version that does something wrong that concerns this router."""

    name: str
    first: Version
    mended: Version
    what: str
    fix: str


BFD_SLOW = Bug(
    "FRR",
    (10, 5, 1),
    (10, 5, 2),
    "BGP waits 30 s after BFD has gone down (FRR issue 22097)",
    "use another version of FRR",
)
ESP_IN_UDP6 = Bug(
    "kernel", (0, 0, 0), (5, 8, 0), "there is no ESP in UDP over IPv6", "use Linux 5.8 or newer, or an IPv4 underlay"
)


def number_in(text: str) -> Version | None:
    """The first version number of a text, with three parts."""
    found = _NUMBER.search(text)
    return None if found is None else tuple(int(part or 0) for part in found.groups())


def shown(version: Version) -> str:
    return ".".join(map(str, version))


def floors(patient: Patient) -> tuple[Floor, ...]:
    """Those of all routers, and those of what this one's file asks for."""
    plan = patient.plan
    asked = {
        KEEPALIVED: plan.vrrp is not None,
        DHCPCD: any(uplink.leased for uplink in plan.uplinks),
        PPPD: any(uplink.pppoe is not None for uplink in plan.uplinks),
    }
    return (*FLOORS, *(floor for floor, wanted in asked.items() if wanted))


def versions(known: tuple[Bug, ...], asked: tuple[Floor, ...] = FLOORS) -> Iterator[Finding]:
    for floor in asked:
        try:
            found = number_in(_said(floor))
        except Fault as fault:
            if floor is PPPD and os.geteuid() != 0 and _is_there("pppd"):
                yield HERE.not_looked_at(floor.name, "is here, and only root may start it", "run as root")
                continue
            yield HERE.failed(floor.name, fault.what, fault.fix or "see what `dmvpn apply` says is missing")
            continue
        if found is None:
            yield HERE.not_looked_at(floor.name, "does not tell its version")
            continue
        yield judged(floor, found, known)


def _is_there(program: str) -> bool:
    """Also one that we may not start: Debian lets root alone start pppd."""
    return any(Path(directory, program).is_file() for directory in process.SEARCH_PATH)


def lacking(patient: Patient) -> Iterator[Finding]:
    """What the file asks of FRR's daemons and this release does not do: `apply` refused it, or FRR changed since."""
    for word in patient.asked_of_frr:
        try:
            what = frr_release.lacking(word)
        except Fault:
            return  # no zebra at all: said above
        if what:
            yield HERE.failed(f"FRR for {word}", what, "see docs/routing.md")


def judged(floor: Floor, found: Version, known: tuple[Bug, ...]) -> Finding:
    bug = next((one for one in known if one.name == floor.name and one.first <= found < one.mended), None)
    if found < floor.needed:
        what = f"{shown(found)} is too old: it lacks {floor.lacks}"
        return HERE.failed(floor.name, what, f"use {shown(floor.needed)} or newer")
    if bug is not None:
        return HERE.warning(floor.name, f"{shown(found)}: {bug.what}", bug.fix)
    if found < floor.tried:
        what = f"{shown(found)} is older than what was tried ({shown(floor.tried)})"
        return HERE.warning(floor.name, what, "use a newer one where something does not work")
    return HERE.ok(floor.name, shown(found))


def bugs(patient: Patient) -> tuple[Bug, ...]:
    """Those that matter for what this router does."""
    clouds = patient.plan.clouds
    found = [BFD_SLOW] if any(cloud.bfd is not None for cloud in clouds) else []
    over_v6 = any(address.version == 6 for uplink in patient.plan.uplinks for address in uplink.addresses)
    if over_v6 and any(cloud.plane is Plane.KERNEL for cloud in clouds):
        found.append(ESP_IN_UDP6)
    return tuple(found)


def _said(floor: Floor) -> str:
    if not floor.argv:
        return os.uname().release
    said = process.run(floor.argv, timeout_s=_ASK_LIMIT_S, accept=(0, 1))
    return said.text + said.stderr.decode(errors="replace")  # keepalived tells it there
