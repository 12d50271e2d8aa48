"""`python -m dmvpn.linux.pppd_check check FILE`: would pppd take these options? pppd(8), "dryrun".

Its plugin for PPPoE wants a kernel with PPP and the Ethernet device there before it reads on. Neither is the file's
matter, and the device may be one that the change is about to make, so both are played in a network and a mount
namespace of this process's own. Where the kernel can play no Ethernet device nothing is looked at.
"""

import sys
from pathlib import Path
from typing import Final

from dmvpn.errors import Fault
from dmvpn.linux import files, namespaces, process, verbs

PACKAGE: Final = "ppp"
LIMIT_S: Final = 10.0
DEV: Final = Path("/dev")
NULL: Final = DEV / "null"
RUN: Final = Path("/run")
_NIC: Final = "nic-"
_ETHERNET: Final = ("veth", "dummy", "bridge")  # kinds of links that stand for a card, whichever there is
_LIMIT_OCTETS: Final = 1 << 16


def check(path: Path) -> None:
    """Enters new namespaces: only for a process that ends afterwards. Raises Fault."""
    text = files.read_text(path, limit_octets=_LIMIT_OCTETS)
    device = _device(path, text)
    namespaces.own_network()
    namespaces.own_mounts()
    if not _play_card(device):
        return
    namespaces.mount("none", Path("/"), flags=namespaces.MS_REC | namespaces.MS_PRIVATE)
    namespaces.mount("tmpfs", RUN, "tmpfs", options="mode=0700")
    copy = RUN / path.name  # the staged tree may itself be below /run
    files.write_secret(copy, text)
    _play_ppp(RUN / "dev")
    try:
        process.run(("pppd", "dryrun", "file", str(copy)), timeout_s=LIMIT_S, package=PACKAGE)
    except process.ProcessFault as fault:
        if fault.status is None:
            raise
        said = fault.stderr.replace(str(copy), path.name)
        raise Fault(str(path), said or f"pppd ends with status {fault.status}") from fault


def _device(path: Path, text: str) -> str:
    for line in text.splitlines():
        if line.startswith(_NIC):
            return line.removeprefix(_NIC)
    raise Fault(str(path), f"names no device: there is no line {_NIC}DEVICE", "run `dmvpn apply`, which writes it")


def _play_card(device: str) -> bool:
    add = ("ip", "link", "add", device, "type")
    return any(process.run((*add, kind), timeout_s=LIMIT_S, accept=range(256)).status == 0 for kind in _ETHERNET)


def _play_ppp(directory: Path) -> None:
    """A /dev with what pppd opens before the session, whose ppp can be opened and nothing else."""
    directory.mkdir()
    for name in ("null", "ppp"):
        node = directory / name
        node.touch()
        namespaces.mount(str(NULL), node, flags=namespaces.MS_BIND)
    namespaces.mount(str(directory), DEV, flags=namespaces.MS_BIND | namespaces.MS_REC)


if __name__ == "__main__":
    sys.exit(verbs.run("dmvpn.linux.pppd_check", {"check": check}, sys.argv[1:]))
