"""`python -m dmvpn.linux.dhcpcd_check check FILE`: would dhcpcd take this dhcpcd.conf? dhcpcd(8) has no option to ask.

It passes over a line that it does not know, says so, and works without it: an address would be asked for that nobody
wrote. Asked for a lease (`-U`), it reads its configuration first, then looks for the dhcpcd that runs, and in a /run
of its own finds none.
"""

import sys
from pathlib import Path
from typing import Final

from dmvpn.errors import Fault
from dmvpn.linux import files, namespaces, process, verbs

PACKAGE: Final = "dhcpcd-base"
LIMIT_S: Final = 10.0
EMPTY: Final = Path("/dev/null")
RUN: Final = Path("/run")
_LIMIT_OCTETS: Final = 1 << 16


def check(path: Path) -> None:
    """Raises Fault for what dhcpcd says of it and does not say of an empty file.

    Enters a new mount namespace: only for a process that ends afterwards.
    """
    text = files.read(path, limit_octets=_LIMIT_OCTETS)
    namespaces.own_mounts()
    namespaces.mount("none", Path("/"), flags=namespaces.MS_REC | namespaces.MS_PRIVATE)
    namespaces.mount("tmpfs", RUN, "tmpfs", options="mode=0700")
    copy = RUN / path.name  # the staged tree may itself be below /run
    copy.write_bytes(text)
    always = set(_said(EMPTY))
    troubles = [line for line in _said(copy) if line not in always]
    if troubles:
        raise Fault(str(path), process.shown("\n".join(troubles).encode()))


def _said(path: Path) -> list[str]:
    argv = ("dhcpcd", "--config", str(path), "-U", "lo")
    said = process.run(argv, timeout_s=LIMIT_S, package=PACKAGE, accept=range(256)).stderr
    return said.decode(errors="replace").splitlines()


if __name__ == "__main__":
    sys.exit(verbs.run("dmvpn.linux.dhcpcd_check", {"check": check}, sys.argv[1:]))
