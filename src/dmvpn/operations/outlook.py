"""What a change will do, in an operator's sentences: to the router, to tunnels and flows, to his own SSH session."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from dmvpn.commit.difference import Difference
from dmvpn.commit.revision import files_of
from dmvpn.errors import Fault
from dmvpn.linux import ssh_session
from dmvpn.linux.ssh_session import Session
from dmvpn.network import compile, loading
from dmvpn.network.comparison import sentences
from dmvpn.network.plan import Cloud, Plan, Plane
from dmvpn.operations.here import BESIDE
from dmvpn.render.consequences import effects, kind
from dmvpn.render.daemon import FILE as DAEMON_FILE
from dmvpn.render.result import Rendered

NETWORK_FILE = PurePosixPath("network.yaml")
ROUTER_FILE = PurePosixPath("router")
SSH = "tcp"


@dataclass(frozen=True, slots=True)
class Outlook:
    """`changes` of the router, `effects` on services, tunnels and flows; `cuts_ssh`: through what the session goes."""

    changes: tuple[str, ...]
    effects: tuple[str, ...]
    cuts_ssh: str = ""


def outlook(old: Sequence[Rendered], new: Plan, difference: Difference) -> Outlook:
    before = plan_of(old)
    changes = sentences(before, new) if before is not None or not old else ()
    if difference.files and not changes and not difference.nothing:
        changes = (f"{new.router}: nothing in its plan; its files are written otherwise",)
    if difference.nothing:
        return Outlook((), ())
    session = ssh_session.own_session()
    cut = (
        ""
        if before is None or session is None
        else cut_by(session, before, new, tunnels_restart=_restarting(difference, new))
    )
    return Outlook(changes, tuple(_effects(difference, before, new)), cut)


def plan_of(parts: Sequence[Rendered]) -> Plan | None:
    """The Plan that a revision was made of; None if this program cannot tell any more."""
    files = files_of(parts)
    if not {NETWORK_FILE, ROUTER_FILE} <= files.keys():
        return None
    secrets = {
        str(path.relative_to(BESIDE)): file.text.encode() for path, file in files.items() if BESIDE in path.parents
    }
    try:
        network = loading.load(files[NETWORK_FILE].text, str(NETWORK_FILE))
        router = files[ROUTER_FILE].text.strip()
        return compile.compile_plan(
            network, router, planes=_planes(files[PurePosixPath(DAEMON_FILE)].text), secrets=secrets
        )
    except (Fault, KeyError):
        return None


def _planes(daemon: str) -> tuple[Plane, ...]:
    """Those the machine had: the kernel's if a cloud is on it."""
    try:
        used = {cloud["plane"] for cloud in json.loads(daemon)["clouds"]}
    except (ValueError, KeyError, TypeError):
        used = set()
    return (Plane.KERNEL, Plane.USERSPACE) if Plane.KERNEL.value in used else (Plane.USERSPACE,)


def _restarting(difference: Difference, plan: Plan) -> bool:
    """Whether tunnels stand still."""
    touched = (*difference.stop, *difference.start, *difference.restart)
    return any(effects(unit, plan.network).carries for unit in touched)


def _effects(difference: Difference, before: Plan | None, new: Plan) -> Iterator[str]:
    network = new.network
    made_anew = tuple(_made_anew(before, new))
    if before is not None and not _restarting(difference, new) and not made_anew:
        yield "no tunnel restarts"
    for cloud in made_anew:
        yield f"the tunnel of {cloud} is made anew: its flows stop for some seconds"
    yield from (f"{kind(unit, network)} stops" for unit in difference.stop)
    yield from (f"{kind(unit, network)} starts" for unit in difference.start if before is not None)
    yield from (f"{kind(unit, network)} restarts: {effects(unit, network).restart}" for unit in difference.restart)
    yield from (f"{kind(unit, network)} reloads: {effects(unit, network).reload}" for unit in difference.reload)


def _made_anew(before: Plan | None, new: Plan) -> Iterator[str]:
    """Clouds whose device cannot stay."""
    old = {} if before is None else {cloud.name: cloud for cloud in before.clouds}
    for cloud in new.clouds:
        was = old.get(cloud.name)
        if was is not None and _device(was) != _device(cloud):
            yield cloud.name


def _device(cloud: Cloud) -> tuple[object, ...]:
    key = cloud.gre_key if cloud.plane is Plane.KERNEL else None  # a TAP has none
    return cloud.plane, cloud.device, key


def cut_by(session: Session, old: Plan, new: Plan, *, tunnels_restart: bool) -> str:
    """Through what the session goes, if the change takes that away; else empty."""
    before, after = _places(old), _places(new)
    name, was = next(((name, was) for name, was in before.items() if was.device == session.device), ("", None))
    if was is None:
        gone = _addresses(old) - _addresses(new)
        return str(session.server) if str(session.server) in gone else ""
    now = after.get(name)
    if now is None or now.device != was.device:
        return was.label
    if was.tunnel and tunnels_restart:
        return was.label
    if str(session.server) in _addresses(old) - _addresses(new):
        return was.label
    if (
        session.gateway is not None
        and str(session.gateway) in was.gateways
        and str(session.gateway) not in now.gateways
    ):
        return was.label
    return was.label if _closed(session, old, new) else ""


@dataclass(frozen=True, slots=True)
class _Place:
    label: str
    device: str
    tunnel: bool = False
    gateways: frozenset[str] = frozenset()


def _places(plan: Plan) -> dict[str, _Place]:
    found = {f"cloud {one.name}": _Place(one.name, one.device, tunnel=True) for one in plan.clouds}
    found |= {f"network {one.name}": _Place(one.name, one.device) for one in plan.lans}
    for one in plan.uplinks:
        found[f"uplink {one.name}"] = _Place(one.name, one.device, gateways=frozenset(map(str, one.gateways)))
    return found


def _addresses(plan: Plan) -> set[str]:
    uplinks = (address.ip for one in plan.uplinks for address in one.addresses)
    clouds = (address for one in plan.clouds for address in one.addresses)
    return set(map(str, (*uplinks, *(one.address.ip for one in plan.lans), *clouds, plan.transport)))


def _closed(session: Session, old: Plan, new: Plan) -> bool:
    """Whether the opening goes by which it came in."""

    def opened(plan: Plan) -> bool:
        return any(
            one.protocol == SSH and session.port in one.ports and (not one.devices or session.device in one.devices)
            for one in plan.openings
        )

    return opened(old) and not opened(new)
