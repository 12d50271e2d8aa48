"""Who keeps a network's services on this machine: chosen at its first apply and remembered, or forced by an option."""

import os
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import dmvpn
from dmvpn.errors import Fault, WrongInput
from dmvpn.linux import files, keepers, namespaces, process
from dmvpn.linux.keepers import Keeper
from dmvpn.linux.openrc import OpenRC
from dmvpn.linux.services import Applied, Resting, Service, Services, ServiceStatus, Supervised
from dmvpn.linux.systemd import Systemd
from dmvpn.operations.here import Here
from dmvpn.render import openrc, systemd
from dmvpn.render.result import Check, File, Rendered, Unit
from dmvpn.render.systemd import Programs

__all__ = [
    "Keeper",
    "Present",
    "at_boot",
    "chosen",
    "describe",
    "hand_over",
    "moves",
    "named",
    "of",
    "remembered",
    "rendered",
]

WORD_LIMIT_OCTETS = 64


def named(word: str | None) -> Keeper | None:
    """Raises WrongInput for a word that is none."""
    if word is None:
        return None
    try:
        return Keeper(word)
    except ValueError as error:
        raise WrongInput("--services", f"{word} keeps no services", f"write one of {', '.join(Keeper)}") from error


def remembered(here: Here) -> Keeper | None:
    """What an earlier apply chose. Raises Fault for a word that is no keeper."""
    path = _record(here)
    if not path.exists():
        return None
    word = files.read_text(path, limit_octets=WORD_LIMIT_OCTETS).strip()
    try:
        return Keeper(word)
    except ValueError as error:
        raise Fault(str(path), f"{word!r} keeps no services", f"write one of {', '.join(Keeper)}") from error


def chosen(here: Here, wanted: Keeper | None) -> Keeper:
    """For an apply: what is asked for, else as before, else the machine's own. Raises Fault if it is not here."""
    if os.environ.get(namespaces.LAB_VARIABLE):
        return Keeper.SUPERVISOR
    keeper = wanted or remembered(here) or keepers.native()
    keepers.need(keeper)
    return keeper


def of(here: Here) -> Services:
    """Whoever keeps the network now. One that was applied before there was a choice has our supervisor."""
    return _services(here, remembered(here) or Keeper.SUPERVISOR)


@dataclass(frozen=True, slots=True)
class Present:
    """Whoever keeps the network's services at the time: a change may hand them to another."""

    here: Here

    def apply(
        self, services: Sequence[Service], *, restart: Collection[str] = (), reload: Collection[str] = ()
    ) -> Applied:
        return of(self.here).apply(services, restart=restart, reload=reload)

    def start(self, name: str) -> None:
        of(self.here).start(name)

    def stop(self, name: str) -> None:
        of(self.here).stop(name)

    def restart(self, name: str) -> None:
        of(self.here).restart(name)

    def reload(self, name: str) -> None:
        of(self.here).reload(name)

    def status(self) -> tuple[ServiceStatus, ...]:
        return of(self.here).status()

    def log(self, name: str) -> Path | str:
        return of(self.here).log(name)


def moves(here: Here, keeper: Keeper) -> bool:
    """Whether another one keeps the services now."""
    return (remembered(here) or Keeper.SUPERVISOR) is not keeper


def hand_over(here: Here, parts: Sequence[Rendered]) -> None:
    """Whoever kept the services lets them go, if the revision of `parts` has another keeper. Raises Fault.

    Who is on record has all that runs, whenever this dies: he may have let go before another is on record, not later.
    """
    if not parts:
        return  # nothing will run
    keeper = _keeper_of(parts)
    if moves(here, keeper):
        keepers.need(keeper)
        of(here).apply(())
    elif remembered(here) is not None:
        return
    files.write(_record(here), f"{keeper}\n")


def _keeper_of(parts: Sequence[Rendered]) -> Keeper:
    """By the files that `rendered` put there."""
    engines = {part.engine for part in parts}
    return next((keeper for keeper in Keeper if keeper in engines), Keeper.SUPERVISOR)


def describe(network: str, keeper: Keeper, units: Sequence[Unit]) -> Mapping[str, str]:
    """The files by which init knows the units, by name; none for our supervisor."""
    match keeper:
        case Keeper.SYSTEMD:
            return systemd.unit_files(network, units, _programs())
        case Keeper.OPENRC:
            return openrc.scripts(network, units, _programs())
        case Keeper.SUPERVISOR:
            return {}


def rendered(network: str, keeper: Keeper, units: Sequence[Unit]) -> tuple[Rendered, ...]:
    """Those files as part of a revision, to be seen, checked and compared; the keeper puts its own where init looks."""
    found = describe(network, keeper, units)
    if not found:
        return ()
    made = tuple(File(PurePosixPath(keeper) / name, text) for name, text in found.items())
    return (Rendered(str(keeper), made, checks=_checks(keeper, made)),)


def _checks(keeper: Keeper, made: Sequence[File]) -> tuple[Check, ...]:
    if keeper is not Keeper.SYSTEMD:
        return ()
    paths = (f"{{tree}}/{file.path}" for file in made)
    return (Check(("systemd-analyze", "verify", "--man=no", *paths), package="systemd"),)


def at_boot(here: Here) -> Services:
    """For whoever runs before the services: their files are brought up to date, and nothing is waited for."""
    services = of(here)
    return _Coming(services) if isinstance(services, Systemd | OpenRC) else services


@dataclass(frozen=True, slots=True)
class _Coming(Resting):
    """Services while init brings the machine up: all of them are about to start, none runs yet."""

    keeper: Systemd | OpenRC

    def apply(
        self, services: Sequence[Service], *, restart: Collection[str] = (), reload: Collection[str] = ()
    ) -> Applied:
        self.keeper.install(services)
        self.keeper.begin()
        return Applied()


def _record(here: Here) -> Path:
    return Path(here.layout.etc) / "services"


def _services(here: Here, keeper: Keeper) -> Services:
    def described(services: Sequence[Service]) -> Mapping[str, str]:
        return describe(here.network, keeper, [one for one in services if isinstance(one, Unit)])

    match keeper:
        case Keeper.SYSTEMD:
            return Systemd(here.network, described)
        case Keeper.OPENRC:
            return OpenRC(here.network, described)
        case Keeper.SUPERVISOR:
            return Supervised(here.network, Path(here.layout.run))


def _programs() -> Programs:
    roots = dict.fromkeys((sys.prefix, sys.base_prefix, str(Path(dmvpn.__file__).parents[1])))
    return Programs(process.find, tuple(PurePosixPath(root) for root in roots))
