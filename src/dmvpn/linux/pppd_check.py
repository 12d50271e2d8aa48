"""`python -m dmvpn.linux.pppd_check check FILE`: would pppd take these options? pppd(8), "dryrun".

Its plugin for PPPoE wants a kernel with PPP and the Ethernet device there before it reads on. Neither is the file's
matter, and the device may be one that the change is about to make, so both are played in a network and a mount
namespace of this process's own.
"""

import sys
import tempfile
from pathlib import Path
from typing import Final

from dmvpn.errors import Fault
from dmvpn.linux import files, namespaces, process, verbs

PACKAGE: Final = "ppp"
LIMIT_S: Final = 10.0
DEV: Final = Path("/dev")
NULL: Final = DEV / "null"
_NIC: Final = "nic-"
_PEER: Final = "peer"
_LIMIT_OCTETS: Final = 1 << 16
_NOT_OURS: Final = "run `dmvpn apply`, which writes it"


def check(path: Path) -> None:
    """Enters new namespaces: only for a process that ends afterwards. Raises Fault."""
    device = _device(path)
    namespaces.unshare(namespaces.CLONE_NEWNET | namespaces.CLONE_NEWNS)
    peer = _PEER if device != _PEER else f"{_PEER}2"
    played = ("ip", "link", "add", device, "type", "veth", "peer", "name", peer)
    process.run(played, timeout_s=LIMIT_S)
    namespaces.mount("none", Path("/"), flags=namespaces.MS_REC | namespaces.MS_PRIVATE)
    with tempfile.TemporaryDirectory(prefix="dmvpn-pppd-check-", ignore_cleanup_errors=True) as directory:
        _play_ppp(Path(directory))
        try:
            process.run(("pppd", "dryrun", "file", str(path.absolute())), timeout_s=LIMIT_S, package=PACKAGE)
        except process.ProcessFault as fault:
            if fault.status is None:
                raise
            raise Fault(str(path), fault.stderr or f"pppd ends with status {fault.status}") from fault


def _device(path: Path) -> str:
    lines = files.read_text(path, limit_octets=_LIMIT_OCTETS).splitlines()
    for line in lines:
        if line.startswith(_NIC):
            return line.removeprefix(_NIC)
    raise Fault(str(path), f"names no device: there is no line {_NIC}DEVICE", _NOT_OURS)


def _play_ppp(directory: Path) -> None:
    """A /dev with what pppd opens before the session, whose ppp can be opened and nothing else."""
    namespaces.mount("tmpfs", directory, "tmpfs", options="mode=0755")
    for name in ("null", "ppp"):
        node = directory / name
        node.touch()
        namespaces.mount(str(NULL), node, flags=namespaces.MS_BIND)
    namespaces.mount(str(directory), DEV, flags=namespaces.MS_BIND | namespaces.MS_REC)


if __name__ == "__main__":
    sys.exit(verbs.run("dmvpn.linux.pppd_check", {"check": check}, sys.argv[1:]))
