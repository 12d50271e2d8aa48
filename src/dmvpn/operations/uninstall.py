"""Taking a network off this machine: services, kernel state, files; all of what is ours and nothing else."""

from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from dmvpn.errors import Fault
from dmvpn.linux import adoption, files, sysctl_memory
from dmvpn.linux.openrc import OpenRC
from dmvpn.linux.systemd import Systemd
from dmvpn.operations import change, keeping
from dmvpn.operations.here import ETC, Here, networks
from dmvpn.operations.here import find as find_applied
from dmvpn.operations.transactions import transaction
from dmvpn.render.layout import Layout


class Keep(Enum):
    """What stays: nothing, or the papers and what the router remembers, for a later apply."""

    NOTHING = "nothing"
    STATE = "state"


@dataclass(frozen=True, slots=True)
class Removal:
    """What goes, in the order in which it goes, and what stays."""

    services: tuple[str, ...]
    settings: tuple[str, ...]  # of the kernel, as they will be
    paths: tuple[Path, ...]
    kept: tuple[Path, ...]
    adopted: tuple[str, ...]  # services of the host's own that come back
    unconfirmed: int | None = None  # the revision that waits to be confirmed: it is taken back


def find(network: str | None) -> Here:
    """As everywhere, and a network that has papers here but was never applied. Raises Fault."""
    if network is not None and (ETC / network / "pki").is_dir():
        return Here(network, Layout(network))
    return find_applied(network)


def look(here: Here, keep: Keep) -> Removal:
    """What uninstall() would do; touches nothing. Raises Fault."""
    layout = here.layout
    services = keeping.of(here)
    etc, state, run = Path(layout.etc), Path(layout.state), Path(layout.run)
    units = services.installed() if isinstance(services, Systemd | OpenRC) else ()
    kept = tuple(path for path in (Path(layout.pki), state) if path.exists()) if keep is Keep.STATE else ()
    # /etc last: as long as it is there, this can be run again.
    own = sorted(etc.iterdir()) if keep is Keep.STATE and etc.is_dir() else [etc]
    paths = [path for path in (run, state, *own) if (path.exists() or path.is_symlink()) and path not in kept]
    given_back = {} if _others(here) else sysctl_memory.changed(run)
    waiting = None
    with suppress(Fault, OSError):  # who may not look is told so later
        waiting = transaction(here).waiting()
    return Removal(
        services=tuple(row.name for row in services.status()),
        settings=tuple(f"{name} = {value}" for name, value in given_back.items()),
        paths=(*units, *paths),
        kept=kept,
        adopted=tuple(f"{name}.service" for name in adoption.recorded(Path(layout.adopted))),
        unconfirmed=None if waiting is None else waiting.after,
    )


def uninstall(here: Here, keep: Keep) -> Removal:
    """Do it. Returns what was done. Raises Fault; then it can be run again."""
    run = Path(here.layout.run)
    removal = look(here, keep)
    change.stop(here)  # kernel state, rules and unit files go with the services, and whoever stands by
    if others := _others(here):  # they rely on the settings, and the last of them gives them back
        sysctl_memory.hand_on(run, Path(Layout(others[0]).run))
    else:
        sysctl_memory.give_back(run)
    for path in removal.paths:
        if path.is_symlink() or path.is_file():
            files.remove(path)
        elif path.is_dir():
            files.remove_tree(path)
    if keep is Keep.NOTHING:
        files.remove_tree(Path(here.layout.state))  # the lock of the stop above
        files.remove_tree(Path(here.layout.etc))
    for parent in (run.parent, Path(here.layout.state).parent, ETC):
        _remove_if_empty(parent)
    return removal


def _others(here: Here) -> tuple[str, ...]:
    return tuple(name for name in networks() if name != here.network)


def _remove_if_empty(directory: Path) -> None:
    try:
        if directory.is_dir() and not any(directory.iterdir()):
            directory.rmdir()
    except OSError as error:
        raise Fault(str(directory), error.strerror or str(error)) from error
