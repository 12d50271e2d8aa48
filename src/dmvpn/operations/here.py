"""This router: which networks it has, which router it is, and where its things are."""

import socket
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from dmvpn.errors import Fault, WrongInput
from dmvpn.linux import files
from dmvpn.render.layout import Layout

ETC = Path("/etc/dmvpn")
STATE = Path("/var/lib/dmvpn")
BESIDE = PurePosixPath("beside")  # of a revision: the secret files that the network file names, as they lay beside it


@dataclass(frozen=True, slots=True)
class Here:
    """One network on this router. `layout` spells the paths."""

    network: str
    layout: Layout

    @property
    def router_file(self) -> Path:
        """Names the router of the file that this machine is: part of the revision in force."""
        return Path(self.layout.current) / "router"

    @property
    def beside(self) -> Path:
        """Where the paths of the file in force begin."""
        return Path(self.layout.current) / BESIDE

    @property
    def in_force(self) -> bool:
        return self.router_file.exists()

    def router(self) -> str | None:
        if not self.router_file.exists():
            return None
        return files.read_text(self.router_file, limit_octets=256).strip()

    @property
    def network_file(self) -> Path:
        """The file in force: part of the revision, so that a rollback brings it back too."""
        return Path(self.layout.current) / "network.yaml"


def networks() -> tuple[str, ...]:
    """Names of the networks this machine has a configuration of."""
    if not ETC.is_dir():
        return ()
    return tuple(sorted(entry.name for entry in ETC.iterdir() if Here(entry.name, Layout(entry.name)).in_force))


def _with_a_history() -> tuple[str, ...]:
    """Networks of which something was applied, if only to be taken back."""
    if not STATE.is_dir():
        return ()
    return tuple(sorted(entry.name for entry in STATE.iterdir() if any((entry / "revisions").glob("[0-9]*"))))


def find(network: str | None) -> Here:
    """The named network, or the only one. Raises Fault if there is none, or several and no name."""
    found = networks() or _with_a_history()
    if network is not None:
        if network not in found:
            raise Fault(network, "no such network on this machine", f"known here: {', '.join(found) or 'none'}")
        return Here(network, Layout(network))
    if not found:
        raise Fault(str(ETC), "no network is configured on this machine", "run `dmvpn apply FILE` first")
    if len(found) > 1:
        raise WrongInput(str(ETC), f"several networks: {', '.join(found)}", "name one with --network")
    return Here(found[0], Layout(found[0]))


def hostname() -> str:
    return socket.gethostname().partition(".")[0]
